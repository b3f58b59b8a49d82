//! Which service a gateway asks, and how it gets there.

use http::{Uri, uri::Scheme};
use std::{
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};
use tonic::transport::{ClientTlsConfig, Endpoint};

/// The service that a gateway or a command asks: `http://` or `https://`, a host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream(Uri);

impl Upstream {
    /// Whether calls cross a network in plain text.
    #[must_use]
    pub(super) fn is_plain_beyond_this_machine(&self) -> bool {
        let host = self.0.host().unwrap_or_default();
        let address = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>();
        let is_loopback = match address {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => host.eq_ignore_ascii_case("localhost"),
        };
        self.0.scheme() == Some(&Scheme::HTTP) && !is_loopback
    }

    /// Where and how to connect.
    ///
    /// # Errors
    /// If TLS cannot be set up: the system has no certificates to trust.
    pub fn endpoint(&self) -> Result<Endpoint, tonic::transport::Error> {
        let endpoint = Endpoint::from(self.0.clone()).tcp_nodelay(true);
        match self.0.scheme() == Some(&Scheme::HTTPS) {
            true => endpoint.tls_config(ClientTlsConfig::new().with_native_roots()),
            false => Ok(endpoint),
        }
    }
}

impl std::fmt::Display for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The text is no upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a URL such as http://127.0.0.1:50051 or https://sessiond.internal, with nothing after the host and port"
)]
pub struct InvalidUpstream;

impl FromStr for Upstream {
    type Err = InvalidUpstream;

    fn from_str(text: &str) -> Result<Self, InvalidUpstream> {
        let uri: Uri = text.parse().map_err(|_| InvalidUpstream)?;
        let has_scheme = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
        let has_host_only = uri
            .authority()
            .is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
        let has_path = uri.path_and_query().is_some_and(|path| path.as_str() != "/");
        // What is no host or no port would be looked up, or connected to, in vain.
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let is_host = match uri.host().and_then(|host| host.strip_prefix('[')) {
            Some(address) => address
                .strip_suffix(']')
                .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
            None => uri.host().is_some_and(|host| host.bytes().all(is_host_byte)),
        };
        let has_port =
            uri.port_u16().is_some_and(|port| port > 0) || authority == uri.host().unwrap_or_default();
        match has_scheme && has_host_only && !has_path && is_host && has_port {
            true => Ok(Self(uri)),
            false => Err(InvalidUpstream),
        }
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_73_plain_text_beyond_this_machine_is_recognised() {
        let is_plain = |text: &str| text.parse::<Upstream>().unwrap().is_plain_beyond_this_machine();
        for text in [
            "http://127.0.0.1:50051",
            "http://localhost:1",
            "http://[::1]:1",
            "https://10.0.0.1",
        ] {
            assert!(!is_plain(text), "{text}");
        }
        for text in [
            "http://10.0.0.1:50051",
            "http://sessiond.internal",
            "http://localhost.evil.example:1",
        ] {
            assert!(is_plain(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_upstream_is_refused() {
        for text in [
            "",
            "127.0.0.1:50051",
            "ftp://x",
            "http://",
            "http://x/path",
            "http://u:p@x",
            "http://x?q",
            "http://x:0",
            "http://x:99999",
            "http://x:",
            "http://*.example.com",
            "http://[::1",
            "http://[x]",
        ] {
            assert_eq!(text.parse::<Upstream>(), Err(InvalidUpstream), "{text}");
        }
    }
}
