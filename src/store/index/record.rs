//! One session as it is kept in memory: 96 bytes, so that ten million of them fit.

use crate::domain::{AuthMethod, LiveSession, SessionId, SessionSpan, Timestamp, TokenDigest, UserId};
use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

/// Where a record stands: the shard in the upper 10 bits, the slot in the lower 22.
///
/// A location is good for as long as its record lives; afterwards another record may take the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::store) struct Location(u32);

impl Location {
    /// No record: the end of a chain.
    pub(super) const NONE: Self = Self(u32::MAX);

    const SLOT_BITS: u32 = 22;

    /// Slots that a shard may have. The last location is [`NONE`](Self::NONE), so no shard uses its last slot.
    pub(super) const SLOTS: u32 = (1 << Self::SLOT_BITS) - 1;

    /// There are fewer than 1024 shards.
    pub(super) fn new(shard: usize, slot: u32) -> Self {
        Self((shard as u32) << Self::SLOT_BITS | slot)
    }

    pub(super) fn shard(self) -> usize {
        (self.0 >> Self::SLOT_BITS) as usize
    }

    pub(super) fn slot(self) -> u32 {
        self.0 & Self::SLOTS
    }
}

/// What is to become of a record, or has. Bits above the row number.
pub(super) mod mark {
    /// Not committed yet: readers must not see it.
    pub(crate) const PENDING: u64 = 1 << 48;
    /// Ended, but not committed yet: the writer must not see it, readers must.
    pub(crate) const DYING: u64 = 1 << 49;
    /// Ended: nobody may see it.
    pub(crate) const DEAD: u64 = 1 << 50;
    /// Touched since it was last written down.
    pub(crate) const TOUCHED: u64 = 1 << 51;
    /// Authenticated by the caller, not by password.
    pub(crate) const BY_CALLER: u64 = 1 << 52;
}

/// In place of when a session was last seen: somebody has been told that it has expired, so nothing is noted of it any more.
///
/// Expiry and activity are one word, so that one of them comes first: a check that was held up after it had found the session
/// alive cannot bring it back by its touch once another was told that it is over.
const OVER: u32 = u32::MAX;

/// One more than the greatest row number.
pub(in crate::store) const ROWS_END: u64 = 1 << 48;

/// A session's place in memory; with row 0 a free one.
#[derive(Debug)]
pub(super) struct Record {
    digest: TokenDigest,
    id: SessionId,
    user_id: UserId,
    authenticated_at: Timestamp,
    /// The row in the lower 48 bits, [`mark`]s above. Only [`mark::TOUCHED`] changes under a read lock.
    row_and_marks: AtomicU64,
    /// Since `created_at`, in [`tick`]s; or [`OVER`].
    last_seen: AtomicU32,
    lifetime_secs: u32,
    idle_timeout_secs: u32,
    /// The user's next session; in a free place the next free one.
    pub(super) next: Location,
}

impl Record {
    pub(super) fn free(next: Location) -> Self {
        Self {
            digest: TokenDigest::from_bytes([0; 32]),
            id: SessionId::from_bytes([0; 16]),
            user_id: UserId::from_bytes([0; 16]),
            authenticated_at: Timestamp::default(),
            row_and_marks: AtomicU64::new(0),
            last_seen: AtomicU32::new(0),
            lifetime_secs: 0,
            idle_timeout_secs: 0,
            next,
        }
    }

    /// A session that only the writer sees.
    pub(super) fn pending(digest: TokenDigest, live: &LiveSession, row: u64, next: Location) -> Self {
        let method = match live.auth_method {
            AuthMethod::Password => 0,
            AuthMethod::Caller => mark::BY_CALLER,
        };
        Self {
            digest,
            id: live.id,
            user_id: live.user_id,
            authenticated_at: live.authenticated_at,
            row_and_marks: AtomicU64::new((row % ROWS_END) | method | mark::PENDING),
            last_seen: AtomicU32::new(ticks(live, live.last_seen_at)),
            lifetime_secs: live.span.lifetime_secs(),
            idle_timeout_secs: live.span.idle_timeout_secs(),
            next,
        }
    }

    pub(super) fn digest(&self) -> &TokenDigest {
        &self.digest
    }

    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    pub(super) fn user_id(&self) -> UserId {
        self.user_id
    }

    pub(super) fn row(&self) -> u64 {
        self.row_and_marks.load(Ordering::Relaxed) % ROWS_END
    }

    pub(super) fn is_free(&self) -> bool {
        self.row() == 0
    }

    pub(super) fn has(&self, marks: u64) -> bool {
        self.row_and_marks.load(Ordering::Relaxed) & marks != 0
    }

    /// For holders of the shard's write lock; for [`mark::TOUCHED`] also under the read lock. Says whether it was there before.
    pub(super) fn set(&self, mark: u64) -> bool {
        self.row_and_marks.fetch_or(mark, Ordering::AcqRel) & mark != 0
    }

    /// As [`set`](Self::set).
    pub(super) fn clear(&self, mark: u64) {
        self.row_and_marks.fetch_and(!mark, Ordering::AcqRel);
    }

    /// Whether it is committed and has not ended by a commit.
    pub(super) fn is_visible_to_readers(&self) -> bool {
        !self.has(mark::PENDING | mark::DEAD)
    }

    /// Whether it is there once all that is staged is committed.
    pub(super) fn is_visible_to_writer(&self) -> bool {
        !self.has(mark::DYING | mark::DEAD)
    }

    /// The session, for as long as it has not expired. After `None` it is over, also for those who ask for an earlier instant.
    pub(super) fn live_at(&self, now: Timestamp) -> Option<LiveSession> {
        let mut noted = self.last_seen.load(Ordering::Acquire);
        while noted != OVER {
            let live = self.seen_at(noted);
            if !live.is_expired(now) {
                return Some(live);
            }
            match self
                .last_seen
                .compare_exchange_weak(noted, OVER, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return None,
                Err(newer) => noted = newer,
            }
        }
        None
    }

    /// The session as it was last noted; `None` if it is over.
    pub(super) fn noted(&self) -> Option<LiveSession> {
        let noted = self.last_seen.load(Ordering::Acquire);
        (noted != OVER).then(|| self.seen_at(noted))
    }

    /// The session, whether it has expired or not. One that is over has expired at every instant.
    pub(super) fn live(&self) -> LiveSession {
        self.noted().unwrap_or_else(|| LiveSession {
            last_seen_at: Timestamp::from_millis(i64::MIN),
            ..self.seen_at(0)
        })
    }

    /// The session if it was last seen so many [`tick`]s after its creation.
    fn seen_at(&self, ticks: u32) -> LiveSession {
        let span = SessionSpan::from_secs(self.lifetime_secs, self.idle_timeout_secs);
        let marks = self.row_and_marks.load(Ordering::Relaxed);
        let since_creation = u64::from(ticks) * tick(span);
        LiveSession {
            id: self.id,
            user_id: self.user_id,
            last_seen_at: self.id.created_at().after(Duration::from_millis(since_creation)),
            authenticated_at: self.authenticated_at,
            auth_method: match marks & mark::BY_CALLER {
                0 => AuthMethod::Password,
                _ => AuthMethod::Caller,
            },
            span,
            grace_ends_at: None,
        }
    }

    /// Notes a check at `at`, unless a later one is noted, or the session is over or had expired by then. Says whether it did.
    pub(super) fn touch(&self, at: Timestamp) -> bool {
        let mut noted = self.last_seen.load(Ordering::Acquire);
        let seen = ticks(&self.seen_at(noted), at);
        // Nothing is later than `OVER`.
        while noted < seen {
            if self.seen_at(noted).is_expired(at) {
                return false;
            }
            match self
                .last_seen
                .compare_exchange_weak(noted, seen, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return true,
                Err(newer) => noted = newer,
            }
        }
        false
    }

    /// Takes over when the session was last seen, or that it is over, from the record that this one takes the place of.
    pub(super) fn inherit_last_seen(&self, from: &Self) {
        self.last_seen
            .fetch_max(from.last_seen.load(Ordering::Acquire), Ordering::AcqRel);
    }
}

/// The unit that a session's last check is kept in, in milliseconds: the finest in which its whole lifetime fits 32 bits. Exact
/// up to a lifetime of 49 days. Rounding goes down, so it only ever shortens a session.
fn tick(span: SessionSpan) -> u64 {
    match span.lifetime_secs() {
        0..=4_294_967 => 1,
        4_294_968..=42_949_672 => 10,
        42_949_673..=429_496_729 => 100,
        429_496_730.. => 1000,
    }
}

fn ticks(live: &LiveSession, at: Timestamp) -> u32 {
    let millis = at.since(live.created_at()).as_millis() / u128::from(tick(live.span));
    u32::try_from(millis).unwrap_or(u32::MAX).min(OVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(lifetime_secs: u32) -> LiveSession {
        let created_at = Timestamp::from_millis(1_795_000_000_123);
        LiveSession {
            id: SessionId::new(created_at, [1; 10]),
            user_id: UserId::new(created_at, [2; 10]),
            last_seen_at: created_at,
            authenticated_at: created_at,
            auth_method: AuthMethod::Caller,
            span: SessionSpan::from_secs(lifetime_secs, lifetime_secs),
            grace_ends_at: None,
        }
    }

    fn record(live: &LiveSession) -> Record {
        Record::pending(TokenDigest::from_bytes([9; 32]), live, 77, Location::NONE)
    }

    #[test]
    fn f_20_a_record_has_96_bytes() {
        assert_eq!(size_of::<Record>(), 96);
    }

    #[test]
    fn a_record_gives_back_what_it_was_made_of() {
        let live = live(3600);
        assert_eq!(record(&live).live(), live);
        assert_eq!(record(&live).row(), 77);
    }

    #[test]
    fn a_last_check_is_never_rounded_up_and_at_most_a_second_down() {
        for lifetime_secs in [1, 4_294_967, 4_294_968, 42_949_673, 429_496_730, u32::MAX] {
            let live = live(lifetime_secs);
            let end = live.expires_at();
            for at in [
                live.created_at().after(Duration::from_millis(999)),
                end.before(Duration::from_millis(1)),
            ] {
                let record = record(&live);
                record.touch(at);
                let seen = record.live().last_seen_at;
                assert!(
                    seen <= at && at.since(seen) < Duration::from_secs(1),
                    "{lifetime_secs}: {seen} {at}"
                );
            }
        }
    }

    #[test]
    fn a_touch_neither_lowers_nor_revives() {
        let live = live(3600);
        let record = record(&live);
        let at = |secs| live.created_at().after(Duration::from_secs(secs));
        assert!(record.touch(at(20)));
        assert!(!record.touch(at(10)));
        assert_eq!(record.live().last_seen_at, at(20));
        assert!(!record.touch(at(3620)));
        assert_eq!(record.live().last_seen_at, at(20));
    }

    #[test]
    fn f_14_once_somebody_was_told_that_it_is_over_it_is_over_for_good() {
        let live = live(u32::MAX);
        let record = record(&live);
        let end = live.expires_at();
        let before = end.before(Duration::from_secs(1));
        assert!(record.touch(end.before(Duration::from_secs(2))));
        assert!(record.live_at(before).is_some());
        assert_eq!(record.live_at(end), None);
        assert!(!record.touch(before));
        assert_eq!((record.live_at(before), record.noted()), (None, None));
        assert!(record.live().is_expired(live.created_at()));
    }
}
