//! Why a use case did not succeed.

use crate::{
    domain::{FieldViolation, NoRandomness},
    password::HashingBusy,
    store::StoreError,
};

/// Why a use case did not succeed. Nothing was changed, except as [`AuthError::Store`] and [`AuthError::Interrupted`] say.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The session token is unknown, expired, revoked or malformed: one answer, so that nobody learns that a token once lived.
    #[error("the session token proves no session")]
    InvalidSession,
    /// The log-in failed. Unknown email, wrong password, disabled user and user without a password are one answer.
    #[error("wrong email or password")]
    InvalidCredentials,
    /// There is no such user.
    #[error("no such user")]
    UserNotFound,
    /// The user may not log in.
    #[error("the user is disabled")]
    UserDisabled,
    /// Another user has this email.
    #[error("another user has this email")]
    EmailTaken,
    /// The user has changed since the etag was read.
    #[error("the user has changed since the etag was read")]
    EtagMismatch,
    /// The user proved who they are longer ago than the caller accepts.
    #[error("the log-in is older than max_auth_age")]
    ReauthenticationRequired,
    /// The user or their sessions were changed again and again meanwhile. Trying again is safe.
    #[error("the user was changed meanwhile, several times over")]
    Raced,
    /// Fields of the request break their rules.
    #[error("invalid fields")]
    InvalidFields(Vec<FieldViolation>),
    /// Too many passwords wait to be checked.
    #[error("too many passwords wait to be checked")]
    HashingBusy(#[from] HashingBusy),
    /// The store cannot tell. What was asked for may have happened or not.
    #[error("the store cannot be asked now")]
    Store(#[from] StoreError),
    /// A change of the user is recorded and not completed. It completes by itself; until then the user's sessions and log-ins
    /// wait for it.
    #[error("a change of the user is recorded and completes by itself")]
    ChangePending,
    /// There is no randomness to make a token of.
    #[error("no randomness")]
    NoRandomness(#[from] NoRandomness),
    /// A step was cut off by a defect or by the end of the process. What was asked for may have happened or not.
    #[error("interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl From<FieldViolation> for AuthError {
    fn from(violation: FieldViolation) -> Self {
        Self::InvalidFields(vec![violation])
    }
}

impl From<Vec<FieldViolation>> for AuthError {
    fn from(violations: Vec<FieldViolation>) -> Self {
        Self::InvalidFields(violations)
    }
}
