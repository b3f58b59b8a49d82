//! What can go wrong between a question and the server's answer.

use crate::store::{Operation, StoreError};
use tokio_postgres::error::SqlState;

/// Why there is no answer. For the log: holds no value of a statement.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServerError {
    /// The server reported no. Its details are left out: they quote keys, which are digests and addresses here.
    #[error("{message} (SQLSTATE {})", code.code())]
    Refused { code: SqlState, message: String },
    /// The connection broke, or the answer is not what the driver expects.
    #[error(transparent)]
    Broken(tokio_postgres::Error),
    /// The answer holds something that no release up to this one has written.
    #[error("a stored {0} cannot be read")]
    Unreadable(&'static str),
    /// No answer in time.
    #[error("the server did not answer in time")]
    Unanswered,
    /// There is no connection now.
    #[error("there is no connection to the server")]
    NotConnected,
}

impl From<tokio_postgres::Error> for ServerError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(reported) => Self::Refused {
                code: reported.code().clone(),
                message: reported.message().to_owned(),
            },
            None => Self::Broken(error),
        }
    }
}

impl ServerError {
    /// The failure of an operation.
    pub(super) fn at(self, operation: Operation) -> StoreError {
        StoreError::new(operation, self)
    }

    /// Whether a row was not written because another has its value in the unique column of this constraint.
    pub(super) fn is_taken(error: &tokio_postgres::Error, constraint: &str) -> bool {
        error.as_db_error().is_some_and(|reported| {
            *reported.code() == SqlState::UNIQUE_VIOLATION && reported.constraint() == Some(constraint)
        })
    }
}
