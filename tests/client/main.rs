//! The client: against a server that a test scripts, where the order of events matters; and against the service itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the suite is test code, though the attribute that marks tests is on functions that call helpers"
)]

mod examples;
mod failing;
mod guarding;
mod real_service;
mod remembering;
mod reporting;
mod revoking;
mod scripted;
mod sharing;
