//! The service and its clients in one process, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the suite is test code, though the attribute that marks tests is on the functions that call it"
)]

mod client;
mod gateway;
mod grpc;
mod listener;
mod password_hashing;
