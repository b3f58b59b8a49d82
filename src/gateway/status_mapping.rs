//! What a failed RPC means to whoever asked the gateway: one translation, gRPC status to problem.

use super::problem::{Problem, ProblemKind, Violation};
use crate::pb::ErrorReason;
use std::{error::Error as _, time::Duration};
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt as _;

const DOMAIN: &str = "auth.v1";

/// The problem that this failure is.
///
/// A definite no is 401. What nobody can tell is 503 or 504, and what is wrong between the gateway and the service is 502 or 403:
/// none of these may look like "logged out".
pub(super) fn problem_of(status: &Status) -> Problem {
    // A status with a source was made on this side: the service was not reached, or the connection broke.
    if status.source().is_some() {
        return match has_timed_out(status) {
            true => ProblemKind::TimedOut.into(),
            false => ProblemKind::Unavailable.into(),
        };
    }
    let reason = reason_of(status);
    let because = |wanted: ErrorReason| reason == Some(wanted);
    let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    match status.code() {
        Code::Unauthenticated if because(ErrorReason::InvalidSession) => ProblemKind::NoSession.into(),
        Code::Unauthenticated if because(ErrorReason::InvalidCredentials) => {
            ProblemKind::WrongCredentials.into()
        }
        // Not the user but the gateway is unknown to the service.
        Code::Unauthenticated => ProblemKind::ServiceFailed.into(),
        Code::PermissionDenied => ProblemKind::GatewayForbidden.into(),
        Code::Unavailable => Problem::from(ProblemKind::Unavailable).retry_after(retry_after),
        Code::ResourceExhausted => {
            let delay = retry_after.unwrap_or(Duration::from_secs(1));
            Problem::from(ProblemKind::TooMany).retry_after(Some(delay))
        }
        Code::DeadlineExceeded | Code::Cancelled => ProblemKind::TimedOut.into(),
        Code::InvalidArgument => Problem::invalid_fields(violations_of(status)),
        Code::NotFound => ProblemKind::NotFound.into(),
        Code::AlreadyExists => ProblemKind::EmailTaken.into(),
        Code::Aborted if because(ErrorReason::EtagMismatch) => ProblemKind::Changed.into(),
        // Two changes of one user met; trying again is safe.
        Code::Aborted => Problem::from(ProblemKind::Unavailable).retry_after(Some(Duration::from_secs(1))),
        Code::FailedPrecondition if because(ErrorReason::ReauthenticationRequired) => {
            ProblemKind::ReauthenticationRequired.into()
        }
        Code::FailedPrecondition if because(ErrorReason::UserDisabled) => ProblemKind::Forbidden.into(),
        Code::FailedPrecondition
        | Code::Ok
        | Code::Unknown
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => ProblemKind::ServiceFailed.into(),
    }
}

/// Whether the deadline is what ended the call. The code does not tell: a connection that breaks off is "cancelled" too.
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

/// The reason that the service gave; `None` if whoever failed was not the service, or it is one that this release does not know.
pub(super) fn reason_of(status: &Status) -> Option<ErrorReason> {
    let info = status.get_details_error_info()?;
    match info.domain == DOMAIN {
        true => ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason)),
        false => None,
    }
}

fn violations_of(status: &Status) -> Vec<Violation> {
    let Some(bad_request) = status.get_details_bad_request() else {
        return Vec::new();
    };
    let violations = bad_request.field_violations.into_iter();
    violations
        .map(|violation| {
            // The routes call a field by its last name: `password.email` of the contract is their `email`.
            let field = violation.field.rsplit('.').next().unwrap_or_default();
            Violation::new(field, violation.description)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tonic_types::{ErrorDetails, FieldViolation};

    fn failure(code: Code, reason: &str) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, DOMAIN, []);
        Status::with_error_details(code, "", details)
    }

    fn kind(status: &Status) -> ProblemKind {
        problem_of(status).kind()
    }

    #[test]
    fn only_the_services_own_word_is_a_definite_no() {
        assert_eq!(
            kind(&failure(Code::Unauthenticated, "INVALID_SESSION")),
            ProblemKind::NoSession
        );
        assert_eq!(
            kind(&failure(Code::Unauthenticated, "INVALID_CREDENTIALS")),
            ProblemKind::WrongCredentials
        );
        assert_eq!(
            kind(&failure(Code::Unauthenticated, "SOMETHING_NEWER")),
            ProblemKind::ServiceFailed
        );
        assert_eq!(
            kind(&Status::unauthenticated("who are you")),
            ProblemKind::ServiceFailed
        );
        let mut details = ErrorDetails::new();
        details.set_error_info("INVALID_SESSION", "proxy.example", []);
        let foreign = Status::with_error_details(Code::Unauthenticated, "", details);
        assert_eq!(kind(&foreign), ProblemKind::ServiceFailed);
    }

    #[test]
    fn s_96_no_other_code_ever_becomes_401() {
        for code in (0..=16)
            .map(Code::from_i32)
            .filter(|code| *code != Code::Unauthenticated)
        {
            for reason in ["INVALID_SESSION", "INVALID_CREDENTIALS", "STORE_UNAVAILABLE", ""] {
                let kind = kind(&failure(code, reason));
                assert!(
                    !matches!(kind, ProblemKind::NoSession | ProblemKind::WrongCredentials),
                    "{code:?} {reason}"
                );
            }
        }
    }

    #[test]
    fn every_row_of_the_error_table_has_its_answer() {
        let rows = [
            (failure(Code::PermissionDenied, ""), ProblemKind::GatewayForbidden),
            (
                failure(Code::Unavailable, "STORE_UNAVAILABLE"),
                ProblemKind::Unavailable,
            ),
            (
                failure(Code::ResourceExhausted, "HASHING_BUSY"),
                ProblemKind::TooMany,
            ),
            (
                failure(Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
                ProblemKind::TimedOut,
            ),
            (Status::cancelled("Timeout expired"), ProblemKind::TimedOut),
            (
                failure(Code::InvalidArgument, "INVALID_FIELD"),
                ProblemKind::InvalidField,
            ),
            (failure(Code::NotFound, "USER_NOT_FOUND"), ProblemKind::NotFound),
            (
                failure(Code::AlreadyExists, "EMAIL_TAKEN"),
                ProblemKind::EmailTaken,
            ),
            (failure(Code::Aborted, "ETAG_MISMATCH"), ProblemKind::Changed),
            (failure(Code::Aborted, "RACED"), ProblemKind::Unavailable),
            (
                failure(Code::FailedPrecondition, "REAUTHENTICATION_REQUIRED"),
                ProblemKind::ReauthenticationRequired,
            ),
            (
                failure(Code::FailedPrecondition, "USER_DISABLED"),
                ProblemKind::Forbidden,
            ),
            (failure(Code::Internal, "INTERNAL"), ProblemKind::ServiceFailed),
            (Status::unknown(""), ProblemKind::ServiceFailed),
            (Status::unimplemented(""), ProblemKind::ServiceFailed),
        ];
        for (status, expected) in rows {
            assert_eq!(kind(&status), expected, "{status:?}");
        }
    }

    #[test]
    fn a_broken_connection_and_a_deadline_of_our_own_are_told_apart() {
        let broken = Status::from_error("connection reset".into());
        assert_eq!(broken.code(), Code::Unknown);
        assert_eq!(kind(&broken), ProblemKind::Unavailable);
        let expired = Status::from_error(Box::new(TimeoutExpired(())));
        assert_eq!(kind(&expired), ProblemKind::TimedOut);
    }

    #[test]
    fn the_delay_of_retry_info_is_handed_on() {
        let mut details = ErrorDetails::new();
        details.set_retry_info(Some(Duration::from_secs(7)));
        let status = Status::with_error_details(Code::ResourceExhausted, "", details);
        let expected = Problem::from(ProblemKind::TooMany).retry_after(Some(Duration::from_secs(7)));
        assert_eq!(problem_of(&status), expected);
    }

    #[test]
    fn field_violations_take_the_routes_names() {
        let details = ErrorDetails::with_bad_request(vec![
            FieldViolation::new("password.email", "must be an address"),
            FieldViolation::new("user.first_name", "must be short"),
        ]);
        let status = Status::with_error_details(Code::InvalidArgument, "", details);
        let expected = Problem::invalid_fields(vec![
            Violation::new("email", "must be an address"),
            Violation::new("first_name", "must be short"),
        ]);
        assert_eq!(problem_of(&status), expected);
    }
}
