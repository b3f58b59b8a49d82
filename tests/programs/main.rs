//! The built programs as an operator sees them: output, exit codes, signals; and their configuration.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod built;
mod cli;
mod commands;
mod config;
mod configuration;
mod data_directory;
mod emails;
mod external_clients;
mod memory;
mod metrics;
mod out_of_descriptors;
mod reloading;
mod secrets;
mod serving;
mod shared_stores;
mod stopping;
mod two_stores;
