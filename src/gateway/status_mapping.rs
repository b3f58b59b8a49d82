//! What a failed RPC means to whoever asked the gateway: one translation, gRPC status to problem.

use super::problem::{Problem, ProblemKind, Violation};
use crate::{contract::CallFailure, domain::FieldViolation};
use std::time::Duration;
use tonic::Status;

/// When to come back if the service does not say.
const SOON: Duration = Duration::from_secs(1);

/// The problem that this failure is.
///
/// A definite no is 401. "Cannot tell" is 503 or 504, and a fault between the gateway and the service is 502 or 403: none of these
/// may look like "logged out".
pub(super) fn problem_of(status: &Status) -> Problem {
    match CallFailure::of(status) {
        CallFailure::InvalidSession => ProblemKind::NoSession.into(),
        CallFailure::InvalidCredentials => ProblemKind::WrongCredentials.into(),
        CallFailure::ForbiddenCaller => ProblemKind::GatewayForbidden.into(),
        CallFailure::InvalidFields(violations) => {
            Problem::invalid_fields(violations.into_iter().map(violation).collect())
        }
        CallFailure::NotFound => ProblemKind::NotFound.into(),
        CallFailure::EmailTaken => ProblemKind::EmailTaken.into(),
        CallFailure::EtagMismatch => ProblemKind::Changed.into(),
        CallFailure::UserDisabled => ProblemKind::Forbidden.into(),
        CallFailure::ReauthenticationRequired => ProblemKind::ReauthenticationRequired.into(),
        CallFailure::Overloaded { retry_after } => {
            Problem::from(ProblemKind::TooMany).retry_after(retry_after.or(Some(SOON)))
        }
        CallFailure::Unavailable { retry_after } => {
            Problem::from(ProblemKind::Unavailable).retry_after(retry_after)
        }
        CallFailure::ChangePending => Problem::from(ProblemKind::ChangePending).retry_after(Some(SOON)),
        CallFailure::Raced => Problem::from(ProblemKind::Unavailable).retry_after(Some(SOON)),
        CallFailure::DeadlinePassed => ProblemKind::TimedOut.into(),
        // Not the user but the gateway is unknown to the service.
        CallFailure::UnknownCaller | CallFailure::Unsupported | CallFailure::ServiceFailed => {
            ProblemKind::ServiceFailed.into()
        }
    }
}

/// The routes call a field by its last name: `password.email` of the contract is their `email`.
fn violation(violation: FieldViolation) -> Violation {
    let field = violation.field.rsplit('.').next().unwrap_or_default();
    Violation::new(field, violation.description)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::ERROR_DOMAIN;
    use tonic::Code;
    use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

    fn failure(code: Code, reason: &str) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, ERROR_DOMAIN, []);
        Status::with_error_details(code, "", details)
    }

    fn kind(status: &Status) -> ProblemKind {
        problem_of(status).kind()
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
            (
                failure(Code::Unavailable, "CHANGE_PENDING"),
                ProblemKind::ChangePending,
            ),
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
