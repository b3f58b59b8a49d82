//! Opens the stores that the configuration names.

use crate::Failure;
use sessiond::{
    config::{StoresConfig, UserStoreConfig},
    domain::Timestamp,
    store::{MemoryStore, SessionStore, UserStore},
};
use std::sync::Arc;

/// The stores of one process.
pub(crate) struct Opened {
    pub(crate) users: Arc<dyn UserStore>,
    pub(crate) sessions: Arc<dyn SessionStore>,
    /// The last instant that a former process of these stores is known to have reached.
    pub(crate) known_until: Option<Timestamp>,
    /// Where they are, for people; never with a password.
    pub(crate) description: String,
}

/// Opens the stores, after bringing their schema up to date.
pub(crate) async fn open(config: &StoresConfig) -> Result<Opened, Failure> {
    let opened = match &config.users {
        UserStoreConfig::Memory => {
            let store = Arc::new(MemoryStore::new());
            Opened {
                users: store.clone(),
                sessions: store,
                known_until: None,
                description: "memory: it ends with this process".to_owned(),
            }
        }
        UserStoreConfig::Embedded(_) | UserStoreConfig::Postgres(_) => {
            return Err("this build knows the memory store only".into());
        }
    };
    if config.sessions.is_some() {
        return Err("this build keeps sessions with the users only".into());
    }
    Ok(opened)
}
