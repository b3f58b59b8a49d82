//! One session as it is kept in memory: 80 bytes, so that ten million of them fit.

use super::{
    interned_spans::LAST_NUMBER,
    last_seen::{LastSeen, MAX_TICKS},
};
use crate::domain::{AuthMethod, LiveSession, SessionId, SessionSpan, Timestamp, TokenDigest, UserId};
use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Where a record stands: the shard in the upper 10 bits, the slot in the lower 22.
///
/// A slot is good for as long as its record lives; afterwards another record may take the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::store) struct Slot(u32);

impl Slot {
    /// No record: the end of a chain.
    pub(super) const NONE: Self = Self(u32::MAX);

    const SLOT_BITS: u32 = 22;

    /// Slots that a shard may have. The last slot is [`NONE`](Self::NONE), so no shard uses its last slot.
    pub(super) const SLOTS: u32 = (1 << Self::SLOT_BITS) - 1;

    /// There are fewer than 1024 shards.
    pub(super) fn new(shard: usize, slot: u32) -> Self {
        Self((shard as u32) << Self::SLOT_BITS | slot)
    }

    pub(super) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(super) fn bits(self) -> u32 {
        self.0
    }

    pub(super) fn shard(self) -> usize {
        (self.0 >> Self::SLOT_BITS) as usize
    }

    pub(super) fn in_shard(self) -> u32 {
        self.0 & Self::SLOTS
    }
}

/// What is to become of a record, or has. The lowest bits of its state.
pub(super) mod flag {
    /// Not committed yet: readers must not see it.
    pub(crate) const PENDING: u32 = 1;
    /// Ended, but not committed yet: the writer must not see it, readers must.
    pub(crate) const DYING: u32 = 1 << 1;
    /// Ended: nobody may see it.
    pub(crate) const DEAD: u32 = 1 << 2;
    /// Touched since it was last written down.
    pub(crate) const TOUCHED: u32 = 1 << 3;
    /// Authenticated by the caller, not by password.
    pub(crate) const BY_CALLER: u32 = 1 << 4;
}

/// Where the number of a record's span stands in its state.
const SPAN_SHIFT: u32 = 5;
const SPAN_MASK: u32 = LAST_NUMBER << SPAN_SHIFT;

/// Where the upper part of its row does.
const ROW_SHIFT: u32 = 16;

/// One more than the greatest row number.
pub(in crate::store) const ROWS_END: u64 = 1 << 48;

/// A session's place in memory; with row 0 a free one.
#[derive(Debug)]
pub(super) struct Record {
    digest: TokenDigest,
    id: SessionId,
    user_id: UserId,
    /// The lower half of the row's number.
    row: u32,
    /// [`flag`]s, the number of the span, the rest of the row's number. Only [`flag::TOUCHED`] changes under a read lock.
    state: AtomicU32,
    /// Since `created_at`, in [`tick`]s.
    last_seen: LastSeen,
    /// The user's next session; in a free place the next free one.
    pub(super) next: Slot,
}

/// What a record has no room for. Most need none: their span has a number, and they were authenticated when they were created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overflow {
    pub(super) span: SessionSpan,
    pub(super) authenticated_at: Timestamp,
}

impl Record {
    pub(super) fn free(next: Slot) -> Self {
        Self {
            digest: TokenDigest::from_bytes([0; 32]),
            id: SessionId::from_bytes([0; 16]),
            user_id: UserId::from_bytes([0; 16]),
            row: 0,
            state: AtomicU32::new(0),
            last_seen: LastSeen::at(0),
            next,
        }
    }

    /// A session that only the writer sees. Without a number for its span its [`Overflow`] is kept beside it.
    pub(super) fn pending(
        digest: TokenDigest,
        live: &LiveSession,
        span: Option<u32>,
        row: u64,
        next: Slot,
    ) -> Self {
        let method = match live.auth_method {
            AuthMethod::Password => 0,
            AuthMethod::Caller => flag::BY_CALLER,
        };
        let row = row % ROWS_END;
        let state =
            ((row >> 32) as u32) << ROW_SHIFT | span.unwrap_or(0) << SPAN_SHIFT | method | flag::PENDING;
        Self {
            digest,
            id: live.id,
            user_id: live.user_id,
            row: row as u32,
            state: AtomicU32::new(state),
            last_seen: LastSeen::at(ticks(live, live.last_seen_at)),
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
        u64::from(self.state.load(Ordering::Relaxed) >> ROW_SHIFT) << 32 | u64::from(self.row)
    }

    /// The number of its span; `None`: it has a [`Overflow`].
    pub(super) fn interned_span(&self) -> Option<u32> {
        let number = (self.state.load(Ordering::Relaxed) & SPAN_MASK) >> SPAN_SHIFT;
        (number != 0).then_some(number)
    }

    pub(super) fn is_free(&self) -> bool {
        self.row() == 0
    }

    pub(super) fn has(&self, flags: u32) -> bool {
        self.state.load(Ordering::Relaxed) & flags != 0
    }

    /// For holders of the shard's write lock; for [`flag::TOUCHED`] also under the read lock. Says whether it was there before.
    pub(super) fn set(&self, flag: u32) -> bool {
        self.state.fetch_or(flag, Ordering::AcqRel) & flag != 0
    }

    /// As [`set`](Self::set).
    pub(super) fn clear(&self, flag: u32) {
        self.state.fetch_and(!flag, Ordering::AcqRel);
    }

    /// Whether it is committed and has not ended by a commit.
    pub(super) fn is_visible_to_readers(&self) -> bool {
        !self.has(flag::PENDING | flag::DEAD)
    }

    /// Whether it is there once all that is staged is committed.
    pub(super) fn is_visible_to_writer(&self) -> bool {
        !self.has(flag::DYING | flag::DEAD)
    }

    /// The session, for as long as it has not expired. After `None` it is over, also for those who ask for an earlier instant.
    pub(super) fn live_at(&self, overflow: Overflow, now: Timestamp) -> Option<LiveSession> {
        let is_expired = |ticks| self.seen(overflow, ticks).is_expired(now);
        let ticks = self.last_seen.end_if(is_expired)?;
        Some(self.seen(overflow, ticks))
    }

    /// The session as it was last noted; `None` if it is over.
    pub(super) fn noted(&self, overflow: Overflow) -> Option<LiveSession> {
        let ticks = self.last_seen.get()?;
        Some(self.seen(overflow, ticks))
    }

    /// The session, whether it has expired or not. One that is over has expired at every instant.
    pub(super) fn live(&self, overflow: Overflow) -> LiveSession {
        self.noted(overflow).unwrap_or_else(|| LiveSession {
            last_seen_at: Timestamp::from_millis(i64::MIN),
            ..self.seen(overflow, 0)
        })
    }

    /// The session if it was last seen so many [`tick`]s after its creation.
    fn seen(&self, overflow: Overflow, ticks: u32) -> LiveSession {
        let Overflow {
            span,
            authenticated_at,
        } = overflow;
        let since_creation = u64::from(ticks) * tick(span);
        LiveSession {
            id: self.id,
            user_id: self.user_id,
            last_seen_at: self.id.created_at().after(Duration::from_millis(since_creation)),
            authenticated_at,
            auth_method: match self.has(flag::BY_CALLER) {
                false => AuthMethod::Password,
                true => AuthMethod::Caller,
            },
            span,
            grace_ends_at: None,
        }
    }

    /// Notes a check at `at`, unless a later one is noted, or the session is over or had expired by then. Says whether it did.
    pub(super) fn touch(&self, overflow: Overflow, at: Timestamp) -> bool {
        let since_creation = ticks(&self.seen(overflow, 0), at);
        let is_expired = |ticks| self.seen(overflow, ticks).is_expired(at);
        self.last_seen.raise(since_creation, is_expired)
    }

    /// Takes over when the session was last seen, or that it is over, from the record that this one takes the place of.
    pub(super) fn inherit_last_seen(&self, from: &Self) {
        self.last_seen.inherit(&from.last_seen);
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
    u32::try_from(millis).unwrap_or(u32::MAX).min(MAX_TICKS)
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
        record_of(live, None, 77)
    }

    fn record_of(live: &LiveSession, span: Option<u32>, row: u64) -> Record {
        Record::pending(TokenDigest::from_bytes([9; 32]), live, span, row, Slot::NONE)
    }

    fn overflow(live: &LiveSession) -> Overflow {
        Overflow {
            span: live.span,
            authenticated_at: live.authenticated_at,
        }
    }

    #[test]
    fn f_20_a_record_has_80_bytes() {
        assert_eq!(size_of::<Record>(), 80);
    }

    #[test]
    fn a_record_gives_back_what_it_was_made_of() {
        for method in [AuthMethod::Caller, AuthMethod::Password] {
            for span in [None, Some(1), Some(LAST_NUMBER)] {
                for row in [1, u64::from(u32::MAX), 1 << 32, ROWS_END - 1] {
                    let mut live = live(3600);
                    live.auth_method = method;
                    let record = record_of(&live, span, row);
                    for is_flagged in [false, true] {
                        if is_flagged {
                            record.set(flag::DYING | flag::DEAD | flag::TOUCHED);
                            record.clear(flag::PENDING);
                        }
                        assert_eq!(record.live(overflow(&live)), live);
                        assert_eq!((record.interned_span(), record.row()), (span, row));
                        assert!(!record.is_free());
                    }
                }
            }
        }
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
                record.touch(overflow(&live), at);
                let seen = record.live(overflow(&live)).last_seen_at;
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
        assert!(record.touch(overflow(&live), at(20)));
        assert!(!record.touch(overflow(&live), at(10)));
        assert_eq!(record.live(overflow(&live)).last_seen_at, at(20));
        assert!(!record.touch(overflow(&live), at(3620)));
        assert_eq!(record.live(overflow(&live)).last_seen_at, at(20));
    }

    #[test]
    fn f_14_once_somebody_was_told_that_it_is_over_it_is_over_for_good() {
        let live = live(u32::MAX);
        let record = record(&live);
        let end = live.expires_at();
        let before = end.before(Duration::from_secs(1));
        assert!(record.touch(overflow(&live), end.before(Duration::from_secs(2))));
        assert!(record.live_at(overflow(&live), before).is_some());
        assert_eq!(record.live_at(overflow(&live), end), None);
        assert!(!record.touch(overflow(&live), before));
        assert_eq!(
            (
                record.live_at(overflow(&live), before),
                record.noted(overflow(&live))
            ),
            (None, None)
        );
        assert!(record.live(overflow(&live)).is_expired(live.created_at()));
    }
}
