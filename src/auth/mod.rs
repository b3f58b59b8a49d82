//! The use cases: log in, check, log out, rotate, revoke, manage users.
//!
//! Every decision is made here or in [`domain`](crate::domain). Stores keep what they are given, `password` hashes, and nothing
//! here knows how a request came in.

mod check;
mod error;
mod log_in;
mod passwords;
mod sessions;
mod user_changes;
mod users;

pub use check::{Check, Checked, CurrentUser, PendingCheck};
pub use error::AuthError;
pub use log_in::{Credential, LogIn, LoggedIn};
pub use passwords::{NewPassword, PasswordSubject};
pub use sessions::{RevocationTarget, Rotated, SessionOwner, SessionsPage};
pub use user_changes::ChangedUser;
pub use users::{NewUser, Stats, UserChanges, UserKey, UsersPage};

use crate::{
    domain::{Clock, SessionLimits, TokenSource},
    password::PasswordHasher,
    store::{RevocationLog, SessionStore, StoreError, UserStore},
};
use std::{future::Future, sync::Arc};
use user_changes::UnsettledUsers;

/// What the use cases work with.
pub struct AuthParts {
    /// Where users live.
    pub users: Arc<dyn UserStore>,
    /// Where sessions live.
    pub sessions: Arc<dyn SessionStore>,
    /// Checks and hashes passwords.
    pub passwords: PasswordHasher,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where tokens come from.
    pub tokens: Arc<dyn TokenSource>,
    /// The operator's ceilings.
    pub limits: SessionLimits,
}

/// The use cases. A cheap handle: clones share everything.
#[derive(Clone)]
pub struct Auth {
    parts: Arc<AuthParts>,
    unsettled: Arc<UnsettledUsers>,
}

impl Auth {
    /// The use cases over these parts.
    #[must_use]
    pub fn new(parts: AuthParts) -> Self {
        Self {
            parts: Arc::new(parts),
            unsettled: Arc::default(),
        }
    }

    /// Whether the stores can be asked now.
    ///
    /// # Errors
    /// The store's.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.parts.sessions.ping().await?;
        self.parts.users.ping().await
    }

    /// Whether the session store has no room for new sessions, as of the last ping or log-in.
    #[must_use]
    pub fn is_store_full(&self) -> bool {
        self.parts.sessions.is_full()
    }

    /// The log of revocations, for clients that cache answers.
    #[must_use]
    pub fn revocations(&self) -> &RevocationLog {
        self.parts.sessions.revocations()
    }
}

/// Runs a use case of several steps to its end, even if its caller stops waiting: half of the steps would leave a state that no
/// caller asked for.
async fn to_its_end<T: Send + 'static>(
    steps: impl Future<Output = Result<T, AuthError>> + Send + 'static,
) -> Result<T, AuthError> {
    use tracing::Instrument as _;
    match tokio::spawn(steps.in_current_span()).await {
        Ok(outcome) => outcome,
        Err(failure) => Err(AuthError::Interrupted(failure)),
    }
}
