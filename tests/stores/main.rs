//! The stores: what every store promises, what each adds to that, and the sweeper that empties them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the suite is test code, though the attribute that marks tests is on the functions that call it"
)]

mod contract;
mod embedded;
mod embedded_crash;
mod old_data;
mod postgres;
#[path = "../support/postgres.rs"]
mod postgres_server;
#[path = "../support/proxy.rs"]
mod proxy;
mod redis;
#[path = "../support/redis.rs"]
mod redis_server;
mod sweeping;
