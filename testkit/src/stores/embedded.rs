//! The embedded store, in a directory of its own.

use super::Opened;
use sessiond::store::{EmbeddedStore, SessionStore, UserStore};
use std::sync::Arc;

fn open() -> (Arc<EmbeddedStore>, tempfile::TempDir) {
    let data_dir = tempfile::tempdir().unwrap();
    (Arc::new(EmbeddedStore::open(data_dir.path()).unwrap()), data_dir)
}

/// A store of users.
pub async fn users() -> Opened<dyn UserStore> {
    let (store, data_dir) = open();
    let mut opened = Opened::<dyn UserStore>::alone(store);
    opened._keeps.push(Box::new(data_dir));
    opened
}

/// A store of sessions.
pub async fn sessions() -> Opened<dyn SessionStore> {
    let (store, data_dir) = open();
    let mut opened = Opened::<dyn SessionStore>::alone(store);
    opened._keeps.push(Box::new(data_dir));
    opened
}
