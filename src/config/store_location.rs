//! A store named on the command line, beside the configured ones: where a copy comes from or goes to.

use super::{
    SecretFile,
    store_url::{POSTGRES_SCHEMES, REDIS_SCHEMES, StoreUrl},
};
use crate::store::{PostgresConfig, redis::RedisConfig};
use std::path::PathBuf;

/// A store to copy from or to.
#[derive(Debug, Clone)]
pub enum StoreLocation {
    /// An embedded store's data directory.
    Directory(PathBuf),
    /// A PostgreSQL database.
    Postgres(Box<PostgresConfig>),
    /// Sessions in Redis.
    Redis(Box<RedisConfig>),
}

impl StoreLocation {
    /// A directory, a URL, or `@FILE` for a URL that holds a password, in a file that nobody else can read.
    ///
    /// # Errors
    /// What is wrong with it, without quoting a URL.
    pub fn parse(text: &str) -> Result<Self, String> {
        let schemes = [POSTGRES_SCHEMES, REDIS_SCHEMES].concat();
        let url = match text.strip_prefix('@') {
            Some(file) => SecretFile::new(file).read(|text| StoreUrl::from_secret(text, &schemes))?,
            None if text.contains("://") => StoreUrl::from_open(text, &schemes, "@FILE")?,
            None => return Ok(Self::Directory(PathBuf::from(text))),
        };
        match url.has_scheme(POSTGRES_SCHEMES) {
            true => Ok(Self::Postgres(Box::new(PostgresConfig::new(url.to_postgres())))),
            false => Ok(Self::Redis(Box::new(url.to_redis()?))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_directory_or_a_url() {
        assert!(matches!(
            StoreLocation::parse("./data"),
            Ok(StoreLocation::Directory(_))
        ));
        assert!(matches!(
            StoreLocation::parse("postgres://db/app"),
            Ok(StoreLocation::Postgres(_))
        ));
        assert!(matches!(
            StoreLocation::parse("redis://localhost:6379"),
            Ok(StoreLocation::Redis(_))
        ));
        assert!(StoreLocation::parse("mysql://db").is_err());
    }

    #[test]
    fn s_97_a_password_on_the_command_line_is_refused_unquoted() {
        let reason = StoreLocation::parse("postgres://app:hunter2@db/app").unwrap_err();
        assert!(
            reason.contains("@FILE") && !reason.contains("hunter2"),
            "{reason}"
        );
    }
}
