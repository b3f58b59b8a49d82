//! What Redis adds to the promises of every store: a server that has to be found, believed and shared, that forgets, and that fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests, and what they are made of"
)]

mod failover;
mod keys;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/redis.rs"]
mod redis_server;
mod samples;
mod starting;
mod thread_connections;
mod trouble;
mod unfinished;
mod verifying;
