//! What PostgreSQL adds to the promises of every store: a server that has to be found, believed, shared, and that fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests, and what they are made of"
)]

mod failing_over;
mod following;
mod network;
#[path = "../support/postgres.rs"]
mod postgres_server;
#[path = "../support/proxy.rs"]
mod proxy;
mod reading;
mod samples;
mod starting;
mod sweeping;
mod thread_connections;
mod touching;
mod trouble;
mod verifying;
