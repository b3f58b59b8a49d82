//! Opens the stores that the configuration names.

use crate::Failure;
use sessiond::{
    config::{StoresConfig, UserStoreConfig},
    domain::Timestamp,
    store::{EmbeddedStore, MemoryStore, SessionStore, UserStore},
};
use std::{path::Path, sync::Arc};
use tokio::task::spawn_blocking;

/// The stores of one process.
pub(crate) struct Opened {
    pub(crate) users: Arc<dyn UserStore>,
    pub(crate) sessions: Arc<dyn SessionStore>,
    /// The last instant that a former process of these stores is known to have reached.
    pub(crate) known_until: Option<Timestamp>,
    /// Where they are, for people; never with a password.
    pub(crate) description: String,
    embedded: Option<Arc<EmbeddedStore>>,
}

impl Opened {
    /// Writes down what is not yet. Whatever is asked of the stores afterwards fails.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        if let Some(store) = self.embedded {
            spawn_blocking(move || store.close()).await?;
        }
        Ok(())
    }
}

/// Opens the stores, after bringing their schema up to date.
pub(crate) async fn open(config: &StoresConfig) -> Result<Opened, Failure> {
    if config.sessions.is_some() {
        return Err("this build keeps sessions with the users only".into());
    }
    match &config.users {
        UserStoreConfig::Memory => Ok(memory()),
        UserStoreConfig::Embedded(data_dir) => embedded(data_dir).await,
        UserStoreConfig::Postgres(_) => Err("this build knows the embedded and the memory store only".into()),
    }
}

fn memory() -> Opened {
    let store = Arc::new(MemoryStore::new());
    Opened {
        users: store.clone(),
        sessions: store,
        known_until: None,
        description: "in memory, gone with this process".to_owned(),
        embedded: None,
    }
}

async fn embedded(data_dir: &Path) -> Result<Opened, Failure> {
    let path = data_dir.to_owned();
    let store = Arc::new(spawn_blocking(move || EmbeddedStore::open(&path)).await??);
    Ok(Opened {
        users: store.clone(),
        sessions: store.clone(),
        known_until: store.clock_high_water(),
        description: format!("in the directory {}", data_dir.display()),
        embedded: Some(store),
    })
}
