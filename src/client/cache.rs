//! The coherent cache: a remembered answer is given only while all revocations up to a moment ago are known and none concerns it.

use super::{
    checked_session::{CheckedSession, LocalSession},
    revocation_versions::RevocationVersions,
    seqlock_table::{CachedAnswer, SeqlockTable, TokenKey},
};
use crate::domain::{Clock, NoRandomness, Revocation, Timestamp};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;
use zeroize::Zeroizing;

/// The remembered answers, and what decides whether they may be given.
pub(super) struct Cache {
    clock: Arc<dyn Clock>,
    table: SeqlockTable,
    revocations: RevocationVersions,
    /// Until when all revocations that count have been received, in milliseconds of the clock.
    trusted_until: AtomicI64,
    /// How long before a session's end its answer is no longer given, so that a use is reported while the session lives.
    margin: Duration,
    /// Whether remembered answers could be given at the stream's last message, for those who wait for that.
    live: watch::Sender<bool>,
}

/// The moment before a check is sent: by the clock, and by the version of the revocations.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckStart {
    pub(super) at: Timestamp,
    version: u64,
}

impl Cache {
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        max_entries: usize,
        margin: Duration,
    ) -> Result<Self, NoRandomness> {
        Ok(Self {
            clock,
            table: SeqlockTable::with_capacity(max_entries)?,
            revocations: RevocationVersions::new(),
            trusted_until: AtomicI64::new(i64::MIN),
            margin,
            live: watch::Sender::new(false),
        })
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What is remembered of this token and may be given now. The use is noted, to be reported.
    #[inline]
    pub(super) fn get(&self, token: &str) -> Option<CheckedSession> {
        let now = self.clock.now();
        if !self.is_trusted(now) {
            return None;
        }
        let key = TokenKey::of(token)?;
        let hash = self.table.hash(&key);
        let may_be_given = |cached: &CachedAnswer| {
            now < cached.session.local_valid_until.before(self.margin) && self.is_current(cached)
        };
        let cached = self.table.get(&key, hash, may_be_given)?;
        may_be_given(&cached).then(|| cached.session.at(now))
    }

    /// Whether remembered answers may be given at `now`.
    #[inline]
    pub(super) fn is_trusted(&self, now: Timestamp) -> bool {
        now.as_millis() < self.trusted_until.load(Ordering::Acquire)
    }

    /// To be taken before the call that checks a token.
    pub(super) fn check_start(&self) -> CheckStart {
        CheckStart {
            at: self.clock.now(),
            version: self.revocations.version(),
        }
    }

    /// Remembers an answer, and says whether it is current: whether no revocation came while the call was in flight.
    pub(super) fn insert(&self, token: &str, start: CheckStart, session: LocalSession) -> bool {
        let Some(key) = TokenKey::of(token) else {
            return false;
        };
        let hash = self.table.hash(&key);
        let cached = CachedAnswer {
            session,
            version: start.version,
        };
        let is_current = self.is_current(&cached);
        // A revocation between the look above and the writing is found when the entry is read.
        if is_current {
            self.table.insert(&key, hash, cached);
        }
        is_current
    }

    /// Forgets a token whose session is known to have ended.
    pub(super) fn remove(&self, token: &str) {
        if let Some(key) = TokenKey::of(token) {
            self.table.remove(self.table.hash(&key));
        }
    }

    /// Takes a revocation in.
    pub(super) fn revoke(&self, revocation: Revocation) {
        self.revocations.record(revocation);
    }

    /// Notes that all revocations before an instant have been received, and so may be trusted until `trusted_until`.
    pub(super) fn trust_until(&self, trusted_until: Timestamp) {
        self.trusted_until
            .fetch_max(trusted_until.as_millis(), Ordering::AcqRel);
    }

    /// Notifies those that wait of whether remembered answers may be given now.
    pub(super) fn publish_liveness(&self) {
        let is_live = self.is_trusted(self.clock.now());
        self.live
            .send_if_modified(|live| std::mem::replace(live, is_live) != is_live);
    }

    /// Notes that revocations may be missed from now on.
    pub(super) fn distrust(&self) {
        self.trusted_until.store(i64::MIN, Ordering::Release);
        self.publish_liveness();
    }

    /// Whether remembered answers could be given at the stream's last message, to wait on.
    pub(super) fn live(&self) -> watch::Receiver<bool> {
        self.live.subscribe()
    }

    /// See [`SeqlockTable::set_count`].
    pub(super) fn set_count(&self) -> usize {
        self.table.set_count()
    }

    /// See [`SeqlockTable::sweep_set`].
    pub(super) fn sweep_set(&self, set: usize, used: &mut Vec<Zeroizing<String>>) {
        self.table.sweep_set(set, self.clock.now(), used);
    }

    /// Takes back that a use was reported.
    pub(super) fn set_used(&self, token: &str) {
        if let Some(key) = TokenKey::of(token) {
            self.table.set_used(self.table.hash(&key));
        }
    }

    fn is_current(&self, cached: &CachedAnswer) -> bool {
        let LocalSession {
            user_id, session_id, ..
        } = cached.session;
        self.revocations.is_current(cached.version, user_id, session_id)
    }
}
