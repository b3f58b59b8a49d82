//! Why a check gave no session: "no" and "cannot tell" are different answers.

use crate::contract::CallFailure;
use tonic::Status;

/// Why a check gave no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// A definite no: the token is unknown, expired, revoked or malformed.
    #[error("the session token proves no session")]
    Invalid,
    /// It is unknown whether the token proves a session. Never read it as "logged out".
    #[error("cannot tell whether the session token proves a session: {0}")]
    CannotTell(CannotTell),
    /// sessiond does not answer this program: its own credential is missing, unknown or lacks the scope `sessions:check`. Says
    /// nothing about the session.
    #[error("sessiond refuses to answer this program: its own credential is unknown or lacks the scope")]
    CallerRefused,
}

/// What kept a check from an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotTell {
    /// sessiond cannot be reached, or cannot reach its store.
    #[error("sessiond or its store cannot be reached")]
    Unreachable,
    /// The deadline passed first.
    #[error("the deadline passed")]
    DeadlinePassed,
    /// sessiond, or this client, has too many checks waiting.
    #[error("too many checks are waiting")]
    Overloaded,
    /// The answer was none that the contract knows.
    #[error("the answer breaks the contract")]
    BrokenAnswer,
}

impl CheckError {
    /// The error that a failed check means.
    pub(super) fn from_status(status: &Status) -> Self {
        match CallFailure::of(status) {
            CallFailure::InvalidSession => Self::Invalid,
            // A check asks for no log-in, so this answer is not sessiond's.
            CallFailure::UnknownCaller | CallFailure::ForbiddenCaller | CallFailure::InvalidCredentials => {
                Self::CallerRefused
            }
            CallFailure::DeadlinePassed => Self::CannotTell(CannotTell::DeadlinePassed),
            CallFailure::Overloaded { retry_after: _ } => Self::CannotTell(CannotTell::Overloaded),
            CallFailure::Unavailable { retry_after: _ }
            | CallFailure::ChangePending
            | CallFailure::Raced
            | CallFailure::ServiceFailed => Self::CannotTell(CannotTell::Unreachable),
            CallFailure::InvalidFields(_)
            | CallFailure::NotFound
            | CallFailure::EmailTaken
            | CallFailure::EtagMismatch
            | CallFailure::UserDisabled
            | CallFailure::ReauthenticationRequired
            | CallFailure::Unsupported => Self::CannotTell(CannotTell::BrokenAnswer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;
    use tonic_types::{ErrorDetails, StatusExt as _};

    #[test]
    fn s_96_only_the_verdict_on_the_session_is_a_no() {
        let verdict = |domain: &str, reason: &str| {
            let details = ErrorDetails::with_error_info(reason, domain, std::collections::HashMap::new());
            CheckError::from_status(&Status::with_error_details(Code::Unauthenticated, "", details))
        };
        assert_eq!(verdict("auth.v1", "INVALID_SESSION"), CheckError::Invalid);
        assert_eq!(verdict("auth.v1", "SOMETHING_ELSE"), CheckError::CallerRefused);
        assert_eq!(verdict("elsewhere", "INVALID_SESSION"), CheckError::CallerRefused);
        for code in 0..=16 {
            let bare = Status::new(Code::from_i32(code), "");
            assert_ne!(CheckError::from_status(&bare), CheckError::Invalid, "{bare:?}");
        }
    }
}
