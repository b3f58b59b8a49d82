//! When a remembered answer may be given: while the revocations up to a moment ago are known, and none of them concerns it.

use super::{
    answer::{Answer, CheckedSession},
    marks::Marks,
    table::{Entry, Table, TokenKey},
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
    table: Table,
    marks: Marks,
    /// Until when all revocations that count have been heard, in milliseconds of the clock.
    trusted_until: AtomicI64,
    /// How long before a session's end its answer is no longer given, so that a use is reported while the session lives.
    margin: Duration,
    /// Whether remembered answers could be given when the stream was last heard of, for those who wait for that.
    live: watch::Sender<bool>,
}

/// The moment before an answer is asked for, by the clock and by the count of revocations.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) at: Timestamp,
    mark: u64,
}

impl Cache {
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        max_entries: usize,
        margin: Duration,
    ) -> Result<Self, NoRandomness> {
        Ok(Self {
            clock,
            table: Table::with_capacity(max_entries)?,
            marks: Marks::new(),
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
    pub(super) fn look_up(&self, token: &str) -> Option<CheckedSession> {
        let now = self.clock.now();
        if !self.is_trusted(now) {
            return None;
        }
        let key = TokenKey::of(token)?;
        let spot = self.table.spot(&key);
        let may_be_given =
            |entry: &Entry| now < entry.answer.our_valid_until.before(self.margin) && self.stands(entry);
        let entry = self.table.read(&key, spot, may_be_given)?;
        may_be_given(&entry).then(|| entry.answer.checked(now))
    }

    /// Whether remembered answers may be given at `now`.
    #[inline]
    pub(super) fn is_trusted(&self, now: Timestamp) -> bool {
        now.as_millis() < self.trusted_until.load(Ordering::Acquire)
    }

    /// To be noted before the call that asks for an answer.
    pub(super) fn about_to_ask(&self) -> Asked {
        Asked {
            at: self.clock.now(),
            mark: self.marks.now(),
        }
    }

    /// Remembers an answer, and says whether it still stands: whether no revocation came while it was under way.
    pub(super) fn remember(&self, token: &str, asked: Asked, answer: Answer) -> bool {
        let Some(key) = TokenKey::of(token) else {
            return false;
        };
        let spot = self.table.spot(&key);
        let entry = Entry {
            answer,
            asked_at_mark: asked.mark,
        };
        let stands = self.stands(&entry);
        // An entry that a revocation beats between the look above and the writing is beaten when it is read, too.
        if stands {
            self.table.write(&key, spot, entry);
        }
        stands
    }

    /// Forgets a token whose session is known to have ended.
    pub(super) fn forget(&self, token: &str) {
        if let Some(key) = TokenKey::of(token) {
            self.table.remove(self.table.spot(&key));
        }
    }

    /// Hears of a revocation.
    pub(super) fn revoke(&self, revocation: Revocation) {
        self.marks.revoke(revocation);
    }

    /// Learns that all revocations before an instant have been heard, and so may be trusted until `trusted_until`.
    pub(super) fn trust_until(&self, trusted_until: Timestamp) {
        self.trusted_until
            .fetch_max(trusted_until.as_millis(), Ordering::AcqRel);
    }

    /// Tells those who wait whether remembered answers may be given now.
    pub(super) fn tell_whether_live(&self) {
        let is_live = self.is_trusted(self.clock.now());
        self.live
            .send_if_modified(|live| std::mem::replace(live, is_live) != is_live);
    }

    /// Learns that revocations may be missed from now on.
    pub(super) fn distrust(&self) {
        self.trusted_until.store(i64::MIN, Ordering::Release);
        self.tell_whether_live();
    }

    /// Whether remembered answers could be given when the stream was last heard of, to wait on.
    pub(super) fn live(&self) -> watch::Receiver<bool> {
        self.live.subscribe()
    }

    /// See [`Table::set_count`].
    pub(super) fn set_count(&self) -> usize {
        self.table.set_count()
    }

    /// See [`Table::sweep_set`].
    pub(super) fn sweep_set(&self, set: usize, used: &mut Vec<Zeroizing<String>>) {
        self.table.sweep_set(set, self.clock.now(), used);
    }

    /// Takes back that a use was reported.
    pub(super) fn mark_used(&self, token: &str) {
        if let Some(key) = TokenKey::of(token) {
            self.table.mark_used(self.table.spot(&key));
        }
    }

    fn stands(&self, entry: &Entry) -> bool {
        let Answer {
            user_id, session_id, ..
        } = entry.answer;
        self.marks.let_stand(entry.asked_at_mark, user_id, session_id)
    }
}
