//! From a use case's error to `google.rpc.Status`: the one place where a cause is logged.

use crate::{auth::AuthError, contract::error_details, domain::FieldViolation, pb::ErrorReason};
use std::{error::Error as StdError, fmt::Write as _, time::Duration};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tracing::{error, warn};

/// The status with this reason in its `ErrorInfo`.
pub(super) fn status(code: Code, reason: ErrorReason, message: &str) -> Status {
    Status::with_error_details(code, message, error_details(reason))
}

/// The status for fields that break their rules, each of them named.
pub(super) fn invalid_fields(violations: &[FieldViolation]) -> Status {
    let mut message = String::new();
    let mut details = error_details(ErrorReason::InvalidField);
    for violation in violations {
        let separator = if message.is_empty() { "" } else { "; " };
        let _ = write!(message, "{separator}{violation}");
        details.add_bad_request_violation(&violation.field, &violation.description);
    }
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// The status for an exhausted resource, with the time after which trying again makes sense.
fn exhausted(reason: ErrorReason, message: &str, retry_after: Duration) -> Status {
    let mut details = error_details(reason);
    details.set_retry_info(Some(retry_after));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

impl From<AuthError> for Status {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::InvalidSession => status(
                Code::Unauthenticated,
                ErrorReason::InvalidSession,
                "the session token proves no session",
            ),
            AuthError::InvalidCredentials => status(
                Code::Unauthenticated,
                ErrorReason::InvalidCredentials,
                "wrong email or password",
            ),
            AuthError::UserNotFound => status(Code::NotFound, ErrorReason::UserNotFound, "no such user"),
            AuthError::UserDisabled => status(
                Code::FailedPrecondition,
                ErrorReason::UserDisabled,
                "the user is disabled",
            ),
            AuthError::EmailTaken => status(
                Code::AlreadyExists,
                ErrorReason::EmailTaken,
                "another user has this email",
            ),
            AuthError::EtagMismatch => status(
                Code::Aborted,
                ErrorReason::EtagMismatch,
                "the user has changed since the etag was read",
            ),
            AuthError::ReauthenticationRequired => status(
                Code::FailedPrecondition,
                ErrorReason::ReauthenticationRequired,
                "the log-in is older than max_auth_age",
            ),
            AuthError::Raced => status(
                Code::Aborted,
                ErrorReason::Raced,
                "the user was changed meanwhile; try again",
            ),
            AuthError::InvalidFields(violations) => invalid_fields(&violations),
            AuthError::HashingBusy(busy) => {
                warn!(event = "hashing_busy", "too many passwords wait to be checked");
                exhausted(
                    ErrorReason::HashingBusy,
                    "too many log-ins at once; try again later",
                    busy.retry_after,
                )
            }
            AuthError::Store(failure) => {
                error!(event = "store_failed", cause = causes(&failure), "{failure}");
                status(
                    Code::Unavailable,
                    ErrorReason::StoreUnavailable,
                    "the store cannot be asked now",
                )
            }
            AuthError::NoRandomness(failure) => internal(&failure),
            AuthError::Interrupted(failure) => internal(&failure),
        }
    }
}

/// The status for a defect of this program, logged.
pub(super) fn internal(failure: &(dyn StdError + 'static)) -> Status {
    error!(
        event = "internal_error",
        cause = causes(failure),
        "internal error"
    );
    status(Code::Internal, ErrorReason::Internal, "internal error")
}

/// The status for a call that took longer than its deadline.
pub(super) fn deadline_exceeded() -> Status {
    status(
        Code::DeadlineExceeded,
        ErrorReason::DeadlineExceeded,
        "the call took longer than its deadline",
    )
}

/// The causes of a failure, outermost first, on one line.
fn causes(failure: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    let mut cause = failure.source();
    while let Some(failure) = cause {
        let separator = if text.is_empty() { "" } else { ": " };
        let _ = write!(text, "{separator}{failure}");
        cause = failure.source();
    }
    text
}
