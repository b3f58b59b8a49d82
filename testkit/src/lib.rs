//! What the tests and the benchmarks share.
//!
//! Servers that are started for a test and gone with it ([`postgres`], [`redis`]), the programs under test as processes
//! ([`process`]), a network that misbehaves ([`proxy`]), and a wall clock that can be set ([`wall_clock`]).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod wall_clock;
