//! The memory store.

use super::Opened;
use sessiond::store::{MemoryStore, SessionStore, UserStore};
use std::sync::Arc;

/// A store of users.
pub async fn users() -> Opened<dyn UserStore> {
    Opened::alone(Arc::new(MemoryStore::new()))
}

/// A store of sessions.
pub async fn sessions() -> Opened<dyn SessionStore> {
    Opened::alone(Arc::new(MemoryStore::new()))
}
