//! The sessions as a process keeps them in memory: what a check reads, and what decides every change.
//!
//! Readers see what is committed. The one [`TableWriter`] also sees what it has staged: a change is decided and marked in the
//! records first, then written down, then shown to readers ([`TableWriter::commit`]) or taken back
//! ([`TableWriter::roll_back`]). So many changes, even to one user, can share one commit.
//!
//! Nothing that is locked is ever large, and no record moves when the table grows: records stand in small chunks, tables are cut
//! into shards. Locks are taken in this order: a user's shard, then shards of records in ascending order.

mod compact_table;
mod interned_spans;
mod last_seen;
#[cfg(test)]
mod last_seen_model;
mod read_mostly;
mod record;
mod shard;
#[cfg(test)]
mod tests;
mod writer;

use super::{Epoch, RevocationLog, ScanCursor, ScanPage};
use crate::domain::{LiveSession, SessionId, Timestamp, TokenDigest, UserId};
use compact_table::CompactTable;
use hashbrown::HashTable;
use interned_spans::InternedSpans;
use parking_lot::RwLock;
use read_mostly::ReadMostly;
pub(super) use record::{ROWS_END, Slot};
use record::{Record, flag};
use shard::{Entry, Shard, shard_of};
use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
pub(super) use writer::{Creation, TableWriter};

/// What `last_seen` is made of; `last_seen_model` makes it of loom's instead.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU32, Ordering};
}

/// Shards of records by token digest, and of users; tables of session ids. So many that a look at a whole one is short with ten
/// million sessions.
pub(super) const SHARDS: usize = 720;

/// On cache lines of its own, so that checks of different sessions do not slow each other down.
#[derive(Debug)]
#[repr(align(128))]
struct Aligned<T>(T);

/// What a [`Slot`] takes in a table of numbers.
const SLOT_BYTES: usize = size_of::<Slot>();

/// The way to users' sessions, and their epochs.
#[derive(Debug, Default)]
struct UserShard {
    /// Each user's newest session; the others follow by [`Record::next`].
    heads: CompactTable<SLOT_BYTES>,
    /// Users whose sessions have ever been revoked.
    epochs: HashTable<(UserId, u64)>,
}

/// Every session of this process.
#[derive(Debug)]
pub(super) struct SessionTable {
    shards: Box<[Aligned<ReadMostly<Shard>>]>,
    users: Box<[RwLock<UserShard>]>,
    hasher: RandomState,
    /// What everyone's epochs have in common.
    everyone: AtomicU64,
    /// Sessions up to this row ended when everyone's did; the sweep takes them away.
    revoked_through: AtomicU64,
    living: AtomicU64,
}

/// A living session, and the row that holds the rest of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) live: LiveSession,
    pub(super) row: u64,
}

/// A session that has ended and still takes up space.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leftover {
    at: Slot,
    id: SessionId,
}

/// What the sweep found in one shard.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    pub(super) sessions: Vec<Leftover>,
    pub(super) old_tokens: Vec<TokenDigest>,
}

impl Leftovers {
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.old_tokens.is_empty()
    }
}

impl SessionTable {
    fn new() -> Self {
        let spans = Arc::new(InternedSpans::new());
        let shard = || Aligned(ReadMostly::new(Shard::new(Arc::clone(&spans))));
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            users: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            everyone: AtomicU64::new(0),
            revoked_through: AtomicU64::new(0),
            living: AtomicU64::new(0),
        }
    }

    fn shard(&self, number: usize) -> &ReadMostly<Shard> {
        &self.shards[number].0
    }

    fn hash_user(&self, user: UserId) -> u64 {
        self.hasher.hash_one(user.to_bytes())
    }

    fn users_of(&self, hash: u64) -> &RwLock<UserShard> {
        &self.users[user_shard(hash)]
    }

    fn revoked_through(&self) -> u64 {
        self.revoked_through.load(Ordering::Acquire)
    }

    /// The living session that this token proves.
    pub(super) fn find(&self, digest: &TokenDigest, now: Timestamp) -> Option<Found> {
        // Before the record: an end of everyone's sessions that was acknowledged before this call is seen.
        let revoked_through = self.revoked_through();
        let found = self.locate(digest, now, |_, record, grace_ends_at| {
            let live = LiveSession {
                grace_ends_at,
                ..record.live_at(now)?
            };
            let row = record.row();
            Some(Found { live, row })
        })??;
        (found.row > revoked_through).then_some(found)
    }

    /// Notes that the session was checked. Where it stands, if nothing else was noted since [`take_touch`](Self::take_touch).
    pub(super) fn touch(&self, session: SessionId, digest: &TokenDigest, at: Timestamp) -> Option<Slot> {
        self.locate(digest, at, |slot, record, _| {
            let is_new = record.id() == session && record.touch(at) && !record.set(flag::TOUCHED);
            is_new.then_some(slot)
        })?
    }

    /// What was noted last of the session at this place, to be written down. Another session may have taken the place: what is
    /// noted of it is true as well.
    pub(super) fn take_touch(&self, slot: Slot) -> Option<Found> {
        let shard = self.shard(slot.shard()).read();
        let record = shard.record(slot.in_shard());
        // Cleared before it is read: what is noted in between is noted again.
        record.clear(flag::TOUCHED);
        let live = record.noted()?;
        (!record.is_free() && record.is_visible_to_readers()).then(|| Found {
            live,
            row: record.row(),
        })
    }

    /// Takes back [`take_touch`](Self::take_touch): what it gave could not be written down. Whether it must be tried again.
    pub(super) fn return_touch(&self, slot: Slot) -> bool {
        let shard = self.shard(slot.shard()).read();
        let record = shard.record(slot.in_shard());
        !record.is_free() && !record.set(flag::TOUCHED)
    }

    /// Looks at the record that a token proves, as readers see it, and at when the token's grace ends if it is an old one.
    fn locate<T>(
        &self,
        digest: &TokenDigest,
        now: Timestamp,
        look: impl Fn(Slot, Entry<'_>, Option<Timestamp>) -> T,
    ) -> Option<T> {
        let number = shard_of(digest);
        let shard = self.shard(number).read();
        if let Some(slot) = shard.find(digest, Record::is_visible_to_readers) {
            return Some(look(Slot::new(number, slot), shard.record(slot), None));
        }
        let mut old = *shard.old_token(digest)?;
        drop(shard);
        while now < old.until {
            let shard = self.shard(old.at.shard()).read();
            let record = shard.record(old.at.in_shard());
            if record.id() == old.id && record.is_visible_to_readers() {
                return Some(look(old.at, record, Some(old.until)));
            }
            drop(shard);
            // It ended, unless it moved on since the first look.
            let again = *self.shard(number).read().old_token(digest)?;
            if again.at == old.at {
                return None;
            }
            old = again;
        }
        None
    }

    /// Up to `limit` living sessions of the user, newest first, with ids less than `before`.
    pub(super) fn list(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: usize,
        now: Timestamp,
    ) -> Vec<Found> {
        let revoked_through = self.revoked_through();
        let hash = self.hash_user(user);
        let mut found = Vec::new();
        let users = self.users_of(hash).read();
        self.for_each_of(&users, hash, user, |_, record| {
            let is_listed = record.is_visible_to_readers()
                && record.row() > revoked_through
                && before.is_none_or(|before| record.id() < before);
            if is_listed && let Some(live) = record.live_at(now) {
                found.push(Found {
                    live,
                    row: record.row(),
                });
            }
        });
        drop(users);
        found.sort_unstable_by_key(|found| std::cmp::Reverse(found.live.id));
        found.truncate(limit);
        found
    }

    /// Looks at every record of a user, whose shard the caller has locked.
    fn for_each_of(&self, users: &UserShard, hash: u64, user: UserId, mut look: impl FnMut(Slot, Entry<'_>)) {
        let mut next = self.head(users, hash, user);
        while let Some(at) = next {
            let shard = self.shard(at.shard()).read();
            let record = shard.record(at.in_shard());
            look(at, record);
            next = (record.next != Slot::NONE).then_some(record.next);
        }
    }

    fn head(&self, users: &UserShard, hash: u64, user: UserId) -> Option<Slot> {
        let is_users = |bits| {
            let at = Slot::from_bits(bits);
            self.shard(at.shard()).read().record(at.in_shard()).user_id() == user
        };
        users.heads.find(hash, is_users).map(Slot::from_bits)
    }

    /// The user's epoch.
    pub(super) fn epoch(&self, user: UserId) -> Epoch {
        // Both parts only grow, and a creation compares the sum: a sum of parts from two moments is less than the present one.
        let everyone = self.everyone.load(Ordering::Acquire);
        let hash = self.hash_user(user);
        Epoch::from_count(everyone + self.user_epoch(&self.users_of(hash).read(), hash, user))
    }

    fn user_epoch(&self, users: &UserShard, hash: u64, user: UserId) -> u64 {
        users
            .epochs
            .find(hash, |(other, _)| *other == user)
            .map_or(0, |(_, count)| *count)
    }

    /// The living sessions of one shard, the page of a scan of all of them.
    pub(super) fn scan_shard(&self, from: ScanCursor, now: Timestamp) -> ScanPage {
        let number = usize::try_from(from.number()).unwrap_or(usize::MAX);
        let Some(Aligned(shard)) = self.shards.get(number) else {
            return ScanPage {
                digests: Vec::new(),
                next: None,
            };
        };
        let revoked_through = self.revoked_through();
        let lives = |record: Entry<'_>| {
            record.is_visible_to_readers() && record.row() > revoked_through && record.live_at(now).is_some()
        };
        let shard = shard.read();
        let living = shard.records().filter(|(_, record)| lives(*record));
        ScanPage {
            digests: living.map(|(_, record)| *record.digest()).collect(),
            next: (number + 1 < SHARDS).then(|| ScanCursor::from(number as u64 + 1)),
        }
    }

    /// Sessions that live, or expired and were not swept yet.
    pub(super) fn living(&self) -> u64 {
        self.living.load(Ordering::Relaxed)
    }

    /// Up to `limit` sessions of one shard that have ended, and its old tokens whose grace is over.
    pub(super) fn leftovers(&self, shard: usize, now: Timestamp, limit: usize) -> Leftovers {
        let revoked_through = self.revoked_through();
        let shard_number = shard;
        let shard = self.shard(shard_number).read();
        let sessions = shard
            .records()
            .filter(|(_, record)| is_leftover(*record, revoked_through, now))
            .take(limit)
            .map(|(slot, record)| Leftover {
                at: Slot::new(shard_number, slot),
                id: record.id(),
            })
            .collect();
        let is_over = |digest: &TokenDigest| shard.old_token(digest).is_some_and(|old| old.until <= now);
        Leftovers {
            sessions,
            old_tokens: shard
                .old_tokens()
                .map(|old| old.digest)
                .filter(is_over)
                .take(limit)
                .collect(),
        }
    }

    /// How many sessions of one shard lived until everyone's up to that row ended.
    pub(super) fn ended_with_everyones(&self, shard: usize, ended: &EveryoneRevoked, now: Timestamp) -> u64 {
        let shard = self.shard(shard).read();
        let is_counted = |record: Entry<'_>| {
            ended.rows.contains(&record.row())
                && record.is_visible_to_readers()
                && record.live_at(now).is_some()
        };
        shard.records().filter(|(_, record)| is_counted(*record)).count() as u64
    }
}

/// A log of revocations that continues none before it.
pub(super) fn new_log() -> RevocationLog {
    // Seeded by the operating system. The greatest number is what a reader without a cursor asks for.
    RevocationLog::in_process(RandomState::new().hash_one(0) >> 1)
}

/// An end of everyone's sessions: those of these rows.
#[derive(Debug, Clone)]
pub(super) struct EveryoneRevoked {
    pub(super) rows: std::ops::RangeInclusive<u64>,
    pub(super) count: u64,
}

#[cfg(test)]
impl SessionTable {
    /// What tables take up, without the records.
    fn table_bytes(&self) -> usize {
        let of_shards = self.shards.iter().map(|shard| shard.0.read().table_bytes());
        let of_users = self.users.iter().map(|users| users.read().heads.bytes());
        of_shards.sum::<usize>() + of_users.sum::<usize>()
    }

    /// Entries of every kind.
    fn entries(&self) -> usize {
        let of_shards = self.shards.iter().map(|shard| shard.0.read().entries());
        let of_users = self.users.iter().map(|users| users.read().heads.len());
        of_shards.sum::<usize>() + of_users.sum::<usize>()
    }
}

fn user_shard(hash: u64) -> usize {
    // The table takes the bits at both ends.
    (hash >> 16) as u32 as usize % SHARDS
}

fn is_leftover(record: Entry<'_>, revoked_through: u64, now: Timestamp) -> bool {
    !record.has(flag::PENDING | flag::DYING | flag::DEAD)
        && (record.row() <= revoked_through || record.live_at(now).is_none())
}
