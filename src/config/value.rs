//! How the values of settings are written: each type has one notation. What is wrong with a text completes the sentence "it ...".

use crate::{
    gateway::{AddressBlock, CookieName, Origin},
    telemetry::{Filter, Format},
};
use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

/// A type that settings can have.
pub(super) trait Value: Sized {
    /// What `--help` calls its values.
    const KIND: &'static str;

    /// The text for none of them, where there may be none.
    const NONE: &'static str = "";

    fn parse(text: &str) -> Result<Self, String>;
}

impl<T: Value> Value for Option<T> {
    const KIND: &'static str = T::KIND;

    fn parse(text: &str) -> Result<Self, String> {
        match (text == T::NONE, T::NONE) {
            (true, _) => Ok(None),
            (false, "") => T::parse(text).map(Some),
            (false, none) => T::parse(text)
                .map(Some)
                .map_err(|rule| format!("{rule}; or {none}")),
        }
    }
}

/// Separated by commas.
impl<T: Value> Value for Vec<T> {
    const KIND: &'static str = "LIST";

    fn parse(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| T::parse(item).map_err(|rule| format!("{item:?} {rule}")))
            .collect()
    }
}

/// The kind of settings that are true or false. As a flag such a setting is true without a value.
pub(super) const SWITCH: &str = "true|false";

impl Value for bool {
    const KIND: &'static str = SWITCH;

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("must be true or false, not {text:?}"))
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole<const MIN: u32, const MAX: u32>(pub(super) u32);

impl<const MIN: u32, const MAX: u32> Value for Whole<MIN, MAX> {
    const KIND: &'static str = "NUMBER";
    const NONE: &'static str = "off";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .ok()
            .filter(|number| text.bytes().all(|byte| byte.is_ascii_digit()) && (MIN..=MAX).contains(number))
            .map(Self)
            .ok_or_else(|| format!("must be a whole number from {MIN} to {MAX}, not {text:?}"))
    }
}

impl Value for NonZeroUsize {
    const KIND: &'static str = "NUMBER";
    const NONE: &'static str = "auto";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("must be a whole number of at least 1, not {text:?}"))
    }
}

/// At least a millisecond.
impl Value for Duration {
    const KIND: &'static str = "SPAN";
    const NONE: &'static str = "never";

    fn parse(text: &str) -> Result<Self, String> {
        span(text).ok_or_else(|| format!("must be a span such as 500ms, 30s, 5m, 12h or 7d, not {text:?}"))
    }
}

/// A span that a session can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SessionSeconds(pub(super) u32);

impl Value for SessionSeconds {
    const KIND: &'static str = "SPAN";

    fn parse(text: &str) -> Result<Self, String> {
        span(text)
            .filter(|span| span.subsec_nanos() == 0)
            .and_then(|span| u32::try_from(span.as_secs()).ok())
            .map(Self)
            .ok_or_else(|| {
                format!("must be a span in whole seconds such as 90s, 30m, 12h or 7d, not {text:?}")
            })
    }
}

/// A whole number and a unit; not zero.
fn span(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let millis_each = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => return None,
    };
    let millis = number.parse::<u64>().ok()?.checked_mul(millis_each)?;
    (millis > 0).then(|| Duration::from_millis(millis))
}

/// An address, or a name of this machine's loopback, which is looked up at once.
impl Value for SocketAddr {
    const KIND: &'static str = "ADDRESS";

    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(address);
        }
        let found = text.to_socket_addrs().map_err(|_| {
            format!("must be an address and a port such as 127.0.0.1:50051 or localhost:50051, not {text:?}")
        })?;
        // A machine may name its loopback over IPv6 without having it.
        found
            .filter(|address| is_loopback(address.ip()))
            .min_by_key(Self::is_ipv6)
            .ok_or_else(|| {
                format!(
                    "must be an address and a port, not {text:?}: only names of this machine's loopback, such as localhost, can stand for \
                     an address. Write the address itself, or 0.0.0.0 or [::] for all of them"
                )
            })
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "PATH";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("must name a path".to_owned()),
            _ => Ok(Self::from(text)),
        }
    }
}

impl Value for String {
    const KIND: &'static str = "TEXT";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Value for Format {
    const KIND: &'static str = "FORMAT";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(format!("must be auto, human or json, not {text:?}")),
        }
    }
}

/// Types with a grammar of their own, whose error says the rule.
macro_rules! from_str {
    ($($type:ty: $kind:literal),+) => {
        $(impl Value for $type {
            const KIND: &'static str = $kind;

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|error: <Self as std::str::FromStr>::Err| error.to_string())
            }
        })+
    };
}

from_str!(
    AddressBlock: "BLOCK",
    CookieName: "NAME",
    Filter: "FILTER",
    Origin: "ORIGIN",
    super::Upstream: "URL"
);

/// Whether only this machine can reach an address.
pub(super) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        assert_eq!(Duration::parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(Duration::parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(Duration::parse("12h"), Ok(Duration::from_secs(12 * 3600)));
        assert_eq!(Option::<Duration>::parse("never"), Ok(None));
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "1.5h",
            "5S",
            "0s",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(Duration::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_session_span_is_in_whole_seconds() {
        assert_eq!(SessionSeconds::parse("12h"), Ok(SessionSeconds(43_200)));
        for text in ["1500ms", "0s", "50000d"] {
            assert!(SessionSeconds::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_number_is_within_its_range() {
        assert_eq!(Whole::<10, 16>::parse("12"), Ok(Whole(12)));
        for text in ["9", "17", "-1", "+12", "0x0c", "twelve", ""] {
            assert!(Whole::<10, 16>::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn none_is_written_as_the_type_says() {
        assert_eq!(Option::<NonZeroUsize>::parse("auto"), Ok(None));
        assert_eq!(Option::<SocketAddr>::parse(""), Ok(None));
        let rule = Option::<Whole<1, 100>>::parse("none").unwrap_err();
        assert_eq!(rule, "must be a whole number from 1 to 100, not \"none\"; or off");
    }

    #[test]
    fn a_name_of_the_loopback_is_an_address() {
        for name in ["localhost", "LOCALHOST"] {
            let address = SocketAddr::parse(&format!("{name}:50051")).unwrap();
            assert!(is_loopback(address.ip()) && address.port() == 50051, "{address}");
        }
        for text in [
            "localhost",
            "localhost:",
            "localhost:65536",
            ":50051",
            "",
            "50051",
        ] {
            let rule = SocketAddr::parse(text).unwrap_err();
            assert!(rule.starts_with("must be an address"), "{text:?} {rule}");
        }
    }

    #[test]
    fn only_this_machine_reaches_a_loopback_address() {
        for text in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_loopback(text.parse().unwrap()), "{text}");
        }
        for text in ["0.0.0.0", "10.0.0.1", "::", "2001:db8::1"] {
            assert!(!is_loopback(text.parse().unwrap()), "{text}");
        }
    }
}
