//! Errors: how a status says why, and how it is read.

use crate::{domain::FieldViolation, pb::ErrorReason};
use std::{collections::HashMap, error::Error as _, time::Duration};
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of every `ErrorInfo` of this contract.
pub const ERROR_DOMAIN: &str = "auth.v1";

/// What the proto puts before the name of every reason, and `ErrorInfo` leaves out.
const REASON_PREFIX: &str = "ERROR_REASON_";

/// The reason as `ErrorInfo` names it.
#[must_use]
pub fn reason_name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix(REASON_PREFIX).unwrap_or(name)
}

/// The details of a status with this reason.
#[must_use]
pub fn error_details(reason: ErrorReason) -> ErrorDetails {
    ErrorDetails::with_error_info(reason_name(reason), ERROR_DOMAIN, HashMap::new())
}

/// The reason that sessiond gave; `None` if the failure is not sessiond's, or it is one that this release does not know.
#[must_use]
pub fn reason_of(status: &Status) -> Option<ErrorReason> {
    let info = status.get_details_error_info()?;
    match info.domain == ERROR_DOMAIN {
        true => ErrorReason::from_str_name(&format!("{REASON_PREFIX}{}", info.reason)),
        false => None,
    }
}

/// What a failed call means to the program that made it: the one reading of a status.
///
/// Only sessiond's own word, told by its [`ErrorReason`], is a definite no. UNAUTHENTICATED alone is none: a proxy may say it, or
/// sessiond about the program's own credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallFailure {
    /// The session token is unknown, expired, revoked or malformed.
    InvalidSession,
    /// The log-in failed, for whatever reason.
    InvalidCredentials,
    /// The answering side does not know this program.
    UnknownCaller,
    /// This program may not make the call.
    ForbiddenCaller,
    /// These fields are missing or wrong.
    InvalidFields(Vec<FieldViolation>),
    /// There is no such user.
    NotFound,
    /// Another user has this email.
    EmailTaken,
    /// The user has changed since the etag was read.
    EtagMismatch,
    /// The user may not log in.
    UserDisabled,
    /// The log-in is too long ago.
    ReauthenticationRequired,
    /// Too much at once.
    Overloaded {
        /// When trying again makes sense, if sessiond said.
        retry_after: Option<Duration>,
    },
    /// sessiond cannot tell now, or was not reached.
    Unavailable {
        /// When trying again makes sense, if sessiond said.
        retry_after: Option<Duration>,
    },
    /// A change of the user that ends their sessions is recorded and completes by itself; until then the answer is unknown.
    ChangePending,
    /// Several changes met, and trying again is safe.
    Raced,
    /// The deadline passed first.
    DeadlinePassed,
    /// The answering side does not speak this release of the contract.
    Unsupported,
    /// The call failed in a way that says nothing of what was asked.
    ServiceFailed,
}

impl CallFailure {
    /// What this status means.
    #[must_use]
    pub fn of(status: &Status) -> Self {
        // A status with a source was made on this side: the service was not reached, or the connection broke.
        if status.source().is_some() {
            return match has_timed_out(status) {
                true => Self::DeadlinePassed,
                false => Self::Unavailable { retry_after: None },
            };
        }
        let reason = || reason_of(status);
        let retry_after = || status.get_details_retry_info()?.retry_delay;
        match status.code() {
            Code::Unauthenticated => match reason() {
                Some(ErrorReason::InvalidSession) => Self::InvalidSession,
                Some(ErrorReason::InvalidCredentials) => Self::InvalidCredentials,
                Some(_) | None => Self::UnknownCaller,
            },
            Code::PermissionDenied => Self::ForbiddenCaller,
            Code::Unavailable if reason() == Some(ErrorReason::ChangePending) => Self::ChangePending,
            Code::Unavailable => Self::Unavailable {
                retry_after: retry_after(),
            },
            // The request was wrong in itself, whatever is in its fields: a defect of the program that made it.
            Code::ResourceExhausted | Code::InvalidArgument
                if matches!(
                    reason(),
                    Some(ErrorReason::MessageTooLarge | ErrorReason::MalformedRequest)
                ) =>
            {
                Self::ServiceFailed
            }
            Code::ResourceExhausted => Self::Overloaded {
                retry_after: retry_after(),
            },
            Code::DeadlineExceeded | Code::Cancelled => Self::DeadlinePassed,
            Code::InvalidArgument => Self::InvalidFields(violations_of(status)),
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::EmailTaken,
            Code::Aborted if reason() == Some(ErrorReason::EtagMismatch) => Self::EtagMismatch,
            Code::Aborted => Self::Raced,
            Code::FailedPrecondition => match reason() {
                Some(ErrorReason::ReauthenticationRequired) => Self::ReauthenticationRequired,
                Some(ErrorReason::UserDisabled) => Self::UserDisabled,
                Some(_) | None => Self::ServiceFailed,
            },
            Code::Unimplemented | Code::OutOfRange => Self::Unsupported,
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Self::ServiceFailed,
        }
    }
}

/// Whether the deadline ended the call. The code alone does not show it: a connection that breaks is "cancelled" too.
fn has_timed_out(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn violations_of(status: &Status) -> Vec<FieldViolation> {
    let violations = status
        .get_details_bad_request()
        .map(|bad_request| bad_request.field_violations);
    let violations = violations.unwrap_or_default().into_iter();
    violations
        .map(|violation| FieldViolation::new(violation.field, violation.description))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: Code, domain: &str, reason: &str) -> CallFailure {
        let details = ErrorDetails::with_error_info(reason, domain, HashMap::new());
        CallFailure::of(&Status::with_error_details(code, "", details))
    }

    #[test]
    fn every_reason_is_read_back_from_its_status() {
        let mut known = 0;
        for number in 0..100 {
            let Ok(reason) = ErrorReason::try_from(number) else {
                continue;
            };
            let status = Status::with_error_details(Code::Internal, "", error_details(reason));
            assert_eq!(reason_of(&status), Some(reason));
            known += 1;
        }
        assert!(known > 10);
        assert_eq!(reason_of(&Status::internal("")), None);
    }

    #[test]
    fn s_96_only_the_services_own_word_is_a_definite_no() {
        use CallFailure::{InvalidCredentials, InvalidSession, UnknownCaller};
        let unauthenticated = |domain, reason| failure(Code::Unauthenticated, domain, reason);
        assert_eq!(unauthenticated(ERROR_DOMAIN, "INVALID_SESSION"), InvalidSession);
        assert_eq!(
            unauthenticated(ERROR_DOMAIN, "INVALID_CREDENTIALS"),
            InvalidCredentials
        );
        assert_eq!(unauthenticated(ERROR_DOMAIN, "SOMETHING_NEWER"), UnknownCaller);
        assert_eq!(unauthenticated(ERROR_DOMAIN, "STORE_UNAVAILABLE"), UnknownCaller);
        assert_eq!(unauthenticated("proxy.example", "INVALID_SESSION"), UnknownCaller);
        assert_eq!(CallFailure::of(&Status::unauthenticated("who")), UnknownCaller);
        for code in (0..=16).map(Code::from_i32) {
            for reason in ["INVALID_SESSION", "INVALID_CREDENTIALS", "STORE_UNAVAILABLE", ""] {
                let is_no = matches!(
                    failure(code, ERROR_DOMAIN, reason),
                    InvalidSession | InvalidCredentials
                );
                assert!(!is_no || code == Code::Unauthenticated, "{code:?} {reason}");
            }
        }
    }

    #[test]
    fn a_broken_connection_and_a_deadline_of_our_own_are_told_apart() {
        let broken = Status::from_error("connection reset".into());
        assert_eq!(broken.code(), Code::Unknown);
        assert_eq!(
            CallFailure::of(&broken),
            CallFailure::Unavailable { retry_after: None }
        );
        let expired = Status::from_error(Box::new(TimeoutExpired(())));
        assert_eq!(CallFailure::of(&expired), CallFailure::DeadlinePassed);
        let cancelled = Status::cancelled("Timeout expired");
        assert_eq!(CallFailure::of(&cancelled), CallFailure::DeadlinePassed);
    }

    #[test]
    fn the_delay_of_retry_info_is_read() {
        let delay = Some(Duration::from_secs(7));
        let details = ErrorDetails::with_retry_info(delay);
        let status = Status::with_error_details(Code::ResourceExhausted, "", details);
        assert_eq!(
            CallFailure::of(&status),
            CallFailure::Overloaded { retry_after: delay }
        );
    }
}
