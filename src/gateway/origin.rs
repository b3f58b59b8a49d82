//! A web origin (RFC 6454): scheme, host and port, in the one spelling that can be compared.

use http::uri::Authority;
use std::{fmt, net::IpAddr, str::FromStr};

/// `https://host`, `http://host:8080`: lower case, without the scheme's own port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    host_and_port: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Http => "http://",
            Self::Https => "https://",
        }
    }

    const fn default_port(self) -> &'static str {
        match self {
            Self::Http => ":80",
            Self::Https => ":443",
        }
    }
}

impl Origin {
    /// Whether the scheme is `https`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// Whether the host is a loopback name or address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        names_loopback(&self.host_and_port)
    }

    /// Whether a request for `host` (its Host header, or HTTP/2 authority) went to this origin, as far as the request tells:
    /// it does not name its scheme.
    pub(super) fn has_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix(self.scheme.default_port()).unwrap_or(&host);
        host == self.host_and_port
    }
}

/// Whether a Host header names this machine: `localhost`, a name below it (RFC 6761 §6.3), or a loopback address.
pub(super) fn names_loopback(host_and_port: &str) -> bool {
    let Ok(authority) = host_and_port.parse::<Authority>() else {
        return false;
    };
    let host = authority.host().to_ascii_lowercase();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    match address {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let text = text.to_ascii_lowercase();
        let (scheme, host_and_port) = [Scheme::Http, Scheme::Https]
            .into_iter()
            .find_map(|scheme| Some((scheme, text.strip_prefix(scheme.prefix())?)))
            .ok_or(InvalidOrigin)?;
        let authority: Authority = host_and_port.parse().map_err(|_| InvalidOrigin)?;
        if authority.host().is_empty() || host_and_port.contains('@') || host_and_port.ends_with(':') {
            return Err(InvalidOrigin);
        }
        let host_and_port = host_and_port
            .strip_suffix(scheme.default_port())
            .unwrap_or(host_and_port);
        Ok(Self {
            scheme,
            host_and_port: host_and_port.to_owned(),
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.scheme.prefix(), self.host_and_port)
    }
}

/// The text is not an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an origin of the form https://host or https://host:port, without a path")]
pub struct InvalidOrigin;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_origin_has_one_spelling() {
        for (given, expected) in [
            ("https://Auth.Example.com:443", "https://auth.example.com"),
            ("http://localhost:80", "http://localhost"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("HTTPS://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
        ] {
            assert_eq!(given.parse::<Origin>().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "",
            "null",
            "https://",
            "example.com",
            "ftp://example.com",
            "https://example.com/",
            "https://user@example.com",
            "https://example.com:",
            "https://a b",
        ] {
            assert_eq!(text.parse::<Origin>(), Err(InvalidOrigin), "{text}");
        }
    }

    #[test]
    fn loopback_is_told_from_names_that_look_like_it() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
            "app.localhost",
        ] {
            assert!(names_loopback(host), "{host}");
        }
        for host in [
            "",
            "localhost.evil.com",
            "127.0.0.1.evil.com",
            "10.0.0.1",
            "[::2]",
            "notlocalhost",
            "a b",
        ] {
            assert!(!names_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_host_matches_with_and_without_the_schemes_own_port() {
        let origin: Origin = "https://example.com".parse().unwrap();
        assert!(origin.has_host("example.com"));
        assert!(origin.has_host("Example.com:443"));
        assert!(!origin.has_host("example.com:80"));
        assert!(!origin.has_host("example.com.evil.tld"));
    }
}
