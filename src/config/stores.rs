//! Where users and sessions live.

use super::{
    settings::Settings,
    sources::Values,
    store_url::{POSTGRES_SCHEMES, REDIS_SCHEMES, RedisUrl, StoreChoice, StoreUrl},
    value::Whole,
};
use crate::store::{PostgresConfig, redis::RedisConfig};
use std::{fs, path::PathBuf, time::Duration};

/// Where users and sessions live.
#[derive(Debug, Clone)]
pub struct StoresConfig {
    /// Users, and sessions too unless they have a store of their own.
    pub users: UserStoreConfig,
    /// A store for sessions alone.
    pub sessions: Option<RedisConfig>,
}

/// Where users live.
#[derive(Debug, Clone)]
pub enum UserStoreConfig {
    /// In this process's memory.
    Memory,
    /// In files in this directory.
    Embedded(PathBuf),
    /// In a PostgreSQL database.
    Postgres(Box<PostgresConfig>),
}

/// What is left to a call after PostgreSQL has broken its statement off: the way there and back.
const POSTGRES_MARGIN: Duration = Duration::from_millis(300);

impl StoresConfig {
    pub(super) fn new(settings: &Settings, values: &mut Values) -> Self {
        Self {
            users: users(settings, values),
            sessions: sessions(settings, values),
        }
    }
}

fn users(settings: &Settings, values: &mut Values) -> UserStoreConfig {
    let in_file = settings
        .store_url_file
        .read(values, |text| StoreUrl::from_secret(text, POSTGRES_SCHEMES));
    if settings.store.is_set() && settings.store_url_file.is_some() {
        values.reject(&settings.store_url_file, GIVEN_TWICE);
    }
    let url = match (in_file, &*settings.store) {
        (Some(url), _) => url,
        (None, StoreChoice::Postgres(url)) => url.clone(),
        (None, StoreChoice::Memory) => return UserStoreConfig::Memory,
        (None, StoreChoice::Embedded) => return UserStoreConfig::Embedded(settings.data_dir.clone()),
    };
    UserStoreConfig::Postgres(Box::new(PostgresConfig {
        check_connections: connections(*settings.postgres_check_connections),
        write_connections: connections(*settings.postgres_write_connections),
        statement_timeout: *settings.postgres_statement_timeout,
        call_timeout: *settings.postgres_statement_timeout + POSTGRES_MARGIN,
        lock_timeout: *settings.postgres_lock_timeout,
        ..PostgresConfig::new(url.to_postgres())
    }))
}

fn connections(number: Whole<1, 1000>) -> u16 {
    u16::try_from(number.0).unwrap_or(u16::MAX)
}

/// The store for sessions alone, if there is one.
fn sessions(settings: &Settings, values: &mut Values) -> Option<RedisConfig> {
    let in_file = settings.session_store_url_file.read(values, |text| {
        StoreUrl::from_secret(text, REDIS_SCHEMES)?.to_redis()
    });
    let open = settings.session_store.as_ref();
    if open.is_some() && settings.session_store_url_file.is_some() {
        values.reject(&settings.session_store_url_file, GIVEN_TWICE);
    }
    let mut config = match (in_file, open.map(|RedisUrl(url)| url.to_redis())) {
        (Some(config), _) | (None, Some(Ok(config))) => config,
        (None, None) => return None,
        (None, Some(Err(reason))) => {
            values.reject(&settings.session_store, &reason);
            return None;
        }
    };
    config.prefix.clone_from(&settings.redis_prefix);
    config.connections = settings.redis_connections.get();
    config.timeout = *settings.redis_timeout;
    config.strict_replicas = settings.redis_strict_replicas.map(|replicas| replicas.0);
    config.accept_eviction = *settings.danger_redis_eviction;
    config.root_certificates = root_certificates(settings, values);
    Some(config)
}

const GIVEN_TWICE: &str = "cannot be given together with the URL itself";

fn root_certificates(settings: &Settings, values: &mut Values) -> Option<Vec<u8>> {
    let path = settings.redis_root_certificates.as_ref()?;
    match fs::read(path) {
        Ok(certificates) => {
            values.note_content(&settings.redis_root_certificates, &certificates);
            Some(certificates)
        }
        Err(error) => {
            let reason = format!("names {}, which cannot be read: {error}", path.display());
            values.reject(&settings.redis_root_certificates, &reason);
            None
        }
    }
}
