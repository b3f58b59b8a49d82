//! Check a session: the hot path.

use super::{Auth, AuthError};
use crate::{
    domain::{LiveSession, Session, Timestamp, TokenDigest, User},
    store::{Lookup, SessionKey, StoreError},
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

/// Checks of one batch that wait for a store at the same time.
const CONCURRENT_CHECKS: usize = 256;

/// A session that a token proves, and when it did.
#[derive(Debug, Clone, Copy)]
pub struct Checked {
    /// The session.
    pub session: LiveSession,
    /// The instant that the answer is true for.
    pub at: Timestamp,
}

/// A session and its user, whole.
#[derive(Debug)]
pub struct CurrentUser {
    /// The session's user.
    pub user: User,
    /// The session.
    pub session: Session,
}

/// What a check of a token comes to: known, or under way.
///
/// So a check that a store answers from memory allocates and awaits nothing.
pub enum Check {
    /// The outcome.
    Ready(Result<Checked, AuthError>),
    /// The store has to be waited for.
    Pending(PendingCheck),
}

impl Check {
    /// Waits for the outcome, if it is not at hand.
    ///
    /// # Errors
    /// [`AuthError::InvalidSession`] is a definite no; [`AuthError::Store`]: unknown.
    pub async fn wait(self) -> Result<Checked, AuthError> {
        match self {
            Self::Ready(outcome) => outcome,
            Self::Pending(check) => check.await,
        }
    }
}

/// A check that waits for its store. The future is lazy: dropping it before it was polled sends nothing.
pub struct PendingCheck {
    auth: Auth,
    digest: TokenDigest,
    lookup: Pin<Box<dyn Future<Output = Result<Option<LiveSession>, StoreError>> + Send>>,
}

impl Future for PendingCheck {
    type Output = Result<Checked, AuthError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let found = ready!(self.lookup.as_mut().poll(cx));
        Poll::Ready(self.auth.judge_late(found, &self.digest))
    }
}

impl Auth {
    /// Checks a token: which session does it prove? Counts as activity.
    pub fn check(&self, token: impl AsRef<[u8]>) -> Check {
        let Some(digest) = TokenDigest::of_presented(token) else {
            return Check::Ready(Err(AuthError::InvalidSession));
        };
        let now = self.parts.clock.now();
        match self.parts.sessions.check(&digest, now) {
            Lookup::Ready(found) => Check::Ready(self.judge(found, &digest, now)),
            Lookup::Pending(lookup) => Check::Pending(PendingCheck {
                auth: self.clone(),
                digest,
                lookup,
            }),
        }
    }

    /// [`check`](Self::check) for many tokens: in their order. `conclude` turns each result into what the caller collects.
    pub async fn check_many<T: AsRef<[u8]>, R>(
        &self,
        tokens: &[T],
        mut conclude: impl FnMut(Result<Checked, AuthError>) -> R,
    ) -> Vec<R> {
        let now = self.parts.clock.now();
        // All digests before the first look-up: nothing in this loop depends on what came before, so the processor works on
        // several at once.
        let digests: Vec<_> = tokens.iter().map(TokenDigest::of_presented).collect();
        let mut results = Vec::with_capacity(tokens.len());
        let mut waiting = FuturesUnordered::new();
        for (index, digest) in digests.iter().enumerate() {
            let result = match digest {
                None => Err(AuthError::InvalidSession),
                Some(digest) => match self.parts.sessions.check(digest, now) {
                    Lookup::Ready(found) => self.judge(found, digest, now),
                    Lookup::Pending(found) => {
                        waiting.push(async move { (index, digest, found.await) });
                        // Holds the place.
                        Err(AuthError::InvalidSession)
                    }
                },
            };
            results.push(conclude(result));
            if waiting.len() >= CONCURRENT_CHECKS
                && let Some((index, digest, found)) = waiting.next().await
            {
                results[index] = conclude(self.judge_late(found, digest));
            }
        }
        while let Some((index, digest, found)) = waiting.next().await {
            results[index] = conclude(self.judge_late(found, digest));
        }
        results
    }

    /// As [`judge`](Self::judge), of what had to be waited for.
    ///
    /// The instant of the answer counts. While a store hangs, another check may answer that the session has expired; activity that
    /// is noted as of the question would bring it back.
    fn judge_late(
        &self,
        found: Result<Option<LiveSession>, StoreError>,
        digest: &TokenDigest,
    ) -> Result<Checked, AuthError> {
        self.judge(found, digest, self.parts.clock.now())
    }

    /// What a check of a token comes to, given what the store holds under its digest.
    fn judge(
        &self,
        found: Result<Option<LiveSession>, StoreError>,
        digest: &TokenDigest,
        now: Timestamp,
    ) -> Result<Checked, AuthError> {
        match found? {
            Some(session) if self.unsettled.contains(session.user_id) => Err(AuthError::ChangePending),
            Some(session) if !session.is_expired(now) => Ok(Checked {
                session: self.seen(session, digest, now),
                at: now,
            }),
            Some(_) | None => Err(AuthError::InvalidSession),
        }
    }

    /// The session that this token proves, and its user. Counts as activity.
    ///
    /// # Errors
    /// As [`Check::wait`]; [`AuthError::ReauthenticationRequired`] if the user proved who they are longer than
    /// `max_auth_age` ago.
    pub async fn current_user(
        &self,
        token: &str,
        max_auth_age: Option<Duration>,
    ) -> Result<CurrentUser, AuthError> {
        let Some(digest) = TokenDigest::of_presented(token) else {
            return Err(AuthError::InvalidSession);
        };
        let now = self.parts.clock.now();
        let Some(mut session) = self.parts.sessions.get(&digest, now).await? else {
            return Err(AuthError::InvalidSession);
        };
        if session.live.is_expired(now) {
            return Err(AuthError::InvalidSession);
        }
        if self.unsettled.contains(session.live.user_id) {
            return Err(AuthError::ChangePending);
        }
        if max_auth_age.is_some_and(|limit| now.since(session.live.authenticated_at) > limit) {
            return Err(AuthError::ReauthenticationRequired);
        }
        let user = match self.parts.users.by_id(session.live.user_id).await? {
            Some(record) if record.user.disabled_at.is_none() => record.user,
            // The user's sessions are about to end, or the call that disabled or deleted the user failed half-way. This session
            // ends here, before the answer says so: checks do not read the user, and must give the same answer.
            Some(_) | None => {
                let key = SessionKey::Id(session.live.id);
                self.parts.sessions.destroy(key, now).await?;
                return Err(AuthError::InvalidSession);
            }
        };
        // Two stores were waited for: see `judge_late`.
        let now = self.parts.clock.now();
        if session.live.is_expired(now) {
            return Err(AuthError::InvalidSession);
        }
        session.live = self.seen(session.live, &digest, now);
        Ok(CurrentUser { user, session })
    }

    /// Notes the activity, if enough time has passed to be worth it, and returns the session as it is now.
    fn seen(&self, session: LiveSession, digest: &TokenDigest, now: Timestamp) -> LiveSession {
        if !session.is_touch_due(now) {
            return session;
        }
        self.parts.sessions.touch(&session, digest, now);
        LiveSession {
            last_seen_at: now,
            ..session
        }
    }
}
