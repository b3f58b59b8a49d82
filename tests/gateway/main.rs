//! The gateway over real sockets, in front of the real service over the memory store.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod basic_auth;
mod client_address;
mod cookies;
mod cross_site;
mod failures;
mod headers;

mod input;
mod logs;
mod my_sessions;
mod scripted;
mod stage;
mod transcripts;
mod users;
mod wire;
