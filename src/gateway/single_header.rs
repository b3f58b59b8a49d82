//! Reads a request header that means something only if it is there once.

use http::{HeaderMap, HeaderName};

/// What a request says under one header name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// The header is not there.
    Nothing,
    /// It is there once, in visible ASCII.
    Once(&'a str),
    /// It is there several times, or holds bytes that no such header has: whoever sent it, it is not to be trusted.
    Unclear,
}

/// What `headers` say under `name`.
pub(super) fn said<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Said<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Said::Nothing,
        (Some(value), None) => value.to_str().map_or(Said::Unclear, Said::Once),
        (Some(_), Some(_)) => Said::Unclear,
    }
}
