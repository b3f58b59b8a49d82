//! Opens the stores that the configuration names.

use crate::Failure;
use sessiond::{
    config::{StoresConfig, UserStoreConfig},
    domain::Timestamp,
    store::{
        EmbeddedStore, MemoryStore, PostgresConfig, PostgresStore, SessionStore, UserStore,
        redis::{RedisConfig, RedisStore},
    },
};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{task::spawn_blocking, time::timeout};

/// How long the disk may take for the last writes. Only when sessions were last seen is among them.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The stores of one process.
pub(crate) struct OpenStores {
    pub(crate) users: Arc<dyn UserStore>,
    pub(crate) sessions: Arc<dyn SessionStore>,
    /// The last instant that a former process of these stores is known to have reached.
    pub(crate) known_until: Option<Timestamp>,
    /// Where users and sessions live, for people; never with a password.
    pub(crate) location: String,
    embedded: Option<Arc<EmbeddedStore>>,
}

impl OpenStores {
    fn both(store: Arc<impl UserStore + SessionStore>, location: impl Into<String>) -> Self {
        Self {
            users: store.clone(),
            sessions: store,
            known_until: None,
            location: location.into(),
            embedded: None,
        }
    }

    /// Writes what is still in memory, and closes: every later operation fails.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        if let Some(store) = self.embedded {
            let closing = spawn_blocking(move || store.close());
            timeout(CLOSE_TIMEOUT, closing).await.map_err(
                |_| "the disk does not take the last writes; nothing that was acknowledged is lost",
            )??;
        }
        Ok(())
    }
}

/// Opens the stores, after bringing their schema up to date.
pub(crate) async fn open(config: &StoresConfig) -> Result<OpenStores, Failure> {
    let opened = match &config.users {
        UserStoreConfig::Memory => {
            OpenStores::both(Arc::new(MemoryStore::new()), "in memory, gone with this process")
        }
        UserStoreConfig::Embedded(data_dir) => embedded(data_dir).await?,
        UserStoreConfig::Postgres(config) => postgres(config).await?,
    };
    match &config.sessions {
        Some(config) => with_sessions_in(config, opened).await,
        None => Ok(opened),
    }
}

/// Brings the stores' schema up to date, and says where they are.
pub(crate) async fn migrate(config: &StoresConfig) -> Result<String, Failure> {
    match &config.users {
        // Sessions alone need no schema, and other processes may be serving.
        UserStoreConfig::Postgres(config) => {
            PostgresStore::migrate(config).await?;
            Ok("in PostgreSQL".to_owned())
        }
        UserStoreConfig::Memory | UserStoreConfig::Embedded(_) => {
            let users_only = StoresConfig {
                users: config.users.clone(),
                sessions: None,
            };
            let opened = open(&users_only).await?;
            let location = opened.location.clone();
            opened.close().await?;
            Ok(location)
        }
    }
}

async fn embedded(data_dir: &Path) -> Result<OpenStores, Failure> {
    let path = data_dir.to_owned();
    let store = Arc::new(spawn_blocking(move || EmbeddedStore::open(&path)).await??);
    Ok(OpenStores {
        known_until: store.clock_high_water(),
        embedded: Some(Arc::clone(&store)),
        ..OpenStores::both(store, format!("in the directory {}", data_dir.display()))
    })
}

async fn postgres(config: &PostgresConfig) -> Result<OpenStores, Failure> {
    let store = PostgresStore::connect(config.clone()).await?;
    Ok(OpenStores::both(Arc::new(store), "in PostgreSQL"))
}

async fn with_sessions_in(config: &RedisConfig, opened: OpenStores) -> Result<OpenStores, Failure> {
    let store = RedisStore::connect(config.clone()).await?;
    for sentence in store.durability().sentences() {
        match store.durability().is_lossy() {
            true => tracing::warn!(event = "redis_durability", "{sentence}"),
            false => tracing::info!(event = "redis_durability", "{sentence}"),
        }
    }
    Ok(OpenStores {
        sessions: Arc::new(store),
        location: format!("{}, and sessions in Redis", opened.location),
        ..opened
    })
}
