//! The gateway over real sockets, in front of the real service over the memory store.

mod basic_auth;
mod client_address;
mod cookies;
mod cross_site;
mod failures;
mod headers;

mod input;
pub(crate) mod logs;
mod my_sessions;
mod scripted;
mod stage;
mod transcripts;
mod users;
mod wire;
