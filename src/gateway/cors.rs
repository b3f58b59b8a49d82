//! Lets the pages of named origins read answers; of no others, and by default of none.

use super::{
    origin::Origin,
    single_header::{SingleHeader, single_header},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

const MAY_CARRY_COOKIES: (HeaderName, HeaderValue) = (
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    HeaderValue::from_static("true"),
);

/// The named origin that the request comes from, as the header spells it.
pub(super) fn named_origin(headers: &HeaderMap, allowed: &[Origin]) -> Option<HeaderValue> {
    match single_header(headers, &header::ORIGIN) {
        SingleHeader::Once(text) => match text.parse::<Origin>() {
            Ok(origin) if allowed.contains(&origin) => HeaderValue::from_str(text).ok(),
            Ok(_) | Err(_) => None,
        },
        SingleHeader::Absent | SingleHeader::Invalid => None,
    }
}

/// Whether a browser asks what it may send (Fetch standard, CORS-preflight request).
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What the answer to a preflight says besides [`allow_reading`].
pub(super) fn allow_sending(headers: &mut HeaderMap) {
    let granted = [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, POST, PUT, PATCH, DELETE",
        ),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type, if-match"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    for (name, value) in granted {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// What every answer to a named origin says.
pub(super) fn allow_reading(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let (name, value) = MAY_CARRY_COOKIES;
    headers.insert(name, value);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("etag, location, retry-after, x-request-id"),
    );
}
