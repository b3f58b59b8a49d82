//! A part of the sessions, under one lock: their records and the way to them by token digest.

use super::{
    compact_table::CompactTable,
    interned_spans::InternedSpans,
    record::{Overflow, Record, Slot},
};
use crate::domain::{LiveSession, SessionId, SessionSpan, Timestamp, TokenDigest};
use hashbrown::HashTable;
use std::{ops::Deref, sync::Arc};

/// Records that are allocated together: 2,560 bytes, a size that an allocator hands out without waste. They never move, so that
/// growing copies nothing.
const CHUNK: usize = 32;

type Chunk = [Record; CHUNK];

/// A token that was rotated away and still proves its session for a while.
#[derive(Debug, Clone, Copy)]
pub(super) struct OldToken {
    pub(super) digest: TokenDigest,
    pub(super) until: Timestamp,
    /// The session that it proves, and where that stands.
    pub(super) id: SessionId,
    pub(super) at: Slot,
}

#[derive(Debug)]
pub(super) struct Shard {
    by_digest: CompactTable<NUMBER_BYTES>,
    old_tokens: HashTable<OldToken>,
    #[expect(clippy::vec_box, reason = "chunks must not move when the list of them grows")]
    chunks: Vec<Box<Chunk>>,
    spans: Arc<InternedSpans>,
    /// What records have no room for, by slot.
    overflows: HashTable<(u32, Overflow)>,
    /// Slots handed out so far; those that are free again hang on `free`.
    used: u32,
    free: Option<u32>,
}

/// What a slot's number in its shard takes.
const NUMBER_BYTES: usize = 3;

/// A record, with what stands beside it.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    record: &'a Record,
    slot: u32,
    shard: &'a Shard,
}

impl Deref for Entry<'_> {
    type Target = Record;

    fn deref(&self) -> &Record {
        self.record
    }
}

impl Entry<'_> {
    pub(super) fn live(&self) -> LiveSession {
        self.record.live(self.overflow())
    }

    /// As [`Record::live_at`].
    pub(super) fn live_at(&self, now: Timestamp) -> Option<LiveSession> {
        self.record.live_at(self.overflow(), now)
    }

    /// As [`Record::noted`].
    pub(super) fn noted(&self) -> Option<LiveSession> {
        self.record.noted(self.overflow())
    }

    /// As [`Record::touch`].
    pub(super) fn touch(&self, at: Timestamp) -> bool {
        self.record.touch(self.overflow(), at)
    }

    fn overflow(&self) -> Overflow {
        let shared = self
            .record
            .interned_span()
            .and_then(|number| self.shard.spans.get(number));
        match shared {
            Some(span) => Overflow {
                span,
                authenticated_at: self.record.id().created_at(),
            },
            None => self.shard.overflow(self.slot),
        }
    }
}

/// Digests are evenly distributed, so their bytes are their hash.
fn hash(digest: &TokenDigest) -> u64 {
    let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// A spread of a slot's bits over those that a table takes.
fn hash_slot(slot: u32) -> u64 {
    u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15).swap_bytes()
}

/// The shard that a token's record stands in.
pub(super) fn shard_of(digest: &TokenDigest) -> usize {
    let [a, b, c, d, ..] = *digest.as_bytes();
    u32::from_le_bytes([a, b, c, d]) as usize % super::SHARDS
}

fn in_chunks(chunks: &[Box<Chunk>], slot: u32) -> &Record {
    &chunks[slot as usize / CHUNK][slot as usize % CHUNK]
}

impl Shard {
    pub(super) fn new(spans: Arc<InternedSpans>) -> Self {
        Self {
            by_digest: CompactTable::default(),
            old_tokens: HashTable::new(),
            chunks: Vec::new(),
            spans,
            overflows: HashTable::new(),
            used: 0,
            free: None,
        }
    }

    pub(super) fn record(&self, slot: u32) -> Entry<'_> {
        Entry {
            record: in_chunks(&self.chunks, slot),
            slot,
            shard: self,
        }
    }

    pub(super) fn record_mut(&mut self, slot: u32) -> &mut Record {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    /// The record with this digest that `is_visible`.
    pub(super) fn find(&self, digest: &TokenDigest, is_visible: impl Fn(&Record) -> bool) -> Option<u32> {
        self.by_digest.find(hash(digest), |slot| {
            let record = in_chunks(&self.chunks, slot);
            record.digest() == digest && is_visible(record)
        })
    }

    /// Takes in a session that only the writer sees; `None` if every slot is taken.
    pub(super) fn insert(
        &mut self,
        digest: &TokenDigest,
        live: &LiveSession,
        row: u64,
        next: Slot,
    ) -> Option<u32> {
        let slot = self.take_slot()?;
        let is_plain = live.authenticated_at == live.created_at();
        let span = is_plain.then(|| self.spans.take(live.span)).flatten();
        if span.is_none() {
            let overflow = Overflow {
                span: live.span,
                authenticated_at: live.authenticated_at,
            };
            self.overflows
                .insert_unique(hash_slot(slot), (slot, overflow), |(slot, _)| hash_slot(*slot));
        }
        *self.record_mut(slot) = Record::pending(*digest, live, span, row, next);
        self.by_digest.insert(hash(digest), slot);
        Some(slot)
    }

    fn take_slot(&mut self) -> Option<u32> {
        if let Some(slot) = self.free {
            let next = self.record(slot).next;
            self.free = (next != Slot::NONE).then(|| next.in_shard());
            return Some(slot);
        }
        if self.used == Slot::SLOTS {
            return None;
        }
        let chunks = self.chunks.len();
        if self.used as usize == chunks * CHUNK {
            if chunks == self.chunks.capacity() {
                self.chunks.reserve_exact(chunks / 8 + 1);
            }
            let chunk = std::array::from_fn(|_| Record::free(Slot::NONE));
            self.chunks.push(Box::new(chunk));
        }
        self.used += 1;
        Some(self.used - 1)
    }

    /// Frees a slot.
    pub(super) fn remove(&mut self, slot: u32) {
        let record = self.record(slot);
        let (hash, span) = (hash(record.digest()), record.interned_span());
        self.by_digest.remove(hash, slot);
        match span {
            Some(number) => self.spans.give_back(number),
            None => {
                let is_it = |(other, _): &(u32, Overflow)| *other == slot;
                if let Ok(entry) = self.overflows.find_entry(hash_slot(slot), is_it) {
                    entry.remove();
                }
            }
        }
        let next = self.free.map_or(Slot::NONE, |free| Slot::new(0, free));
        *self.record_mut(slot) = Record::free(next);
        self.free = Some(slot);
    }

    /// What stands beside a record. A free one has nothing, and gives what has ended.
    fn overflow(&self, slot: u32) -> Overflow {
        let found = self.overflows.find(hash_slot(slot), |(other, _)| *other == slot);
        found.map_or(
            Overflow {
                span: SessionSpan::from_secs(0, 0),
                authenticated_at: Timestamp::default(),
            },
            |(_, overflow)| *overflow,
        )
    }

    /// The records, with their slots; without free places.
    pub(super) fn records(&self) -> impl Iterator<Item = (u32, Entry<'_>)> {
        (0..self.used)
            .map(|slot| (slot, self.record(slot)))
            .filter(|(_, record)| !record.is_free())
    }

    pub(super) fn old_token(&self, digest: &TokenDigest) -> Option<&OldToken> {
        match self.old_tokens.is_empty() {
            true => None,
            false => self.old_tokens.find(hash(digest), |old| old.digest == *digest),
        }
    }

    pub(super) fn insert_old_token(&mut self, old: OldToken) {
        self.old_tokens
            .insert_unique(hash(&old.digest), old, |old| hash(&old.digest));
    }

    pub(super) fn remove_old_token(&mut self, digest: &TokenDigest) {
        if let Ok(entry) = self
            .old_tokens
            .find_entry(hash(digest), |old| old.digest == *digest)
        {
            entry.remove();
        }
    }

    pub(super) fn old_tokens(&self) -> impl Iterator<Item = &OldToken> {
        self.old_tokens.iter()
    }
}

#[cfg(test)]
impl Shard {
    pub(super) fn table_bytes(&self) -> usize {
        self.by_digest.bytes()
            + self.overflows.allocation_size()
            + self.chunks.capacity() * size_of::<Box<Chunk>>()
    }

    pub(super) fn entries(&self) -> usize {
        self.by_digest.len() + self.old_tokens.len() + self.overflows.len() + self.records().count()
    }
}
