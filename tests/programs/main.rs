//! The built programs, as whoever runs them sees them: output, exit codes, signals.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod cli;
mod commands;
mod configuration;
mod data_directory;
mod metrics;
mod running;
mod secrets;
mod serving;
mod shared_stores;
mod stopping;
