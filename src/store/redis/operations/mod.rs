//! The operations of a store of sessions. Each is a sequence of calls; what it may leave unfinished, and what it meets unfinished, is
//! for [`recovery`](super::recovery). No operation uses another.

pub(super) mod create;
pub(super) mod read;
pub(super) mod revocation_log;
pub(super) mod revoke;
pub(super) mod rotate;
pub(super) mod sweep;
pub(super) mod touch;

use super::{protocol::Database, recovery::Recovery};
use std::sync::Arc;

/// What operations work with.
#[derive(Clone)]
pub(super) struct Context {
    pub db: Arc<Database>,
    pub recovery: Arc<Recovery>,
}
