//! The words of sessiond and the rules that hold for them, whatever store, transport or program they meet.
//!
//! Nothing here performs I/O or knows of another module of this crate.

mod email;
mod field;
mod id;
mod password;
mod revocation;
mod session;
mod time;
mod token;
mod user;

#[cfg(feature = "server")]
pub use email::EmailLookup;
pub use email::{Email, EmailKey};
pub use field::FieldViolation;
pub use id::{ChangeId, SessionId, UserId};
pub use password::{Password, PasswordHash};
pub use revocation::Revocation;
pub use session::{
    Attributes, AuthMethod, Client, LiveSession, Session, SessionLimits, SessionSpan, last_seen_slack,
};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
pub use token::{NoRandomness, RandomTokens, SessionToken, TokenDigest, TokenSource};
pub use user::{Names, Roles, User};
