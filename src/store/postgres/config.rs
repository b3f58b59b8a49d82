//! Where the PostgreSQL server is, and how long sessiond is patient with it.

use super::tls::{self, Tls};
use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};
use tokio_postgres::config::{Config, Host, SslMode, TargetSessionAttrs};
use zeroize::Zeroizing;

/// Where the server is and who sessiond is there: `postgres://user:password@host/database`.
///
/// `sslmode` is `verify-full` unless the URL says otherwise or every host is this machine. What merely encrypts would do so with
/// whoever answers, so `require` and `verify-ca` check as much as `verify-full`, and `prefer` and `allow` are refused.
/// `sslrootcert` names a file of certificates to trust instead of the system's.
///
/// `Debug` shows nothing: the text may hold a password.
#[derive(Clone)]
pub struct PostgresUrl(Zeroizing<String>);

impl PostgresUrl {
    /// Takes the text over. Whether it is a URL is found out when it is used.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresUrl(..)")
    }
}

/// What a [`PostgresStore`](super::PostgresStore) needs to know.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// The server.
    pub url: PostgresUrl,
    /// Connections that checks share, beside one for each single-threaded runtime that makes any (16 at most). Requests follow one
    /// another on each without waiting for answers, so a few are enough.
    pub check_connections: u16,
    /// Connections for everything else, each for one statement at a time.
    pub write_connections: u16,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// How long a call may take in all. A connection that keeps a call waiting longer is given up.
    pub call_timeout: Duration,
    /// After how long the server breaks a statement off. Less than `call_timeout`, so that a slow statement costs no connection.
    pub statement_timeout: Duration,
    /// After how long the server breaks off a wait for a lock.
    pub lock_timeout: Duration,
}

impl PostgresConfig {
    /// The server at `url`, with 3 shared connections for checks, 8 for the rest, and 2 that every store has: for what looks at all
    /// sessions, and for the log of revocations. A call fails within 1.5 s, a count within 4.5 s.
    #[must_use]
    pub fn new(url: PostgresUrl) -> Self {
        Self {
            url,
            check_connections: 3,
            write_connections: 8,
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_millis(1500),
            statement_timeout: Duration::from_millis(1200),
            lock_timeout: Duration::from_millis(1000),
        }
    }
}

/// The URL names no server that sessiond would talk to. Quotes nothing of the URL.
#[derive(Debug, thiserror::Error)]
#[error("the PostgreSQL URL {rule}")]
pub struct InvalidPostgresUrl {
    rule: &'static str,
}

/// What the URL says about encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encryption {
    Off,
    Verified,
    /// Nothing: off on this machine, verified elsewhere.
    Unsaid,
}

/// The driver's configuration and the encryption that the URL asks for.
pub(super) fn target(
    url: &PostgresUrl,
    connect_timeout: Duration,
) -> Result<(Config, Tls), super::PostgresConnectError> {
    let invalid = |rule| InvalidPostgresUrl { rule };
    let text = url.0.as_str();
    if !(text.starts_with("postgres://") || text.starts_with("postgresql://")) {
        return Err(invalid("must start with postgres://").into());
    }
    // A password ends where the driver says that it does: at the first @.
    let credentials = text.find('@').map_or(0, |at| at + 1);
    let options = text[credentials..]
        .find('?')
        .map_or(text.len(), |at| credentials + at);
    let (address, query) = text.split_at(options);
    let mut encryption = Encryption::Unsaid;
    let mut roots = None;
    let mut rest = Zeroizing::new(format!("{address}?"));
    for option in query
        .trim_start_matches('?')
        .split('&')
        .filter(|option| !option.is_empty())
    {
        match option.split_once('=') {
            Some(("sslmode", "disable")) => encryption = Encryption::Off,
            Some(("sslmode", "require" | "verify-ca" | "verify-full")) => encryption = Encryption::Verified,
            Some(("sslmode", _)) => {
                return Err(invalid("must have sslmode=disable or sslmode=verify-full, or none").into());
            }
            Some(("sslrootcert", path)) => roots = Some(PathBuf::from(percent_decoded(path))),
            Some(("target_session_attrs", _)) => {
                return Err(
                    invalid("must not have target_session_attrs: only a primary is ever asked").into(),
                );
            }
            Some(_) | None => {
                rest.push_str(option);
                rest.push('&');
            }
        }
    }
    // The driver's error could quote a part of the password.
    let Ok(mut config) = rest.trim_end_matches(['?', '&']).parse::<Config>() else {
        return Err(invalid("is not one that PostgreSQL understands").into());
    };
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(invalid("must name a host").into());
    }
    let is_verified = match encryption {
        Encryption::Off => false,
        Encryption::Verified => true,
        Encryption::Unsaid => !is_on_this_machine(&config) || roots.is_some(),
    };
    if is_verified && config.get_hosts().is_empty() {
        return Err(invalid("must name a host, against which its certificate is checked").into());
    }
    if !is_verified && !is_on_this_machine(&config) {
        tracing::warn!("the connection to PostgreSQL is not encrypted: sslmode=disable");
    }
    config
        .ssl_mode(if is_verified {
            SslMode::Require
        } else {
            SslMode::Disable
        })
        // A standby lags behind: it would find sessions that were ended.
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .connect_timeout(connect_timeout)
        // A peer that vanishes is noticed also while nobody asks it anything.
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(10));
    if config.get_application_name().is_none() {
        config.application_name("sessiond");
    }
    let tls = if is_verified {
        tls::verified(roots.as_deref())?
    } else {
        Tls::Off
    };
    Ok((config, tls))
}

/// Whether everything that the driver may connect to is this machine. An address overrules the name that stands beside it.
fn is_on_this_machine(config: &Config) -> bool {
    let is_local = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    };
    config.get_hosts().iter().all(is_local) && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

/// The text with each `%` and two hexadecimal digits replaced by the byte that they stand for (RFC 3986 §2.1).
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after
            .first_chunk::<2>()
            .filter(|_| byte == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(url: &str) -> Result<(Config, Tls), super::super::PostgresConnectError> {
        target(&PostgresUrl::new(url.into()), Duration::from_secs(1))
    }

    #[test]
    fn s_73_a_server_elsewhere_is_verified_unless_the_url_says_otherwise() {
        for (url, ssl_mode) in [
            ("postgres://u@db.example.org/x", SslMode::Require),
            ("postgres://u@db.example.org/x?sslmode=require", SslMode::Require),
            ("postgres://u@db.example.org/x?sslmode=disable", SslMode::Disable),
            ("postgres://u@127.0.0.1/x?sslmode=verify-full", SslMode::Require),
            ("postgres://u@127.0.0.1/x", SslMode::Disable),
            (
                "postgresql://u@localhost:5433/x?application_name=a",
                SslMode::Disable,
            ),
            ("postgres://u@%2Frun%2Fpostgresql/x", SslMode::Disable),
            ("postgres://u@127.0.0.1,db.example.org/x", SslMode::Require),
            ("postgres://u@localhost/x?hostaddr=192.0.2.1", SslMode::Require),
        ] {
            let (config, tls) = parsed(url).unwrap();
            assert_eq!(config.get_ssl_mode(), ssl_mode, "{url}");
            assert_eq!(matches!(tls, Tls::Off), ssl_mode == SslMode::Disable, "{url}");
            assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        }
    }

    #[test]
    fn s_73_what_would_fall_back_to_plain_text_is_refused() {
        for mode in ["prefer", "allow", "", "VERIFY-FULL"] {
            let refused = parsed(&format!("postgres://u@db/x?sslmode={mode}"))
                .map(|_| ())
                .unwrap_err();
            assert!(refused.to_string().contains("sslmode"), "{refused}");
        }
    }

    #[test]
    fn s_89_no_error_quotes_the_url() {
        for url in [
            "mysql://u:secret@db/x",
            "postgres://u:secret@db:port/x",
            "postgres://u:p?secret=1@db:port/x",
            "postgres:///x?password=secret",
            "postgres://u:secret@db/x?target_session_attrs=any",
            "postgres://u:secret@db/x?sslrootcert=/does/not/exist",
        ] {
            let refused = parsed(url).map(|_| ()).expect_err(url);
            assert!(
                !format!("{refused} {refused:?}").contains("secret"),
                "{refused:?}"
            );
        }
        let config = PostgresConfig::new(PostgresUrl::new("postgres://u:secret@db/x".into()));
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn a_password_may_look_like_options() {
        let (config, _) = parsed("postgres://u:p?sslmode=prefer&x=1@127.0.0.1/x?sslmode=disable").unwrap();
        assert_eq!(config.get_password(), Some(&b"p?sslmode=prefer&x=1"[..]));
        assert_eq!(config.get_ssl_mode(), SslMode::Disable);
    }

    #[test]
    fn a_path_may_be_percent_encoded() {
        assert_eq!(percent_decoded("/a%20b%2fc%zz%4"), "/a b/c%zz%4");
    }
}
