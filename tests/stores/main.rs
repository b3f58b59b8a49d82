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
mod redis;
mod sweeping;
