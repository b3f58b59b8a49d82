//! A web origin (RFC 6454): scheme, host and port, in the one spelling that can be compared.

use http::uri::Authority;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// `https://host`, `http://host:8080`, or the origin of an app's pages, such as `capacitor://localhost`: lower case, without the
/// scheme's own port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    host_and_port: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    /// That of an app whose pages come out of the app itself.
    App(String),
}

impl Scheme {
    fn of(text: &str) -> Option<Self> {
        // RFC 3986 §3.1.
        let is_scheme_byte =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
        match text {
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            // Their pages have the origin `null`, or none.
            "file" | "data" | "blob" | "javascript" | "about" => None,
            // Browsers never send these as an origin.
            "ftp" | "ws" | "wss" => None,
            _ if text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(is_scheme_byte) => {
                Some(Self::App(text.to_owned()))
            }
            _ => None,
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::App(name) => name,
        }
    }

    /// With the colon; `None` for a scheme that has none.
    fn default_port(&self) -> Option<&'static str> {
        match self {
            Self::Http => Some(":80"),
            Self::Https => Some(":443"),
            Self::App(_) => None,
        }
    }

    /// The host without the scheme's own port.
    fn without_default_port<'a>(&self, host_and_port: &'a str) -> &'a str {
        self.default_port()
            .and_then(|port| host_and_port.strip_suffix(port))
            .unwrap_or(host_and_port)
    }
}

impl Origin {
    /// Whether the scheme is `https`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// Whether it is one that a server can have: `http` or `https`.
    #[must_use]
    pub fn is_web(&self) -> bool {
        matches!(self.scheme, Scheme::Http | Scheme::Https)
    }

    /// Whether the host is a loopback name or address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        names_loopback(&self.host_and_port)
    }

    /// Whether a request for `host` (its Host header, or HTTP/2 authority) went to this origin, as far as the request tells:
    /// it does not name its scheme.
    pub(super) fn has_host(&self, host: &str) -> bool {
        // The pages of an app on the same machine are not the gateway's own.
        self.is_web() && self.scheme.without_default_port(&host.to_ascii_lowercase()) == self.host_and_port
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
        let (scheme, host_and_port) = text.split_once("://").ok_or(InvalidOrigin)?;
        let scheme = Scheme::of(scheme).ok_or(InvalidOrigin)?;
        let (host, port) = split_port(host_and_port).ok_or(InvalidOrigin)?;
        let host = canonical_host(host).ok_or(InvalidOrigin)?;
        let host_and_port = format!("{host}{port}");
        Ok(Self {
            host_and_port: scheme.without_default_port(&host_and_port).to_owned(),
            scheme,
        })
    }
}

/// The host, and the port with its colon, empty if there is none. `None` if the port is none that browsers write.
fn split_port(host_and_port: &str) -> Option<(&str, &str)> {
    let at = match host_and_port.rfind(':') {
        Some(at) if !host_and_port.ends_with(']') => at,
        Some(_) | None => return Some((host_and_port, "")),
    };
    let (host, port) = host_and_port.split_at(at);
    let digits = &port[1..];
    let number: u16 = digits.parse().ok()?;
    (number > 0 && number.to_string() == digits).then_some((host, port))
}

/// The host as browsers write it; `None` for what is no host, such as a pattern, or is one that they would write otherwise.
fn canonical_host(host: &str) -> Option<String> {
    if let Some(bracketed) = host.strip_prefix('[') {
        let address: Ipv6Addr = bracketed.strip_suffix(']')?.parse().ok()?;
        return Some(match address.to_ipv4_mapped() {
            // Browsers write all of it in hexadecimal.
            Some(ipv4) => {
                let [a, b, c, d] = ipv4.octets();
                let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                format!("[::ffff:{high:x}:{low:x}]")
            }
            None => format!("[{address}]"),
        });
    }
    let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let labels = host.strip_suffix('.').unwrap_or(host);
    let has_empty_label = labels.split('.').any(str::is_empty);
    if !host.bytes().all(is_host_byte) || has_empty_label || host.len() > 253 {
        return None;
    }
    // What ends in a number is an IPv4 address to browsers (WHATWG URL §3.5), which have one spelling for it.
    let last = labels.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    (!is_number || host.parse::<Ipv4Addr>().is_ok()).then(|| host.to_owned())
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host_and_port)
    }
}

/// The text is not an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one exact origin as browsers send it, such as https://host, https://host:8443 or capacitor://localhost: no pattern, no path"
)]
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
            ("https://[2001:db8:0:0::1]", "https://[2001:db8::1]"),
            ("https://[::ffff:192.0.2.1]", "https://[::ffff:c000:201]"),
            ("http://192.0.2.1:443", "http://192.0.2.1:443"),
            ("Capacitor://localhost", "capacitor://localhost"),
            ("tauri://localhost", "tauri://localhost"),
            ("ionic://localhost:80", "ionic://localhost:80"),
            ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
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
            "https://*",
            "https://*.example.com",
            "*://example.com",
            "capacitor://",
            "capacitor://*",
            "capacitor://localhost/",
            "file://host",
            "1x://host",
            "://host",
            "https://exa_mple..com",
            "https://.example.com",
            "https://m\u{fc}nchen.example",
            "https://example.com:0",
            "https://example.com:99999",
            "https://example.com:0443",
            "https://example.com:80:80",
            "https://127.1",
            "https://0x7f.0.0.1",
            "https://[::1",
            "https://[v1.x]",
            "https://example.com?x",
            "https://example.com#x",
            "https://a,https://b",
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

    #[test]
    fn s_27_an_apps_page_is_not_the_gateways_own() {
        let app: Origin = "capacitor://localhost".parse().unwrap();
        assert!(!app.has_host("localhost") && !app.is_web());
    }
}
