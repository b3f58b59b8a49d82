//! Changes of a user that end their sessions: a new password, disabling, deletion.
//!
//! Users and sessions may live in two stores. Such a change is three commits, in this order:
//!
//! 1. It is recorded as pending, with the user. From here on nobody can log the user in.
//! 2. The user's sessions end.
//! 3. It is applied to the user, and nothing is pending any more.
//!
//! A log-in reads the epoch, then the user, then creates a session under that epoch. If it read the user before step 1, its
//! session ends in step 2 or is not created, because the epoch has moved; if after, it sees what is pending, or the user as
//! changed. So no session of before outlives the change.
//!
//! A change that is recorded is completed, whatever fails: by the process that recorded it, or by any other that finds it
//! ([`Auth::complete_pending_changes`]). While this process knows of one that it could not complete, it does not vouch for the
//! user's sessions: a check answers "cannot tell".

use super::{Auth, AuthError, Rotated, to_its_end};
use crate::{
    domain::{ChangeId, SessionId, TokenDigest, UserId},
    store::{PendingChange, ReplacedHash, StoreError, UserChange, UserRecord},
};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{sync::Notify, time::sleep};
use tracing::{info, warn};

/// How often a process looks for changes that another one has left. A change that is there at two looks is completed.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How soon a process tries again what it could not complete itself.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Pending changes that a process looks at together.
const CHANGES_AT_ONCE: u32 = 100_000;

/// How long a change waits for another one of the same user: [`ATTEMPTS`] times this.
const PAUSE: Duration = Duration::from_millis(20);

const ATTEMPTS: usize = 10;

/// The session of a user who changes something about themselves: it goes on, with another token.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeptSession {
    pub(super) id: SessionId,
    pub(super) digest: TokenDigest,
}

/// A change that is done.
#[derive(Debug)]
pub struct ChangedUser {
    /// The session that goes on, with its new token, if one was to be kept.
    pub kept: Option<Rotated>,
}

/// Users of whom this process knows a change that it could not complete, or may not know one.
#[derive(Debug, Default)]
pub(super) struct UnsettledUsers {
    /// What is in `users`: nearly always 0, so that a check takes no lock.
    count: AtomicUsize,
    users: Mutex<HashSet<UserId>>,
    added: Notify,
}

impl UnsettledUsers {
    /// Whether this process cannot vouch for the sessions of this user.
    pub(super) fn contains(&self, user: UserId) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.users.lock().contains(&user)
    }

    fn add(&self, user: UserId) {
        let mut users = self.users.lock();
        users.insert(user);
        self.count.store(users.len(), Ordering::Release);
        self.added.notify_one();
    }

    fn remove(&self, user: UserId) {
        let mut users = self.users.lock();
        users.remove(&user);
        self.count.store(users.len(), Ordering::Release);
    }

    fn all(&self) -> Vec<UserId> {
        self.users.lock().iter().copied().collect()
    }
}

impl Auth {
    /// Makes a change of a user that ends all their sessions but the one to be kept. `None`, and nothing was changed: there is no
    /// such user, or the stored password hash is not the expected one.
    ///
    /// # Errors
    /// [`AuthError::ChangePending`]: it is recorded and completes by itself, and then ends the kept session too; or an earlier
    /// change of the user has to be completed first. [`AuthError::Store`]: it is unknown whether it was recorded; if it was, it
    /// completes by itself. [`AuthError::InvalidSession`]: the change is made, and the session to be kept has ended meanwhile.
    pub(super) async fn change_and_end_sessions(
        &self,
        user: UserId,
        expected: ReplacedHash<'_>,
        change: UserChange,
        kept: Option<KeptSession>,
    ) -> Result<Option<ChangedUser>, AuthError> {
        let id = ChangeId::new(self.parts.clock.now(), self.parts.tokens.id_bits()?);
        let pending = PendingChange { id, change };
        let auth = self.clone();
        let expected = match expected {
            ReplacedHash::Any => None,
            ReplacedHash::Exactly(hash) => Some(hash.clone()),
        };
        to_its_end(async move {
            let expected = expected.as_ref().map_or(ReplacedHash::Any, ReplacedHash::Exactly);
            if !auth.record(user, expected, &pending).await? {
                return Ok(None);
            }
            match auth.end_sessions_and_apply(user, pending.id, kept).await {
                Ok(kept) => kept.map(|kept| Some(ChangedUser { kept })),
                Err(failure) => {
                    auth.unsettled.add(user);
                    warn!(
                        event = "change_pending",
                        user_id = %user,
                        cause = ?failure,
                        "a change of a user is recorded and could not be completed; it is tried again until it is"
                    );
                    Err(AuthError::ChangePending)
                }
            }
        })
        .await
    }

    /// Records a change as pending. `false`: the user is not as expected.
    async fn record(
        &self,
        user: UserId,
        expected: ReplacedHash<'_>,
        pending: &PendingChange,
    ) -> Result<bool, AuthError> {
        for _ in 0..ATTEMPTS {
            match self.parts.users.record_change(user, expected, pending).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(failure) => {
                    // It may be recorded: until that is known, this process vouches for nothing.
                    self.unsettled.add(user);
                    return Err(failure.into());
                }
            }
            match self.parts.users.by_id(user).await? {
                Some(record) if record.pending.is_some() => sleep(PAUSE).await,
                // What was pending has been applied meanwhile.
                Some(record) if expected.allows(&record) => {}
                Some(_) | None => return Ok(false),
            }
        }
        Err(AuthError::ChangePending)
    }

    /// Steps two and three. The session to be kept gets its new token before the change can be seen.
    async fn end_sessions_and_apply(
        &self,
        user: UserId,
        id: ChangeId,
        kept: Option<KeptSession>,
    ) -> Result<Result<Option<Rotated>, AuthError>, StoreError> {
        let spared = kept.map(|kept| kept.id);
        let now = self.parts.clock.now();
        self.parts.sessions.revoke_user(user, spared, now).await?;
        let rotated = match kept {
            None => Ok(None),
            Some(kept) => match self.rotate_digest(kept.digest, Duration::ZERO, true).await {
                Err(AuthError::Store(failure)) => return Err(failure),
                rotated => rotated.map(Some),
            },
        };
        self.parts.users.apply_change(user, id).await?;
        Ok(rotated)
    }

    /// Completes pending changes of users that this process or another one could not complete. Runs until it is dropped; each
    /// process needs one. [`note_pending_changes`](Self::note_pending_changes) comes first.
    pub async fn complete_pending_changes(self) {
        let mut seen = HashMap::new();
        loop {
            seen = self.look_for_pending_changes(&seen).await;
            let is_settled = self.unsettled.all().is_empty();
            let interval = if is_settled { LOOK_INTERVAL } else { RETRY_INTERVAL };
            tokio::select! {
                () = sleep(interval) => {}
                () = self.unsettled.added.notified() => {}
            }
        }
    }

    /// Learns what other processes have left pending, so that no check vouches for the sessions of those users. To be called
    /// before anything is served.
    ///
    /// # Errors
    /// The store of users cannot be asked.
    pub async fn note_pending_changes(&self) -> Result<(), StoreError> {
        for (user, _) in self.parts.users.pending_changes(CHANGES_AT_ONCE).await? {
            self.unsettled.add(user);
        }
        Ok(())
    }

    /// Completes the changes of users that are unsettled here, and those that were seen at the last look. Gives those seen now.
    async fn look_for_pending_changes(&self, seen: &HashMap<UserId, ChangeId>) -> HashMap<UserId, ChangeId> {
        let unsettled = self.unsettled.all();
        let Ok(found) = self.parts.users.pending_changes(CHANGES_AT_ONCE).await else {
            // The calls that need the store report that it is away.
            return HashMap::new();
        };
        let found: HashMap<_, _> = found
            .into_iter()
            .map(|(user, pending)| (user, pending.id))
            .collect();
        for (user, id) in &found {
            let is_left = seen.get(user) == Some(id);
            if is_left {
                self.unsettled.add(*user);
            }
            if is_left || unsettled.contains(user) {
                self.complete(*user, *id).await;
            }
        }
        // More than were found may be pending, so absence has to be asked for.
        for user in unsettled.into_iter().filter(|user| !found.contains_key(user)) {
            if let Ok(None | Some(UserRecord { pending: None, .. })) = self.parts.users.by_id(user).await {
                self.unsettled.remove(user);
            }
        }
        found
    }

    async fn complete(&self, user: UserId, id: ChangeId) {
        match self.end_sessions_and_apply(user, id, None).await {
            Ok(_) => {
                self.unsettled.remove(user);
                info!(event = "change_completed", user_id = %user, "a pending change of a user is completed");
            }
            Err(failure) => {
                tracing::debug!(event = "change_pending", user_id = %user, cause = ?failure, "{failure}");
            }
        }
    }
}
