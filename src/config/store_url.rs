//! Where a shared store is, and how to log in there: a URL that may hold a password.

use super::value::Value;
#[cfg(feature = "server")]
use crate::store::{PostgresUrl, redis::RedisConfig};
use std::fmt;
use zeroize::Zeroizing;

pub(super) const POSTGRES_SCHEMES: &[&str] = &["postgres", "postgresql"];

pub(super) const REDIS_SCHEMES: &[&str] = &[
    "redis",
    "rediss",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
];

/// Where users live, and sessions too unless they have a store of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StoreChoice {
    Memory,
    Embedded,
    Postgres(StoreUrl),
}

impl Value for StoreChoice {
    const KIND: &'static str = "STORE";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "memory" => Ok(Self::Memory),
            "embedded" => Ok(Self::Embedded),
            url if url.contains("://") => {
                StoreUrl::from_open(url, POSTGRES_SCHEMES, "store_url_file").map(Self::Postgres)
            }
            _ => Err("must be embedded, memory or a URL that begins with postgres://".to_owned()),
        }
    }
}

/// The URL of a Redis that stands where others can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RedisUrl(pub(super) StoreUrl);

impl Value for RedisUrl {
    const KIND: &'static str = "URL";

    fn parse(text: &str) -> Result<Self, String> {
        StoreUrl::from_open(text, REDIS_SCHEMES, "session_store_url_file").map(Self)
    }
}

/// The URL of a shared store. `Debug` shows nothing: it may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct StoreUrl(Zeroizing<String>);

impl StoreUrl {
    /// A URL that stood in a file of its own.
    pub(super) fn from_secret(text: &str, schemes: &[&str]) -> Result<Self, String> {
        let url = text.trim();
        match scheme_of(url).is_some_and(|scheme| schemes.contains(&scheme)) {
            true => Ok(Self(Zeroizing::new(url.to_owned()))),
            // Never quotes: what is no URL may still be a password.
            false => Err(format!("must be a URL that begins with {}", beginnings(schemes))),
        }
    }

    /// A URL that stood where others can read it: it must hold no password.
    pub(super) fn from_open(text: &str, schemes: &[&str], file_key: &str) -> Result<Self, String> {
        let url = Self::from_secret(text, schemes)?;
        match holds_password(text) {
            false => Ok(url),
            true => Err(format!(
                "holds a password, which others can read there: put the URL into a file that only you can read and name it with \
                 {file_key}"
            )),
        }
    }

    #[cfg(feature = "server")]
    pub(super) fn has_scheme(&self, schemes: &[&str]) -> bool {
        scheme_of(&self.0).is_some_and(|scheme| schemes.contains(&scheme))
    }

    #[cfg(feature = "server")]
    pub(super) fn to_postgres(&self) -> PostgresUrl {
        PostgresUrl::new(self.0.to_string())
    }

    /// The server of this URL, with defaults for everything else.
    #[cfg(feature = "server")]
    pub(super) fn to_redis(&self) -> Result<RedisConfig, String> {
        RedisConfig::new(&self.0).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreUrl(..)")
    }
}

fn scheme_of(url: &str) -> Option<&str> {
    url.split_once("://").map(|(scheme, _)| scheme)
}

fn beginnings(schemes: &[&str]) -> String {
    let beginnings: Vec<_> = schemes.iter().map(|scheme| format!("{scheme}://")).collect();
    beginnings.join(" or ")
}

/// Whether the URL holds a password: after a colon before the host, or as a parameter.
fn holds_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, query) = match rest.split_once('?') {
        Some((before, query)) => (before, query),
        None => (rest, ""),
    };
    // Up to the last @: an unescaped slash or @ in a password must not hide it.
    let has_userinfo_password = authority.rsplit_once('@').is_some_and(|(userinfo, _)| {
        userinfo
            .split_once(':')
            .is_some_and(|(_, password)| !password.is_empty())
    });
    let has_parameter = query.split('&').any(|parameter| {
        let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
        ["password", "pass", "sslpassword"]
            .iter()
            .any(|secret| name.eq_ignore_ascii_case(secret))
    });
    has_userinfo_password || has_parameter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_97_a_url_with_a_password_must_stand_in_a_file() {
        for url in [
            "postgres://app:hunter2@db/app",
            "postgres://:hunter2@db",
            "postgres://app:hun/ter@2@db/app",
            "postgres://db/app?user=app&password=hunter2",
            "postgres://db/app?PASSWORD=hunter2",
        ] {
            let reason = StoreUrl::from_open(url, POSTGRES_SCHEMES, "store_url_file").unwrap_err();
            assert!(reason.contains("store_url_file"), "{reason}");
            assert!(!reason.contains("hunter2"), "{reason}");
            assert!(StoreUrl::from_secret(url, POSTGRES_SCHEMES).is_ok());
        }
    }

    #[test]
    fn a_url_without_a_password_may_stand_anywhere() {
        for url in [
            "postgres://db/app",
            "postgresql://app@db:5432/app?sslmode=verify-full",
            "postgres://app:@db/app",
        ] {
            assert!(
                StoreUrl::from_open(url, POSTGRES_SCHEMES, "store_url_file").is_ok(),
                "{url}"
            );
        }
    }

    #[test]
    fn s_89_what_is_no_url_is_not_quoted() {
        let reason = StoreUrl::from_secret("hunter2\n", POSTGRES_SCHEMES).unwrap_err();
        assert_eq!(
            reason,
            "must be a URL that begins with postgres:// or postgresql://"
        );
        assert_eq!(
            format!(
                "{:?}",
                StoreUrl::from_secret("postgres://db", POSTGRES_SCHEMES).unwrap()
            ),
            "StoreUrl(..)"
        );
    }
}
