//! The client: against a server that a test scripts, where the order of events matters; and against the service itself.

mod caching;
mod examples;
mod failing;
mod guarding;
mod real_service;
mod reporting;
mod revoking;
mod scripted;
mod sharing;
