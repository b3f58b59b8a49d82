//! The built programs, driven by clients that nobody here wrote: grpcurl, buf, Python's grpcio, and curl with a cookie jar.
//!
//! `scripts/test tools` installs them. A tool that is missing fails its test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the suite is test code, though the attribute that marks tests is on the functions that call it"
)]

mod clients;
mod programs;
mod readme;
mod tools;
mod transcript;
mod welcome;
