//! Which Redis to use, and how.

use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, TlsCertificates,
    io::tcp::TcpSettings,
};
use std::{fmt, time::Duration};

/// Which Redis to use, and how.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    pub(super) server: Server,
    /// What every key begins with. Deployments that share a server need different ones. At most 64 characters out of
    /// `a-z A-Z 0-9 . _ : / -`.
    pub prefix: String,
    /// Connections to the server, or to each node of a Cluster, that all share, beside one for each single-threaded runtime that
    /// asks (64 at most); each carries any number of requests at once. At least 1.
    pub connections: usize,
    /// How long an operation waits for Redis before it fails.
    pub timeout: Duration,
    /// How many replicas must have a write before it is acknowledged; without so many an operation fails. `None` waits for none.
    pub strict_replicas: Option<u32>,
    /// Whether a server that may drop sessions when its memory is full is used all the same.
    pub accept_eviction: bool,
    /// PEM certificates to trust instead of the system's, for `rediss` URLs.
    pub root_certificates: Option<Vec<u8>>,
}

impl RedisConfig {
    /// The server of this URL, with defaults for everything else:
    ///
    /// - `redis://[[user]:password@]host[:port][/db]`: one server;
    /// - `redis+sentinel://[[user]:password@]host[:port],host[:port]/service[/db]`: the primary that these Sentinels name;
    /// - `redis+cluster://[[user]:password@]host[:port],host[:port]`: the Cluster of which these are nodes.
    ///
    /// `rediss` instead of `redis` means TLS, with the server's certificate and name checked; there is no way to leave that out.
    /// The password is the servers'; Sentinels are asked without one.
    ///
    /// # Errors
    /// [`InvalidRedisUrl`], which quotes nothing of the URL.
    pub fn new(url: &str) -> Result<Self, InvalidRedisUrl> {
        Ok(Self {
            server: Server::from_url(url).ok_or(InvalidRedisUrl)?,
            prefix: "sessiond:".into(),
            connections: 2,
            timeout: Duration::from_millis(1500),
            strict_replicas: None,
            accept_eviction: false,
            root_certificates: None,
        })
    }

    pub(super) fn has_valid_prefix(&self) -> bool {
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
        self.prefix.len() <= 64 && self.prefix.bytes().all(is_name_byte)
    }

    pub(super) fn certificates(&self) -> TlsCertificates {
        TlsCertificates {
            client_tls: None,
            root_cert: self.root_certificates.clone(),
        }
    }
}

/// The text is no URL of a Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be redis://host:port, redis+sentinel://host:port,…/service or redis+cluster://host:port,… \
     (rediss for TLS), without query or fragment"
)]
pub struct InvalidRedisUrl;

/// How the server is found. `Debug` shows no user and no password.
#[derive(Clone)]
pub(super) enum Server {
    Single(ConnectionInfo),
    Sentinels {
        addrs: Vec<ConnectionAddr>,
        service: String,
        credentials: RedisConnectionInfo,
    },
    Cluster(Vec<ConnectionInfo>),
}

impl Server {
    fn from_url(url: &str) -> Option<Self> {
        // A fragment could switch the check of certificates off, a query could choose another protocol.
        if url.contains(['#', '?']) {
            return None;
        }
        let (scheme, rest) = url.split_once("://")?;
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !matches!(base, "redis" | "rediss") {
            return None;
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (format!("{credentials}@"), hosts),
            None => (String::new(), authority),
        };
        let (service, db) = match kind {
            "sentinel" => path.split_once('/').unwrap_or((path, "")),
            _ => ("", path),
        };
        let mut nodes = hosts.split(',').map(|host| {
            let port = match kind == "sentinel" && !has_port(host) {
                true => ":26379",
                false => "",
            };
            if host.is_empty() {
                return None;
            }
            let info = format!("{base}://{credentials}{host}{port}/{db}").into_connection_info();
            Some(info.ok()?.set_tcp_settings(tcp_settings()))
        });
        match kind {
            "" => {
                let only = nodes.next()??;
                nodes.next().is_none().then_some(Self::Single(only))
            }
            "sentinel" if !service.is_empty() => {
                let nodes = nodes.collect::<Option<Vec<_>>>()?;
                Some(Self::Sentinels {
                    credentials: nodes.first()?.redis_settings().clone(),
                    addrs: nodes.into_iter().map(|node| node.addr().clone()).collect(),
                    service: service.to_owned(),
                })
            }
            // A Cluster has one database.
            "cluster" if db.is_empty() => Some(Self::Cluster(nodes.collect::<Option<Vec<_>>>()?)),
            _ => None,
        }
    }
}

fn has_port(host: &str) -> bool {
    // The colons of an IPv6 address are inside brackets.
    host.rsplit(']').next().is_some_and(|end| end.contains(':'))
}

pub(super) fn tcp_settings() -> TcpSettings {
    // A request waits for nothing that could fill its packet.
    TcpSettings::default().set_nodelay(true)
}

/// The addresses that the configuration names.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = match self {
            Self::Single(node) => vec![node.addr().to_string()],
            Self::Sentinels { addrs, .. } => addrs.iter().map(ToString::to_string).collect(),
            Self::Cluster(nodes) => nodes.iter().map(|node| node.addr().to_string()).collect(),
        };
        f.write_str(&addresses.join(", "))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        match self {
            Self::Single(node) => list.entry(&node.addr().to_string()),
            Self::Sentinels { addrs, .. } => list.entries(addrs.iter().map(ToString::to_string)),
            Self::Cluster(nodes) => list.entries(nodes.iter().map(|node| node.addr().to_string())),
        };
        list.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debug(url: &str) -> String {
        format!("{:?}", RedisConfig::new(url).unwrap().server)
    }

    #[test]
    fn every_form_of_url_is_understood() {
        assert_eq!(debug("redis://localhost"), r#"["localhost:6379"]"#);
        assert_eq!(
            debug("rediss://db.example.org:7000/2"),
            r#"["db.example.org:7000"]"#
        );
        assert_eq!(
            debug("redis+sentinel://a,b:7001,[::1]/main/3"),
            r#"["a:26379", "b:7001", "::1:26379"]"#
        );
        assert_eq!(debug("rediss+cluster://a:7000,b"), r#"["a:7000", "b:6379"]"#);
        let Server::Sentinels {
            service, credentials, ..
        } = RedisConfig::new("redis+sentinel://me:s%40crt@a/main/3")
            .unwrap()
            .server
        else {
            panic!("must be Sentinels");
        };
        assert_eq!((service.as_str(), credentials.db()), ("main", 3));
        assert_eq!(credentials.username(), Some("me"));
        assert_eq!(credentials.password(), Some("s@crt"));
    }

    #[test]
    fn what_is_no_url_of_a_redis_is_refused() {
        for url in [
            "",
            "localhost",
            "http://localhost",
            "redis://",
            "redis://a,b",
            "redis+sentinel://a",
            "redis+sentinel://a,,b/main",
            "redis+cluster://a/1",
            "redis+other://a",
            "redis://a/x",
        ] {
            assert!(RedisConfig::new(url).is_err(), "{url}");
        }
    }

    #[test]
    fn s_73_the_check_of_certificates_cannot_be_switched_off() {
        assert!(RedisConfig::new("rediss://localhost/#insecure").is_err());
        assert!(RedisConfig::new("rediss+cluster://localhost#insecure").is_err());
    }

    #[test]
    fn s_89_debug_shows_no_password() {
        for url in [
            "redis://me:hunter2@a",
            "redis+sentinel://me:hunter2@a/main",
            "redis+cluster://me:hunter2@a,b",
        ] {
            let config = RedisConfig::new(url).unwrap();
            assert!(!format!("{config:?}").contains("hunter2"));
        }
        assert!(!InvalidRedisUrl.to_string().contains("hunter2"));
    }
}
