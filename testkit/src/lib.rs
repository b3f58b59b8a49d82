//! What the tests and the benchmarks share.
//!
//! - Servers that are started for a test and gone with it: [`postgres`], [`redis`]; and stores on them: [`stores`].
//! - The programs under test as processes: [`process`]; the service inside the test's own process: [`service`].
//! - What goes wrong: a network that misbehaves ([`proxy`]), a wall clock that can be set ([`wall_clock`]).
//! - Sessions and users to put into a store: [`samples`]. How to wait for what happens: [`waiting`].

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
pub mod samples;
pub mod service;
pub mod stores;
pub mod waiting;
pub mod wall_clock;
