//! End, list and rotate sessions.

use super::{Auth, AuthError};
use crate::{
    domain::{FieldViolation, Session, SessionId, SessionToken, Timestamp, TokenDigest, UserId},
    store::{Rotation, SessionKey},
};
use std::time::Duration;
use tracing::info;

/// How long an old token may go on working after a rotation, at most.
const MAX_GRACE: Duration = Duration::from_secs(60);

/// A session's new token.
#[derive(Debug)]
pub struct Rotated {
    /// The secret, shown this once.
    pub token: SessionToken,
    /// The session.
    pub session: Session,
}

/// Whose sessions to list.
#[derive(Debug)]
pub enum SessionOwner {
    /// This user's.
    User(UserId),
    /// Those of the user whom this token proves, text as presented.
    Token(String),
}

/// One page of sessions, newest first.
#[derive(Debug)]
pub struct SessionsPage {
    /// The sessions.
    pub sessions: Vec<Session>,
    /// Which of them the request's token proves, if it came with one.
    pub current: Option<SessionId>,
    /// Where the next page starts; `None`: there is none.
    pub next: Option<SessionId>,
}

/// Whose sessions to revoke.
#[derive(Debug, Clone, Copy)]
pub enum RevocationTarget {
    /// One user's.
    User {
        /// Whose.
        user: UserId,
        /// The session to spare.
        except: Option<SessionId>,
    },
    /// Everyone's.
    Everyone,
}

impl Auth {
    /// Ends one session and says whether it lived. `None` stands for a text that cannot be a token:
    /// there is nothing to end.
    ///
    /// # Errors
    /// [`AuthError::Store`]: the session may have ended or not; asking again is safe.
    pub async fn destroy(&self, key: Option<SessionKey>) -> Result<bool, AuthError> {
        let Some(key) = key else {
            return Ok(false);
        };
        let destroyed = self.parts.sessions.destroy(key, self.parts.clock.now()).await?;
        if let Some((session, user)) = destroyed {
            info!(event = "session_destroyed", session_id = %session, user_id = %user, "session destroyed");
        }
        Ok(destroyed.is_some())
    }

    /// Live sessions with ids less than `before`, newest first, at most `page_size`.
    ///
    /// # Errors
    /// [`AuthError::InvalidSession`] if the owner is a token that proves no session.
    pub async fn list_sessions(
        &self,
        owner: SessionOwner,
        before: Option<SessionId>,
        page_size: u32,
    ) -> Result<SessionsPage, AuthError> {
        let (user, current) = match owner {
            SessionOwner::User(user) => (user, None),
            SessionOwner::Token(token) => {
                let session = self.check(&token).wait().await?.session;
                (session.user_id, Some(session.id))
            }
        };
        let now = self.parts.clock.now();
        let mut sessions = self
            .parts
            .sessions
            .list(user, before, page_size.saturating_add(1), now)
            .await?;
        let has_more = sessions.len() > page_size as usize;
        sessions.truncate(page_size as usize);
        let next = sessions
            .last()
            .filter(|_| has_more)
            .map(|session| session.live.id);
        Ok(SessionsPage {
            sessions,
            current,
            next,
        })
    }

    /// Ends many sessions and says how many lived.
    ///
    /// # Errors
    /// [`AuthError::Store`]: they may have ended or not; asking again is safe.
    pub async fn revoke(&self, target: RevocationTarget) -> Result<u64, AuthError> {
        let now = self.parts.clock.now();
        match target {
            RevocationTarget::User { user, except } => {
                let count = self.parts.sessions.revoke_user(user, except, now).await?;
                info!(event = "user_revoked", user_id = %user, count, "all sessions of a user revoked");
                Ok(count)
            }
            RevocationTarget::Everyone => {
                let count = self.parts.sessions.revoke_everyone(now).await?;
                info!(event = "everyone_revoked", count, "everyone's sessions revoked");
                Ok(count)
            }
        }
    }

    /// Gives a session a new token. The old one works on for `grace`, if that is given.
    ///
    /// # Errors
    /// [`AuthError::InvalidSession`]; [`AuthError::InvalidFields`] if the grace is too long.
    pub async fn rotate(&self, token: &str, grace: Option<Duration>) -> Result<Rotated, AuthError> {
        let grace = grace.unwrap_or_default();
        if grace > MAX_GRACE {
            return Err(FieldViolation::new("grace", "must be at most 60 seconds").into());
        }
        let from = TokenDigest::of_presented(token).ok_or(AuthError::InvalidSession)?;
        self.rotate_digest(from, grace, false).await
    }

    /// Replaces the token with this digest. `is_reauthenticated`: the user has just proved who they are.
    pub(super) async fn rotate_digest(
        &self,
        from: TokenDigest,
        grace: Duration,
        is_reauthenticated: bool,
    ) -> Result<Rotated, AuthError> {
        let now = self.parts.clock.now();
        let token = self.parts.tokens.session_token()?;
        let rotation = Rotation {
            from,
            to: token.digest(),
            // Without a grace the old token ends whatever any clock says: the clock of another process may be behind this one's.
            grace_until: match grace.is_zero() {
                true => Timestamp::default(),
                false => now.after(grace),
            },
            authenticated_at: is_reauthenticated.then_some(now),
        };
        match self.parts.sessions.rotate(rotation, now).await? {
            Some(session) => {
                info!(event = "session_rotated", session_id = %session.live.id, "session token rotated");
                Ok(Rotated { token, session })
            }
            None => Err(AuthError::InvalidSession),
        }
    }
}
