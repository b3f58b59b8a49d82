//! The memory store.

use super::super::opened::Opened;
use sessiond::store::{MemoryStore, SessionStore, UserStore};
use std::sync::Arc;

pub(crate) async fn users() -> Opened<dyn UserStore> {
    Opened::alone(Arc::new(MemoryStore::new()))
}

pub(crate) async fn sessions() -> Opened<dyn SessionStore> {
    Opened::alone(Arc::new(MemoryStore::new()))
}
