//! Headers (metadata) that calls and requests carry.

use http::{HeaderMap, HeaderName, header};

/// What ties the log lines of one request together, in every program that it passes; see [`RequestId`](super::RequestId).
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where a request to a guarded service carries its session token.
pub const SESSION_TOKEN: HeaderName = HeaderName::from_static("session-token");

/// A call's deadline, as the gRPC protocol spells it.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Whether a request is a gRPC call: its content type is `application/grpc`, bare or with a message format or parameters. gRPC-Web
/// is not.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let content_type = headers.get(header::CONTENT_TYPE);
    let parts = content_type.and_then(|value| value.as_bytes().split_at_checked(GRPC.len()));
    // A media type has no case (RFC 9110 §8.3.1).
    parts.is_some_and(|(begin, rest)| {
        begin.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn grpc_is_told_from_what_only_begins_like_it() {
        let is_grpc = |content_type: &'static str| {
            let value = HeaderValue::from_static(content_type);
            is_grpc(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]))
        };
        for yes in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc; charset=utf-8",
            "application/grpc ;charset=utf-8",
            "Application/GRPC",
        ] {
            assert!(is_grpc(yes), "{yes}");
        }
        for no in [
            "",
            "application/json",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc-web-text",
            "application/grpcx",
        ] {
            assert!(!is_grpc(no), "{no}");
        }
        assert!(!super::is_grpc(&HeaderMap::new()));
    }
}
