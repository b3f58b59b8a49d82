//! Where users and sessions live.

use super::{
    secret_file,
    setting::{AnySetting, Setting},
    settings::{self, StoreChoice},
    sources::Values,
    store_url::StoreUrl,
};
use crate::store::{
    PostgresConfig, PostgresUrl,
    redis::{InvalidRedisUrl, RedisConfig},
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

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
    /// Everything is taken before anything is found missing, so that every mistake is noted.
    pub(super) fn take(values: &mut Values) -> Option<Self> {
        let users = users(values);
        let sessions = sessions(values);
        Some(Self {
            users: users?,
            sessions: sessions?,
        })
    }
}

fn users(values: &mut Values) -> Option<UserStoreConfig> {
    let store = values.take(&settings::STORE);
    let data_dir = values.take(&settings::DATA_DIR);
    let check_connections = values.take(&settings::POSTGRES_CHECK_CONNECTIONS);
    let write_connections = values.take(&settings::POSTGRES_WRITE_CONNECTIONS);
    let statement_timeout = values.take(&settings::POSTGRES_STATEMENT_TIMEOUT);
    let lock_timeout = values.take(&settings::POSTGRES_LOCK_TIMEOUT);
    let is_store_given = values.is_set(&settings::STORE);
    let url = match (
        url_in_file(
            values,
            &settings::STORE_URL_FILE,
            is_store_given,
            settings::POSTGRES_SCHEMES,
        )?,
        store?,
    ) {
        (Some(url), _) | (None, StoreChoice::Postgres(url)) => url,
        (None, StoreChoice::Memory) => return Some(UserStoreConfig::Memory),
        (None, StoreChoice::Embedded) => return Some(UserStoreConfig::Embedded(data_dir?)),
    };
    let statement_timeout = statement_timeout?;
    Some(UserStoreConfig::Postgres(Box::new(PostgresConfig {
        check_connections: u16::try_from(check_connections?).ok()?,
        write_connections: u16::try_from(write_connections?).ok()?,
        statement_timeout,
        call_timeout: statement_timeout + POSTGRES_MARGIN,
        lock_timeout: lock_timeout?,
        ..PostgresConfig::new(PostgresUrl::new(url.expose().to_owned()))
    })))
}

/// The store for sessions alone, if there is one.
fn sessions(values: &mut Values) -> Option<Option<RedisConfig>> {
    let url = values.take(&settings::SESSION_STORE);
    let prefix = values.take(&settings::REDIS_PREFIX);
    let connections = values.take(&settings::REDIS_CONNECTIONS);
    let timeout = values.take(&settings::REDIS_TIMEOUT);
    let strict_replicas = values.take(&settings::REDIS_STRICT_REPLICAS);
    let accept_eviction = values.take(&settings::DANGER_REDIS_EVICTION);
    let root_certificates = root_certificates(values);
    let is_url_given = matches!(url, Some(Some(_)));
    let in_file = url_in_file(
        values,
        &settings::SESSION_STORE_URL_FILE,
        is_url_given,
        settings::REDIS_SCHEMES,
    )?;
    let (given_by, url): (&dyn AnySetting, _) = match (in_file, url?) {
        (Some(url), _) => (&settings::SESSION_STORE_URL_FILE, url),
        (None, Some(url)) => (&settings::SESSION_STORE, url),
        (None, None) => return Some(None),
    };
    let mut config = match RedisConfig::new(url.expose()) {
        Ok(config) => config,
        Err(error @ InvalidRedisUrl) => {
            values.reject_value(given_by, &error.to_string());
            return None;
        }
    };
    config.prefix = prefix?;
    config.connections = connections?.get();
    config.timeout = timeout?;
    config.strict_replicas = strict_replicas?;
    config.accept_eviction = accept_eviction?;
    config.root_certificates = root_certificates?;
    Some(Some(config))
}

/// The URL in the file that a setting names, if it names one.
fn url_in_file(
    values: &mut Values,
    setting: &Setting<Option<PathBuf>>,
    is_given_elsewhere: bool,
    schemes: &[&str],
) -> Option<Option<StoreUrl>> {
    let Some(path) = values.take(setting)? else {
        return Some(None);
    };
    if is_given_elsewhere {
        values.reject_value(setting, "cannot be given together with the URL itself");
    }
    let read = |path: &Path| {
        let text = secret_file::read(path)?;
        StoreUrl::from_secret(&text, schemes)
            .map_err(|rule| format!("names {}, which {rule}", path.display()))
    };
    match read(&path) {
        Ok(url) => Some(Some(url)),
        Err(reason) => {
            values.reject_value(setting, &reason);
            None
        }
    }
}

fn root_certificates(values: &mut Values) -> Option<Option<Vec<u8>>> {
    let Some(path) = values.take(&settings::REDIS_ROOT_CERTIFICATES)? else {
        return Some(None);
    };
    match fs::read(&path) {
        Ok(certificates) => Some(Some(certificates)),
        Err(error) => {
            let reason = format!("names {}, which cannot be read: {error}", path.display());
            values.reject_value(&settings::REDIS_ROOT_CERTIFICATES, &reason);
            None
        }
    }
}
