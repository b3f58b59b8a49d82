//! Texts into values. A reason completes the sentence "it ...".

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("must be an address and a port such as 127.0.0.1:50051, not {text:?}"))
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("must be true or false, not {text:?}")),
    }
}

/// A whole number within the range.
pub(super) fn number<const MIN: u32, const MAX: u32>(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|number| (MIN..=MAX).contains(number))
        .ok_or_else(|| format!("must be a whole number from {MIN} to {MAX}, not {text:?}"))
}

/// A number of things of which there must be one.
pub(super) fn count(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .map_err(|_| format!("must be a whole number of at least 1, not {text:?}"))
}

/// A number, or `auto`: none.
pub(super) fn count_or_auto(text: &str) -> Result<Option<NonZeroUsize>, String> {
    match text {
        "auto" => Ok(None),
        _ => text
            .parse()
            .map(Some)
            .map_err(|_| format!("must be auto or a whole number of at least 1, not {text:?}")),
    }
}

/// A span of at least a millisecond: a whole number and a unit.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    parse_span(text)
        .filter(|span| !span.is_zero())
        .ok_or_else(|| format!("must be a span such as 500ms, 30s, 5m, 12h or 7d, not {text:?}"))
}

/// A span, or `never`: none.
pub(super) fn span_or_never(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "never" => Ok(None),
        _ => parse_span(text)
            .filter(|span| !span.is_zero())
            .map(Some)
            .ok_or_else(|| format!("must be never or a span such as 30s, 5m, 12h or 7d, not {text:?}")),
    }
}

/// A span in whole seconds that a session can have.
pub(super) fn session_span(text: &str) -> Result<u32, String> {
    parse_span(text)
        .filter(|span| span.subsec_nanos() == 0 && !span.is_zero())
        .and_then(|span| u32::try_from(span.as_secs()).ok())
        .ok_or_else(|| format!("must be a span in whole seconds such as 90s, 30m, 12h or 7d, not {text:?}"))
}

fn parse_span(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    let seconds_each = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    number.checked_mul(seconds_each).map(Duration::from_secs)
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("must name a path".to_owned()),
        _ => Ok(PathBuf::from(text)),
    }
}

/// A path, or nothing: none.
pub(super) fn optional_path(text: &str) -> Result<Option<PathBuf>, String> {
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

/// Something with a grammar of its own, or nothing: none. The grammar's own sentence is the reason.
pub(super) fn optional<T>(text: &str) -> Result<Option<T>, String>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    match text {
        "" => Ok(None),
        _ => text.parse().map(Some).map_err(|error: T::Err| error.to_string()),
    }
}

/// Comma-separated things with a grammar of their own.
pub(super) fn list<T>(text: &str) -> Result<Vec<T>, String>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| item.parse().map_err(|error| format!("{item:?} {error}")))
        .collect()
}

/// Whether only this machine can reach an address.
pub(super) fn is_loopback(address: SocketAddr) -> bool {
    match address.ip().to_canonical() {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        assert_eq!(span("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(span("12h"), Ok(Duration::from_secs(12 * 3600)));
        assert_eq!(span_or_never("never"), Ok(None));
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
            assert!(span(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_session_span_is_in_whole_seconds() {
        assert_eq!(session_span("12h"), Ok(43_200));
        for text in ["1500ms", "0s", "50000d"] {
            assert!(session_span(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_number_is_within_its_range() {
        assert_eq!(number::<10, 16>("12"), Ok(12));
        for text in ["9", "17", "-1", "+12", "0x0c", "twelve", ""] {
            assert!(number::<10, 16>(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_this_machine_reaches_a_loopback_address() {
        for text in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(is_loopback(text.parse().unwrap()), "{text}");
        }
        for text in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "[2001:db8::1]:1"] {
            assert!(!is_loopback(text.parse().unwrap()), "{text}");
        }
    }
}
