//! How a request reached the gateway: over https, or in the clear without leaving the machine.

use super::origin::{Origin, names_loopback};
use http::HeaderMap;

/// How a browser reached the gateway, which decides the cookie's form and whether to demand https from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// Over TLS, ended here or by a proxy in front.
    Https,
    /// In the clear, from this machine.
    PlainLoopback,
}

/// Headers that only a proxy adds.
const FORWARDING: [&str; 5] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "via",
];

impl Transport {
    /// How a request for `host` came. In doubt it is https: a browser that was wrongly given a Secure cookie loses a log-in, one
    /// that was wrongly given a plain one loses the token.
    pub(super) fn of(
        public_origin: Option<&Origin>,
        listens_on_plain_loopback: bool,
        host: Option<&str>,
        headers: &HeaderMap,
    ) -> Self {
        let is_plain = match public_origin {
            Some(origin) => !origin.is_https() && origin.is_loopback(),
            None => {
                listens_on_plain_loopback
                    && host.is_some_and(names_loopback)
                    && !FORWARDING.iter().any(|name| headers.contains_key(*name))
            }
        };
        match is_plain {
            true => Self::PlainLoopback,
            false => Self::Https,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_direct_request_to_a_loopback_name_is_plain() {
        let none = HeaderMap::new();
        let mut proxied = HeaderMap::new();
        proxied.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
        let of = |listens, host, headers| Transport::of(None, listens, host, headers);
        assert_eq!(of(true, Some("localhost:8080"), &none), Transport::PlainLoopback);
        assert_eq!(of(true, Some("app.example.com"), &none), Transport::Https);
        assert_eq!(of(true, None, &none), Transport::Https);
        assert_eq!(of(true, Some("localhost:8080"), &proxied), Transport::Https);
        assert_eq!(of(false, Some("localhost:8080"), &none), Transport::Https);
    }

    #[test]
    fn a_configured_origin_decides_alone() {
        let of = |origin: &str| {
            Transport::of(
                Some(&origin.parse().unwrap()),
                true,
                Some("localhost"),
                &HeaderMap::new(),
            )
        };
        assert_eq!(of("https://auth.example.com"), Transport::Https);
        assert_eq!(of("http://localhost:8080"), Transport::PlainLoopback);
        assert_eq!(of("http://auth.example.com"), Transport::Https);
    }
}
