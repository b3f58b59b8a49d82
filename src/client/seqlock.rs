//! A seqlock: words that are read whole or not at all, without a lock and without writing.
//!
//! The orderings are those of H.-J. Boehm, "Can Seqlocks Get Along With Programming Language Memory Models?" (MSPC 2012), figure 6.
//! `seqlock_model` compiles this file over loom's atomics, too, and tries every execution that the memory model allows.

use super::sync::{AtomicU64, Ordering, fence, spin_loop};
use std::array;

/// Words that one writer at a time replaces while any number of readers read.
pub(super) struct Seqlock<const WORDS: usize> {
    /// Odd while the words are being written.
    version: AtomicU64,
    pub(super) words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Seqlock<WORDS> {
    /// All words zero.
    pub(super) fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            words: array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// The words as one writer wrote them; `None` if so many attempts all met a writer.
    #[inline]
    pub(super) fn read(&self, attempts: usize) -> Option<[u64; WORDS]> {
        for _ in 0..attempts {
            let before = self.version.load(Ordering::Acquire);
            let words = array::from_fn(|i| self.words[i].load(Ordering::Relaxed));
            // Keeps the loads above from being made after the one below.
            fence(Ordering::Acquire);
            if before & 1 == 0 && self.version.load(Ordering::Relaxed) == before {
                return Some(words);
            }
            spin_loop();
        }
        None
    }

    /// Replaces the words. Writers take turns: the caller sees to that.
    pub(super) fn write(&self, words: [u64; WORDS]) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        // Keeps the stores below from being seen before the one above.
        fence(Ordering::Release);
        for (to, from) in self.words.iter().zip(words) {
            to.store(from, Ordering::Relaxed);
        }
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }
}
