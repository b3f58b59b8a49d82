//! A part of the sessions, under one lock: their records and the way to them by token digest.

use super::record::{Location, Record};
use crate::domain::{SessionId, Timestamp, TokenDigest};
use hashbrown::HashTable;

/// Records that are allocated together: just under 4 KiB, which an allocator hands out without waste. They never move, so that
/// growing copies nothing.
const CHUNK: usize = 42;

type Chunk = [Record; CHUNK];

/// A token that was rotated away and still proves its session for a while.
#[derive(Debug, Clone, Copy)]
pub(super) struct OldToken {
    pub(super) digest: TokenDigest,
    pub(super) until: Timestamp,
    /// The session that it proves, and where that stands.
    pub(super) id: SessionId,
    pub(super) at: Location,
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    by_digest: HashTable<u32>,
    old_tokens: HashTable<OldToken>,
    #[expect(clippy::vec_box, reason = "chunks must not move when the list of them grows")]
    chunks: Vec<Box<Chunk>>,
    /// Slots handed out so far; those that are free again hang on `free`.
    used: u32,
    free: Option<u32>,
}

/// Digests are evenly distributed, so their bytes are their hash.
fn hash(digest: &TokenDigest) -> u64 {
    let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
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
    pub(super) fn with_capacity(records: usize) -> Self {
        Self {
            by_digest: HashTable::with_capacity(records),
            ..Self::default()
        }
    }

    pub(super) fn record(&self, slot: u32) -> &Record {
        in_chunks(&self.chunks, slot)
    }

    pub(super) fn record_mut(&mut self, slot: u32) -> &mut Record {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    /// The record with this digest that `is_visible`.
    pub(super) fn find(&self, digest: &TokenDigest, is_visible: impl Fn(&Record) -> bool) -> Option<u32> {
        let is_it = |slot: &u32| {
            let record = self.record(*slot);
            record.digest() == digest && is_visible(record)
        };
        self.by_digest.find(hash(digest), is_it).copied()
    }

    /// Takes a record in; `None` if every slot is taken.
    pub(super) fn insert(&mut self, record: Record) -> Option<u32> {
        let slot = match self.free {
            Some(slot) => {
                let next = self.record(slot).next;
                self.free = (next != Location::NONE).then(|| next.slot());
                slot
            }
            None if self.used < Location::SLOTS => {
                if self.used as usize == self.chunks.len() * CHUNK {
                    let chunk = std::array::from_fn(|_| Record::free(Location::NONE));
                    self.chunks.push(Box::new(chunk));
                }
                self.used += 1;
                self.used - 1
            }
            None => return None,
        };
        let hash_of_record = hash(record.digest());
        *self.record_mut(slot) = record;
        let chunks = &self.chunks;
        self.by_digest.insert_unique(hash_of_record, slot, |slot| {
            hash(in_chunks(chunks, *slot).digest())
        });
        Some(slot)
    }

    /// Frees a slot.
    pub(super) fn remove(&mut self, slot: u32) {
        let hash = hash(self.record(slot).digest());
        if let Ok(entry) = self.by_digest.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        let next = self.free.map_or(Location::NONE, |free| Location::new(0, free));
        *self.record_mut(slot) = Record::free(next);
        self.free = Some(slot);
    }

    /// The records, with their slots; without free places.
    pub(super) fn records(&self) -> impl Iterator<Item = (u32, &Record)> {
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
        self.by_digest.allocation_size()
    }

    pub(super) fn entries(&self) -> usize {
        self.by_digest.len() + self.old_tokens.len() + self.records().count()
    }
}
