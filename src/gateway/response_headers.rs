//! The headers that every response carries, errors included (S-33).

use super::transport::Transport;
use http::{HeaderMap, HeaderName, HeaderValue, header};

const fn name(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

const fn value(value: &'static str) -> HeaderValue {
    HeaderValue::from_static(value)
}

/// Adds them, except those that the route has set for itself: a page needs a policy of its own.
pub(super) fn add(headers: &mut HeaderMap, transport: Transport) {
    let always = [
        // Answers hold users and sessions: no cache may keep them.
        (header::CACHE_CONTROL, value("no-store")),
        (
            header::CONTENT_SECURITY_POLICY,
            value(
                "default-src 'none'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
            ),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, value("nosniff")),
        (header::REFERRER_POLICY, value("no-referrer")),
        (name("cross-origin-opener-policy"), value("same-origin")),
        (name("cross-origin-resource-policy"), value("same-origin")),
    ];
    for (name, value) in always {
        headers.entry(name).or_insert(value);
    }
    // Over plain http browsers ignore it, and on localhost it would lock other programs there out of http.
    if transport == Transport::Https {
        headers
            .entry(header::STRICT_TRANSPORT_SECURITY)
            .or_insert(value("max-age=63072000; includeSubDomains"));
    }
}
