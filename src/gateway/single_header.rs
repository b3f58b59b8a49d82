//! Reads a request header that means something only if it is there once.

use http::{HeaderMap, HeaderName};

/// What a request says under one header name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SingleHeader<'a> {
    /// The header is not there.
    Absent,
    /// It is there once, in visible ASCII.
    Once(&'a str),
    /// It is there several times, or holds bytes that no such header has. Either way it cannot be trusted.
    Invalid,
}

/// What `headers` say under `name`.
pub(super) fn single_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> SingleHeader<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => SingleHeader::Absent,
        (Some(value), None) => value.to_str().map_or(SingleHeader::Invalid, SingleHeader::Once),
        (Some(_), Some(_)) => SingleHeader::Invalid,
    }
}
