//! sessiond: a session-authentication service. It answers one question: whose session is this?
//!
//! The modules, in the order in which a request meets them; `ARCHITECTURE.md` tells the story.

pub mod pb;

#[cfg(feature = "client")]
pub mod contract;

#[cfg(feature = "gateway")]
pub mod gateway;

#[cfg(feature = "client")]
pub mod client;

#[cfg(any(feature = "server", feature = "gateway"))]
pub mod listener;

#[cfg(feature = "server")]
pub mod grpc;

#[cfg(feature = "server")]
pub mod auth;

#[cfg(feature = "server")]
pub mod password;

#[cfg(feature = "server")]
pub mod store;

#[cfg(feature = "server")]
pub mod sweeper;

#[cfg(feature = "server")]
pub mod metrics;

pub mod domain;

pub mod error_chain;

#[cfg(feature = "client")]
mod jitter;

#[cfg(feature = "gateway")]
pub mod config;

#[cfg(feature = "gateway")]
pub mod telemetry;

#[cfg(any(feature = "server", feature = "gateway"))]
pub mod shutdown;
