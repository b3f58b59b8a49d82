//! From a use case's error to `google.rpc.Status`: the one place where a cause is logged.

use crate::{
    auth::AuthError, contract::error_details, domain::FieldViolation, error_chain::causes, pb::ErrorReason,
};
use std::{error::Error as StdError, time::Duration};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tracing::{error, warn};

/// When trying again makes sense with a store that has no room: sessions end, and operators are told.
const STORE_FULL_RETRY: Duration = Duration::from_secs(10);

/// The reason that goes into `ErrorInfo`.
fn reason_of(error: &AuthError) -> ErrorReason {
    match error {
        AuthError::InvalidSession => ErrorReason::InvalidSession,
        AuthError::InvalidCredentials => ErrorReason::InvalidCredentials,
        AuthError::UserNotFound => ErrorReason::UserNotFound,
        AuthError::UserDisabled => ErrorReason::UserDisabled,
        AuthError::EmailTaken => ErrorReason::EmailTaken,
        AuthError::EtagMismatch => ErrorReason::EtagMismatch,
        AuthError::ReauthenticationRequired => ErrorReason::ReauthenticationRequired,
        AuthError::Raced => ErrorReason::Raced,
        AuthError::InvalidFields(_) => ErrorReason::InvalidField,
        AuthError::HashingBusy(_) => ErrorReason::HashingBusy,
        AuthError::Store(failure) if failure.is_full() => ErrorReason::StoreFull,
        AuthError::Store(_) => ErrorReason::StoreUnavailable,
        AuthError::ChangePending => ErrorReason::ChangePending,
        AuthError::NoRandomness(_) | AuthError::Interrupted(_) => ErrorReason::Internal,
    }
}

/// The code that goes with a reason, and the sentence for people.
fn meaning_of(reason: ErrorReason) -> (Code, &'static str) {
    match reason {
        ErrorReason::InvalidSession => (Code::Unauthenticated, "the session token proves no session"),
        ErrorReason::InvalidCredentials => (Code::Unauthenticated, "wrong email or password"),
        ErrorReason::InvalidField => (Code::InvalidArgument, "a field is missing or out of bounds"),
        ErrorReason::UserNotFound => (Code::NotFound, "no such user"),
        ErrorReason::EmailTaken => (Code::AlreadyExists, "another user has this email"),
        ErrorReason::EtagMismatch => (Code::Aborted, "the user has changed since the etag was read"),
        ErrorReason::UserDisabled => (Code::FailedPrecondition, "the user is disabled"),
        ErrorReason::ReauthenticationRequired => {
            (Code::FailedPrecondition, "the log-in is older than max_auth_age")
        }
        ErrorReason::StoreUnavailable => (Code::Unavailable, "the store cannot be asked now"),
        ErrorReason::ChangePending => (
            Code::Unavailable,
            "a change of the user is recorded and completes by itself; until then nobody can tell",
        ),
        ErrorReason::HashingBusy => (
            Code::ResourceExhausted,
            "too many log-ins at once; try again later",
        ),
        ErrorReason::StoreFull => (
            Code::ResourceExhausted,
            "there is no room for new sessions; try again later",
        ),
        ErrorReason::DeadlineExceeded => (Code::DeadlineExceeded, "the call took longer than its deadline"),
        ErrorReason::Raced => (Code::Aborted, "the user was changed meanwhile; try again"),
        ErrorReason::MalformedRequest => (
            Code::InvalidArgument,
            "not a well-formed call of a method of this server",
        ),
        ErrorReason::MessageTooLarge => (Code::ResourceExhausted, "a message is larger than its limit"),
        ErrorReason::UnknownMethod => (Code::Unimplemented, "no such method"),
        ErrorReason::UnsupportedEncoding => {
            (Code::Unimplemented, "messages compressed like this are not read")
        }
        ErrorReason::UnknownName => (Code::NotFound, "no such name"),
        ErrorReason::Internal | ErrorReason::Unspecified => (Code::Internal, "internal error"),
    }
}

/// The status with this reason in its `ErrorInfo`.
pub(super) fn status(reason: ErrorReason) -> Status {
    let (code, message) = meaning_of(reason);
    Status::with_error_details(code, message, error_details(reason))
}

impl From<AuthError> for Status {
    fn from(error: AuthError) -> Self {
        log(&error, 1);
        let reason = reason_of(&error);
        let (code, message) = meaning_of(reason);
        let mut details = error_details(reason);
        if let AuthError::InvalidFields(violations) = &error {
            for violation in violations {
                details.add_bad_request_violation(&violation.field, &violation.description);
            }
            return Self::with_error_details(code, text_of(violations), details);
        }
        if let AuthError::HashingBusy(busy) = &error {
            details.set_retry_info(Some(busy.retry_after));
        }
        if reason == ErrorReason::StoreFull {
            details.set_retry_info(Some(STORE_FULL_RETRY));
        }
        Self::with_error_details(code, message, details)
    }
}

fn text_of(violations: &[FieldViolation]) -> String {
    let texts: Vec<_> = violations.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// Logs an error of so many checks or of one call. What is the caller's doing is not logged.
fn log(error: &AuthError, count: usize) {
    let checks = (count > 1).then_some(count);
    match error {
        AuthError::InvalidSession
        | AuthError::InvalidCredentials
        | AuthError::UserNotFound
        | AuthError::UserDisabled
        | AuthError::EmailTaken
        | AuthError::EtagMismatch
        | AuthError::ReauthenticationRequired
        | AuthError::Raced
        // The attempt to complete the change has logged its cause.
        | AuthError::ChangePending
        | AuthError::InvalidFields(_) => {}
        AuthError::HashingBusy(_) => warn!(event = "hashing_busy", "too many passwords wait to be checked"),
        AuthError::Store(failure) if failure.is_full() => {
            warn!(event = "session_refused", cause = %causes(failure), "{failure}");
        }
        AuthError::Store(failure) => {
            error!(
                event = "store_failed",
                checks,
                cause = %causes(failure),
                "{failure}"
            );
        }
        AuthError::NoRandomness(failure) => log_internal(failure),
        AuthError::Interrupted(failure) => log_internal(failure),
    }
}

/// The errors of the checks of one batch: each has its reason, and all together one line in the log.
#[derive(Default)]
pub(super) struct BatchErrors {
    first: Option<AuthError>,
    count: usize,
}

impl BatchErrors {
    pub(super) fn reason_of(&mut self, error: AuthError) -> ErrorReason {
        let reason = reason_of(&error);
        if !matches!(error, AuthError::InvalidSession) {
            self.first.get_or_insert(error);
            self.count += 1;
        }
        reason
    }

    /// Logs the first error that was not the caller's doing, and how many there were: the store that failed one check of a batch
    /// fails the others for the same cause.
    pub(super) fn log(self) {
        if let Some(error) = self.first {
            log(&error, self.count);
        }
    }
}

/// The status for a defect of this program, logged.
pub(super) fn internal(failure: &(dyn StdError + 'static)) -> Status {
    log_internal(failure);
    status(ErrorReason::Internal)
}

fn log_internal(failure: &(dyn StdError + 'static)) {
    error!(
        event = "internal_error",
        cause = %causes(failure),
        "internal error"
    );
}

/// The status for a call that took longer than its deadline.
pub(super) fn deadline_exceeded() -> Status {
    status(ErrorReason::DeadlineExceeded)
}
