//! How each store is opened for one test.

use crate::opened::Opened;
use sessiond::store::{MemoryStore, SessionStore, UserStore};
use std::sync::Arc;

pub(crate) async fn memory_users() -> Opened<dyn UserStore> {
    Opened::alone(Arc::new(MemoryStore::new()))
}

pub(crate) async fn memory_sessions() -> Opened<dyn SessionStore> {
    Opened::alone(Arc::new(MemoryStore::new()))
}
