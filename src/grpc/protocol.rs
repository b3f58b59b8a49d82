//! What the gRPC protocol asks of a request before its method sees it, and of a status that the framework has made.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>. `tests/service/grpc/protocol.rs` walks through its text.

use super::{ResponseBody, status};
use crate::{contract, pb::ErrorReason};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, ALLOW},
};
use tonic::{Code, Status};

/// The names of compressions that are read, on a response that refuses another one.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// The response to a request that is no gRPC call. Its HTTP status keeps whoever does not know gRPC from reading it as a success.
pub(super) fn refusal<B>(request: &Request<B>) -> Option<Response<ResponseBody>> {
    if request.method() != Method::POST {
        let allowed = (ALLOW, HeaderValue::from_static("POST"));
        return Some(refuse(StatusCode::METHOD_NOT_ALLOWED, allowed));
    }
    if !contract::is_grpc(request.headers()) {
        let accepted = (ACCEPT, HeaderValue::from_static("application/grpc"));
        return Some(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, accepted));
    }
    None
}

fn refuse(http_status: StatusCode, (name, value): (http::HeaderName, HeaderValue)) -> Response<ResponseBody> {
    let mut response = status::status(ErrorReason::MalformedRequest).into_http();
    *response.status_mut() = http_status;
    response.headers_mut().insert(name, value);
    response
}

/// Gives a status that the framework has made its reason, and the code that goes with it. `trailers` may hold none.
///
/// Every status of ours has a reason already: so what the framework calls internal is a request that it could not read.
pub(super) fn complete(trailers: &mut HeaderMap) {
    let Some(made) = Status::from_header_map(trailers) else {
        return;
    };
    if !made.details().is_empty() {
        return;
    }
    let reason = match made.code() {
        Code::Ok => return,
        Code::OutOfRange | Code::ResourceExhausted => ErrorReason::MessageTooLarge,
        Code::Unimplemented if trailers.contains_key(ACCEPT_ENCODING) => ErrorReason::UnsupportedEncoding,
        Code::Unimplemented => ErrorReason::UnknownMethod,
        Code::NotFound => ErrorReason::UnknownName,
        Code::DeadlineExceeded => ErrorReason::DeadlineExceeded,
        Code::Internal
        | Code::InvalidArgument
        | Code::Unknown
        | Code::Cancelled
        | Code::DataLoss
        | Code::Aborted
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unavailable => ErrorReason::MalformedRequest,
    };
    // It fails for metadata that is no header, of which it has none.
    let _ = status::status(reason).add_header(trailers);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_ours_stays_as_it_is() {
        let mut trailers = HeaderMap::new();
        status::status(ErrorReason::Internal)
            .add_header(&mut trailers)
            .unwrap();
        let before = trailers.clone();
        complete(&mut trailers);
        assert_eq!(trailers, before);
    }

    #[test]
    fn success_and_trailers_without_a_status_stay_as_they_are() {
        for mut trailers in [
            HeaderMap::new(),
            HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                HeaderValue::from_static("0"),
            )]),
        ] {
            let before = trailers.clone();
            complete(&mut trailers);
            assert_eq!(trailers, before);
        }
    }

    #[test]
    fn whatever_the_framework_says_has_a_reason() {
        for code in (1..=16).map(Code::from_i32) {
            let mut trailers = HeaderMap::new();
            Status::new(code, "of the framework")
                .add_header(&mut trailers)
                .unwrap();
            complete(&mut trailers);
            let completed = Status::from_header_map(&trailers).unwrap();
            assert!(contract::reason_of(&completed).is_some(), "{code:?}");
            assert_ne!(completed.code(), Code::Internal, "{code:?}");
        }
    }
}
