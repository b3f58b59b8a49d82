//! What the gateway answers when it cannot do what was asked (RFC 9457): a closed catalogue, without internals.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use std::time::Duration;

/// The catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProblemKind {
    /// A field is missing or wrong.
    InvalidField,
    /// The body is not what its content type says.
    MalformedBody,
    /// The query string is not UTF-8.
    MalformedQuery,
    /// No Host header, or several.
    BadHost,
    /// Cookies of several live sessions in one request, or more cookies than can be looked at.
    SeveralCookies,
    /// No live session, for whatever reason.
    NoSession,
    /// The log-in failed, for whatever reason.
    WrongCredentials,
    /// Another site made the browser send this.
    CrossSite,
    /// The user lacks the role.
    Forbidden,
    /// Nobody may register.
    RegistrationClosed,
    /// The current password, asked for again, is wrong.
    WrongCurrentPassword,
    /// The log-in is too long ago for this.
    ReauthenticationRequired,
    /// The gateway itself may not make the call.
    GatewayForbidden,
    /// Nothing there, or nothing that the user may know of.
    NotFound,
    /// The resource has no such method.
    MethodNotAllowed,
    /// The body did not come in time.
    BodyTooSlow,
    /// Another user has this email.
    EmailTaken,
    /// The user has changed since they were read.
    Changed,
    /// The body is too long.
    BodyTooLarge,
    /// The content type is not JSON.
    UnsupportedMediaType,
    /// The content type is not one that the log-in takes.
    UnsupportedLogInMediaType,
    /// The body is compressed.
    UnsupportedCoding,
    /// Too much at once.
    TooMany,
    /// A defect of the gateway.
    Internal,
    /// No resource has such a method.
    MethodUnknown,
    /// sessiond does not accept the gateway, or failed.
    ServiceFailed,
    /// The service cannot tell now.
    Unavailable,
    /// A change of the user is recorded and not completed.
    ChangePending,
    /// The service took too long.
    TimedOut,
}

struct CatalogueEntry {
    status: StatusCode,
    name: &'static str,
    title: &'static str,
    /// The `error` member: what the routes have always said.
    error: &'static str,
}

impl ProblemKind {
    const fn entry(self) -> CatalogueEntry {
        let (status, name, title, error) = match self {
            Self::InvalidField => (
                StatusCode::BAD_REQUEST,
                "invalid-field",
                "A field is missing or wrong.",
                "Bad request",
            ),
            Self::MalformedBody => (
                StatusCode::BAD_REQUEST,
                "malformed-body",
                "The body is not what its content type says.",
                "Wrong format",
            ),
            Self::MalformedQuery => (
                StatusCode::BAD_REQUEST,
                "malformed-query",
                "The query is not UTF-8.",
                "Bad request",
            ),
            Self::BadHost => (
                StatusCode::BAD_REQUEST,
                "bad-host",
                "A request names one host.",
                "Bad request",
            ),
            Self::SeveralCookies => (
                StatusCode::BAD_REQUEST,
                "several-cookies",
                "The request carries cookies of several live sessions, one of which somebody else has set: log out, then log in again.",
                "Bad request",
            ),
            Self::NoSession => (
                StatusCode::UNAUTHORIZED,
                "no-session",
                "This needs a live session: log in first.",
                "Unauthorized",
            ),
            Self::WrongCredentials => (
                StatusCode::UNAUTHORIZED,
                "wrong-credentials",
                "The log-in failed.",
                "wrong email or password",
            ),
            Self::CrossSite => (
                StatusCode::FORBIDDEN,
                "cross-site",
                "Another site made the browser send this request.",
                "Forbidden",
            ),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "This user may not do this.",
                "Forbidden",
            ),
            Self::RegistrationClosed => (
                StatusCode::FORBIDDEN,
                "registration-closed",
                "Users cannot register here.",
                "Forbidden",
            ),
            Self::WrongCurrentPassword => (
                StatusCode::FORBIDDEN,
                "wrong-current-password",
                "The current password is wrong; the session goes on.",
                "wrong password",
            ),
            Self::ReauthenticationRequired => (
                StatusCode::FORBIDDEN,
                "reauthentication-required",
                "The log-in is too long ago for this: log in again; the session goes on until then.",
                "log in again",
            ),
            Self::GatewayForbidden => (
                StatusCode::FORBIDDEN,
                "gateway-forbidden",
                "This gateway may not do this.",
                "Forbidden",
            ),
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "not-found",
                "There is nothing here.",
                "Not found",
            ),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "This method is not allowed here; see the Allow header.",
                "Method not allowed",
            ),
            Self::BodyTooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "body-too-slow",
                "The body did not come in time.",
                "Request timeout",
            ),
            Self::EmailTaken => (
                StatusCode::CONFLICT,
                "email-taken",
                "Another user has this email.",
                "email already registered",
            ),
            Self::Changed => (
                StatusCode::PRECONDITION_FAILED,
                "changed",
                "The user has changed since they were read: read again.",
                "Precondition failed",
            ),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "The body is longer than 16 KiB.",
                "Body too large",
            ),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "The body must be application/json.",
                "Unsupported media type",
            ),
            Self::UnsupportedLogInMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "The body must be application/json or application/x-www-form-urlencoded; or send Authorization: Basic and no body.",
                "Unsupported media type",
            ),
            Self::UnsupportedCoding => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-coding",
                "The body must not be compressed: send it without Content-Encoding.",
                "Unsupported media type",
            ),
            Self::TooMany => (
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-requests",
                "Too much at once: try again later.",
                "Too many requests",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Something went wrong here; the log has it under the request id.",
                "Internal server error",
            ),
            Self::MethodUnknown => (
                StatusCode::NOT_IMPLEMENTED,
                "method-unknown",
                "This method is not implemented.",
                "Not implemented",
            ),
            Self::ServiceFailed => (
                StatusCode::BAD_GATEWAY,
                "service-failed",
                "The session service failed; the log has it under the request id.",
                "Bad gateway",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "It cannot be told now: try again. Nobody was logged out.",
                "Service unavailable",
            ),
            Self::ChangePending => (
                StatusCode::SERVICE_UNAVAILABLE,
                "change-pending",
                "A change of this account is recorded and completes by itself, which ends its sessions: log in a moment later.",
                "Service unavailable",
            ),
            Self::TimedOut => (
                StatusCode::GATEWAY_TIMEOUT,
                "timed-out",
                "The session service took too long: try again. Nobody was logged out.",
                "Gateway timeout",
            ),
        };
        CatalogueEntry {
            status,
            name,
            title,
            error,
        }
    }
}

impl ProblemKind {
    /// The header that says what is taken in place of what was sent (RFC 9110 §15.5.16).
    fn taken_instead(self) -> Option<(HeaderName, &'static str)> {
        if self == Self::UnsupportedMediaType {
            Some((header::ACCEPT, "application/json"))
        } else if self == Self::UnsupportedLogInMediaType {
            Some((
                header::ACCEPT,
                "application/json, application/x-www-form-urlencoded",
            ))
        } else if self == Self::UnsupportedCoding {
            Some((header::ACCEPT_ENCODING, "identity"))
        } else {
            None
        }
    }
}

/// One field that is missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    /// The field as this route calls it.
    pub(super) field: String,
    /// What is wrong, to be read after the field's name.
    pub(super) description: String,
}

impl Violation {
    pub(super) fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            description: description.into(),
        }
    }
}

/// An answer out of the catalogue. It travels as a response extension; the middleware writes the body, which names the
/// request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    kind: ProblemKind,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
}

impl From<ProblemKind> for Problem {
    fn from(kind: ProblemKind) -> Self {
        Self {
            kind,
            violations: Vec::new(),
            retry_after: None,
        }
    }
}

impl Problem {
    /// [`ProblemKind::InvalidField`] for these fields.
    pub(super) fn invalid_fields(violations: Vec<Violation>) -> Self {
        Self {
            violations,
            ..ProblemKind::InvalidField.into()
        }
    }

    /// The same, with the hint to come back after a while.
    pub(super) fn retry_after(self, delay: Option<Duration>) -> Self {
        Self {
            retry_after: delay,
            ..self
        }
    }

    pub(super) fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// The body, for the request of that id.
    pub(super) fn body(&self, request_id: &str) -> Vec<u8> {
        let CatalogueEntry {
            status,
            name,
            title,
            error,
        } = self.kind.entry();
        let sentence = |violation: &Violation| format!("{} {}", violation.field, violation.description);
        let mut body = json!({
            "type": format!("urn:sessiond:problem:{name}"),
            "title": title,
            "status": status.as_u16(),
            "error": self.violations.first().map_or_else(|| error.to_owned(), sentence),
            "request_id": request_id,
        });
        if !self.violations.is_empty() {
            let sentences: Vec<String> = self.violations.iter().map(sentence).collect();
            body["detail"] = Value::String(sentences.join("; "));
            body["errors"] = self
                .violations
                .iter()
                .map(|violation| json!({ "field": violation.field, "detail": violation.description }))
                .collect();
        } else {
            body["detail"] = Value::String(title.to_owned());
        }
        body.to_string().into_bytes()
    }
}

/// `application/problem+json`.
pub(super) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// RFC 9110 §11.6.1 wants a challenge with every 401. This scheme is one that no browser has a dialogue for.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Cookie realm=\"sessiond\"");

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.entry().status;
        let mut response = status.into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, CHALLENGE);
        }
        if let Some(delay) = self.retry_after {
            // Whole seconds, rounded up: a client that comes early is turned away again.
            let secs = delay
                .as_secs()
                .saturating_add(u64::from(delay.subsec_nanos() > 0));
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs.max(1)));
        }
        if let Some((name, value)) = self.kind.taken_instead() {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn s_94_a_problem_names_type_title_status_error_and_request() {
        let body: Value = serde_json::from_slice(&Problem::from(ProblemKind::NoSession).body("r-1")).unwrap();
        assert_eq!(
            body,
            json!({
                "type": "urn:sessiond:problem:no-session",
                "title": "This needs a live session: log in first.",
                "detail": "This needs a live session: log in first.",
                "status": 401,
                "error": "Unauthorized",
                "request_id": "r-1",
            })
        );
    }

    #[test]
    fn the_first_wrong_field_is_the_error_and_all_are_listed() {
        let problem = Problem::invalid_fields(vec![
            Violation::new("email", "missing"),
            Violation::new("password", "missing"),
        ]);
        let body: Value = serde_json::from_slice(&problem.body("r-1")).unwrap();
        assert_eq!(body["error"], "email missing");
        assert_eq!(body["detail"], "email missing; password missing");
        assert_eq!(
            body["errors"][1],
            json!({ "field": "password", "detail": "missing" })
        );
    }

    #[test]
    fn retry_after_is_rounded_up_to_whole_seconds() {
        let retry_after = |delay| {
            let response = Problem::from(ProblemKind::TooMany)
                .retry_after(Some(delay))
                .into_response();
            response.headers()[header::RETRY_AFTER]
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(retry_after(Duration::from_millis(1)), "1");
        assert_eq!(retry_after(Duration::from_millis(1500)), "2");
        assert_eq!(retry_after(Duration::ZERO), "1");
    }
}
