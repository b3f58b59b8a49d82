//! The answer to a request that does not get through: a status for gRPC, problem+json (RFC 9457) for everyone else.

use super::GuardBody;
use crate::{
    client::CheckError,
    contract::{BEARER, error_details, is_grpc},
    pb::ErrorReason,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{Either, Full};
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Why a request does not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denial {
    /// It proves no session.
    NoSession,
    /// Its session's log-in is older than this, which is as old as it may be.
    AuthTooOld(Duration),
    /// It is unknown whether it proves a session.
    CannotTell,
}

/// What a denial looks like, side by side.
struct DenialForm {
    code: Code,
    reason: ErrorReason,
    http: StatusCode,
    sentence: &'static str,
}

impl From<CheckError> for Denial {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Invalid => Self::NoSession,
            // That sessiond refuses this program is nothing that the request could mend.
            CheckError::CannotTell(_) | CheckError::CallerRefused => Self::CannotTell,
        }
    }
}

impl Denial {
    fn form(self) -> DenialForm {
        match self {
            Self::NoSession => DenialForm {
                code: Code::Unauthenticated,
                reason: ErrorReason::InvalidSession,
                http: StatusCode::UNAUTHORIZED,
                sentence: "This needs a session: log in.",
            },
            Self::AuthTooOld(_) => DenialForm {
                code: Code::FailedPrecondition,
                reason: ErrorReason::ReauthenticationRequired,
                http: StatusCode::UNAUTHORIZED,
                sentence: "This needs a recent log-in: log in again.",
            },
            Self::CannotTell => DenialForm {
                code: Code::Unavailable,
                reason: ErrorReason::StoreUnavailable,
                http: StatusCode::SERVICE_UNAVAILABLE,
                sentence: "Sessions cannot be checked now: try again.",
            },
        }
    }

    /// The answer to a request with these headers.
    pub(super) fn response<B: Default>(self, request: &HeaderMap) -> Response<GuardBody<B>> {
        match is_grpc(request) {
            true => self.grpc_response().map(Either::Left),
            false => self.http_response().map(Either::Right),
        }
    }

    fn grpc_response<B: Default>(self) -> Response<B> {
        let form = self.form();
        Status::with_error_details(form.code, form.sentence, error_details(form.reason)).into_http()
    }

    fn http_response(self) -> Response<Full<Bytes>> {
        let form = self.form();
        let (status, sentence) = (form.http.as_u16(), form.sentence);
        let title = form.http.canonical_reason().unwrap_or_default();
        let problem = format!(r#"{{"title":"{title}","status":{status},"detail":"{sentence}"}}"#);
        let mut response = Response::new(Full::from(problem));
        *response.status_mut() = form.http;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::NoSession => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(BEARER));
            }
            Self::AuthTooOld(max_age) => {
                // RFC 9470 §3.
                let challenge = format!(
                    r#"{BEARER} error="insufficient_user_authentication", max_age="{}""#,
                    max_age.as_secs()
                );
                if let Ok(challenge) = HeaderValue::from_str(&challenge) {
                    headers.insert(header::WWW_AUTHENTICATE, challenge);
                }
            }
            Self::CannotTell => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
        }
        response
    }
}
