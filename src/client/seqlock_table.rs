//! A set-associative table of fixed size from tokens to answers, read without a lock.
//!
//! It is laid out as a processor lays out its caches: sets of eight slots, where a token's keyed hash says which set. Each slot
//! is a seqlock: a reader that finds that the version has changed reads again, and writes nothing but, now and then, the flag
//! that the slot was used.

use super::{checked_session::LocalSession, seqlock::Seqlock};
use crate::domain::{AuthMethod, NoRandomness, SessionId, SessionToken, Timestamp, UserId};
use parking_lot::Mutex;
use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
};
use zeroize::{Zeroize as _, Zeroizing};

/// Slots in a set.
pub(super) const WAYS: usize = 8;
/// A token's 47 bytes in words, padded with zero.
const TOKEN_WORDS: usize = 6;
/// A [`CachedAnswer`] in words.
const ANSWER_WORDS: usize = 8;
/// What a slot's seqlock guards.
const SLOT_WORDS: usize = TOKEN_WORDS + ANSWER_WORDS;
/// Writers of one set take turns; there are few, so sets share their locks.
const WRITER_LOCKS: usize = 64;
/// How often a reader tries a slot that is being written before it reports a miss.
const READ_ATTEMPTS: usize = 64;

/// A token in the form that the table compares.
pub(super) struct TokenKey([u64; TOKEN_WORDS]);

impl TokenKey {
    /// `None` if the text does not have a token's length.
    #[inline]
    pub(super) fn of(text: &str) -> Option<Self> {
        let text: &[u8; SessionToken::TEXT_BYTES] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; TOKEN_WORDS * 8];
        bytes[..SessionToken::TEXT_BYTES].copy_from_slice(text);
        let (words, _) = bytes.as_chunks::<8>();
        Some(Self(array::from_fn(|i| u64::from_le_bytes(words[i]))))
    }

    fn text(&self) -> Zeroizing<String> {
        let bytes: Zeroizing<Vec<u8>> =
            Zeroizing::new(self.0.iter().flat_map(|word| word.to_le_bytes()).collect());
        // Only well-formed tokens, which are ASCII, are ever inserted.
        let text = std::str::from_utf8(&bytes[..SessionToken::TEXT_BYTES]).unwrap_or_default();
        Zeroizing::new(text.to_owned())
    }
}

/// What is remembered of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CachedAnswer {
    pub(super) session: LocalSession,
    /// The [`RevocationVersions::version`](super::revocation_versions::RevocationVersions::version) at which the check was sent.
    pub(super) version: u64,
}

impl CachedAnswer {
    fn to_words(self) -> [u64; ANSWER_WORDS] {
        let session = self.session;
        let method: u64 = match session.auth_method {
            None => 0,
            Some(AuthMethod::Password) => 1,
            Some(AuthMethod::Caller) => 2,
        };
        let [user_high, user_low] = halves(session.user_id.to_bytes());
        let [session_high, session_low] = halves(session.session_id.to_bytes());
        [
            user_high,
            user_low,
            session_high,
            session_low,
            session.authenticated_at.as_millis().cast_unsigned(),
            session.local_authenticated_at.as_millis().cast_unsigned(),
            session.local_valid_until.as_millis().cast_unsigned(),
            // The count of revocations does not reach 2^62.
            self.version << 2 | method,
        ]
    }

    fn from_words(words: [u64; ANSWER_WORDS]) -> Self {
        let [
            user_high,
            user_low,
            session_high,
            session_low,
            authenticated_at,
            local_authenticated_at,
            local_valid_until,
            rest,
        ] = words;
        let instant = |word: u64| Timestamp::from_millis(word.cast_signed());
        Self {
            session: LocalSession {
                user_id: UserId::from_bytes(whole([user_high, user_low])),
                session_id: SessionId::from_bytes(whole([session_high, session_low])),
                authenticated_at: instant(authenticated_at),
                auth_method: match rest & 3 {
                    1 => Some(AuthMethod::Password),
                    2 => Some(AuthMethod::Caller),
                    _ => None,
                },
                local_authenticated_at: instant(local_authenticated_at),
                local_valid_until: instant(local_valid_until),
            },
            version: rest >> 2,
        }
    }
}

fn halves(bytes: [u8; 16]) -> [u64; 2] {
    let whole = u128::from_be_bytes(bytes);
    [(whole >> 64) as u64, whole as u64]
}

fn whole([high, low]: [u64; 2]) -> [u8; 16] {
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

/// One token and its answer, in two cache lines.
#[repr(align(128))]
struct CacheSlot {
    /// The token's words, then the answer's.
    seqlock: Seqlock<SLOT_WORDS>,
    /// The tag of the token if it was used since it was last checked: a late reader's tag does not count for another token.
    used: AtomicU64,
}

/// The tags of a set's slots, in one cache line. 0: the slot is empty.
#[repr(align(64))]
struct Tags([AtomicU64; WAYS]);

/// See the module.
pub(super) struct SeqlockTable {
    hash_key: [u64; TOKEN_WORDS],
    tags: Box<[Tags]>,
    slots: Box<[CacheSlot]>,
    writers: [Mutex<()>; WRITER_LOCKS],
}

/// A token's set, and its tag within it.
#[derive(Clone, Copy)]
pub(super) struct TokenHash {
    set: usize,
    tag: u64,
}

impl SeqlockTable {
    /// A table for so many answers, rounded up to a multiple of eight. Its memory, 136 bytes for each, is taken now.
    pub(super) fn with_capacity(max_entries: usize) -> Result<Self, NoRandomness> {
        let sets = max_entries.div_ceil(WAYS).max(1);
        let mut key = [0; TOKEN_WORDS * 8];
        getrandom::fill(&mut key).map_err(NoRandomness)?;
        let (words, _) = key.as_chunks::<8>();
        Ok(Self {
            hash_key: array::from_fn(|i| u64::from_ne_bytes(words[i])),
            tags: (0..sets)
                .map(|_| Tags(array::from_fn(|_| AtomicU64::new(0))))
                .collect(),
            slots: (0..sets * WAYS)
                .map(|_| CacheSlot {
                    seqlock: Seqlock::new(),
                    used: AtomicU64::new(0),
                })
                .collect(),
            writers: array::from_fn(|_| Mutex::new(())),
        })
    }

    /// The token's hash.
    ///
    /// NH (RFC 4418 §5.2), folded: universal under a key that nobody outside knows, so nobody can choose tokens that collide, nor
    /// learn a token from the time that a read takes. It names slots; whether a token is the right one is decided by comparing
    /// all of it.
    #[inline]
    pub(super) fn hash(&self, token: &TokenKey) -> TokenHash {
        let keyed = |i: usize| u128::from(token.0[i].wrapping_add(self.hash_key[i]));
        let sum = (keyed(0) * keyed(1))
            .wrapping_add(keyed(2) * keyed(3))
            .wrapping_add(keyed(4) * keyed(5));
        let hash = (sum >> 64) as u64 ^ sum as u64;
        TokenHash {
            set: ((u128::from(hash) * self.tags.len() as u128) >> 64) as usize,
            tag: hash | 1,
        }
    }

    /// What is remembered of the token. Flags it as used if `is_use` says that this is one.
    #[inline]
    pub(super) fn get(
        &self,
        token: &TokenKey,
        hash: TokenHash,
        is_use: impl FnOnce(&CachedAnswer) -> bool,
    ) -> Option<CachedAnswer> {
        let way = self.way_with_tag(hash)?;
        let slot = &self.slots[hash.set * WAYS + way];
        let (found, words) = slot.read()?;
        // Every word is compared, whatever the others say, so the time tells nothing.
        let difference = (0..TOKEN_WORDS).fold(0, |difference, i| difference | (found.0[i] ^ token.0[i]));
        if difference != 0 {
            return None;
        }
        let answer = CachedAnswer::from_words(words);
        // Looked at first: a line that is only read stays in every core's cache.
        if is_use(&answer) && slot.used.load(Ordering::Relaxed) != hash.tag {
            slot.used.store(hash.tag, Ordering::Relaxed);
        }
        Some(answer)
    }

    /// Writes the answer over the token's former one; else into an empty slot; else over the one that was not used lately and
    /// would expire first.
    pub(super) fn insert(&self, token: &TokenKey, hash: TokenHash, answer: CachedAnswer) {
        let _guard = self.writers[hash.set % WRITER_LOCKS].lock();
        let way = self
            .way_with_tag(hash)
            .unwrap_or_else(|| self.eviction_candidate(hash.set));
        let slot = &self.slots[hash.set * WAYS + way];
        let tag = &self.tags[hash.set].0[way];
        if tag.swap(hash.tag, Ordering::Relaxed) != hash.tag {
            slot.used.store(0, Ordering::Relaxed);
        }
        slot.write(token.0, answer.to_words());
    }

    /// Forgets the token, and wipes it.
    pub(super) fn remove(&self, hash: TokenHash) {
        let _guard = self.writers[hash.set % WRITER_LOCKS].lock();
        if let Some(way) = self.way_with_tag(hash) {
            self.wipe(hash.set, way);
        }
    }

    /// How many sets there are, for [`SeqlockTable::sweep_set`].
    pub(super) fn set_count(&self) -> usize {
        self.tags.len()
    }

    /// Wipes what has expired in this set, and returns the tokens that were used since they were last returned.
    pub(super) fn sweep_set(&self, set: usize, now: Timestamp, used: &mut Vec<Zeroizing<String>>) {
        let _guard = self.writers[set % WRITER_LOCKS].lock();
        for way in 0..WAYS {
            let tag = self.tags[set].0[way].load(Ordering::Relaxed);
            if tag == 0 {
                continue;
            }
            let slot = &self.slots[set * WAYS + way];
            let Some((token, words)) = slot.read() else {
                continue;
            };
            if CachedAnswer::from_words(words).session.local_valid_until <= now {
                self.wipe(set, way);
            } else if slot.used.swap(0, Ordering::Relaxed) == tag {
                used.push(token.text());
            }
        }
    }

    /// Flags the token as used, so that the next sweep returns it.
    pub(super) fn set_used(&self, hash: TokenHash) {
        let _guard = self.writers[hash.set % WRITER_LOCKS].lock();
        if let Some(way) = self.way_with_tag(hash) {
            self.slots[hash.set * WAYS + way]
                .used
                .store(hash.tag, Ordering::Relaxed);
        }
    }

    #[inline]
    fn way_with_tag(&self, hash: TokenHash) -> Option<usize> {
        let tags = &self.tags[hash.set].0;
        (0..WAYS).find(|&way| tags[way].load(Ordering::Relaxed) == hash.tag)
    }

    fn eviction_candidate(&self, set: usize) -> usize {
        let rank = |way: usize| {
            let tag = self.tags[set].0[way].load(Ordering::Relaxed);
            let slot = &self.slots[set * WAYS + way];
            let until = slot
                .read()
                .map(|(_, words)| CachedAnswer::from_words(words).session.local_valid_until);
            (tag != 0, slot.used.load(Ordering::Relaxed) == tag, until)
        };
        (0..WAYS).min_by_key(|&way| rank(way)).unwrap_or(0)
    }

    /// The caller holds the set's writer lock.
    fn wipe(&self, set: usize, way: usize) {
        self.tags[set].0[way].store(0, Ordering::Relaxed);
        self.slots[set * WAYS + way].write([0; TOKEN_WORDS], [0; ANSWER_WORDS]);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let tags = self.tags.iter().flat_map(|set| &set.0);
        tags.filter(|tag| tag.load(Ordering::Relaxed) != 0).count()
    }
}

impl CacheSlot {
    #[inline]
    fn read(&self) -> Option<(TokenKey, [u64; ANSWER_WORDS])> {
        let words = self.seqlock.read(READ_ATTEMPTS)?;
        let token = array::from_fn(|i| words[i]);
        let answer = array::from_fn(|i| words[TOKEN_WORDS + i]);
        Some((TokenKey(token), answer))
    }

    /// The caller holds the set's writer lock.
    fn write(&self, token: [u64; TOKEN_WORDS], answer: [u64; ANSWER_WORDS]) {
        let mut words = token.into_iter().chain(answer);
        self.seqlock
            .write(array::from_fn(|_| words.next().unwrap_or_default()));
    }
}

/// Tokens do not outlive the table.
impl Drop for CacheSlot {
    fn drop(&mut self) {
        for word in &mut self.seqlock.words {
            word.get_mut().zeroize();
        }
    }
}

const _: () = assert!(size_of::<CacheSlot>() == 128);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{
        sync::atomic::{AtomicBool, AtomicUsize},
        thread,
    };

    fn token(n: u32) -> SessionToken {
        let mut random = [0; 32];
        random[..4].copy_from_slice(&n.to_be_bytes());
        SessionToken::from_random(random)
    }

    /// All of it follows from `n`, so that a reader can tell an answer from a mix of two.
    fn cached(n: u32) -> CachedAnswer {
        let instant = |plus: i64| Timestamp::from_millis(1_000_000 + i64::from(n) * 10 + plus);
        let bits = [n.to_be_bytes()[3]; 10];
        CachedAnswer {
            session: LocalSession {
                user_id: UserId::new(instant(0), bits),
                session_id: SessionId::new(instant(1), bits),
                authenticated_at: instant(2),
                auth_method: Some(AuthMethod::Caller),
                local_authenticated_at: instant(3),
                local_valid_until: instant(4),
            },
            version: u64::from(n),
        }
    }

    fn insert(table: &SeqlockTable, of: u32, n: u32) {
        let key = TokenKey::of(token(of).expose()).unwrap();
        table.insert(&key, table.hash(&key), cached(n));
    }

    fn get(table: &SeqlockTable, of: u32) -> Option<CachedAnswer> {
        let key = TokenKey::of(token(of).expose()).unwrap();
        table.get(&key, table.hash(&key), |_| true)
    }

    #[test]
    fn what_was_written_is_read_and_what_was_removed_is_not() {
        let table = SeqlockTable::with_capacity(64).unwrap();
        insert(&table, 1, 1);
        assert_eq!(get(&table, 1), Some(cached(1)));
        assert_eq!(get(&table, 2), None);
        insert(&table, 1, 5);
        assert_eq!((get(&table, 1), table.len()), (Some(cached(5)), 1));
        let key = TokenKey::of(token(1).expose()).unwrap();
        table.remove(table.hash(&key));
        assert_eq!((get(&table, 1), table.len()), (None, 0));
    }

    #[test]
    fn two_tokens_with_one_hash_are_told_apart() {
        let table = SeqlockTable::with_capacity(8).unwrap();
        let (one, other) = (token(1), token(2));
        let (one, other) = (
            TokenKey::of(one.expose()).unwrap(),
            TokenKey::of(other.expose()).unwrap(),
        );
        let hash = table.hash(&one);
        table.insert(&one, hash, cached(1));
        assert_eq!(table.get(&other, hash, |_| true), None);
        table.insert(&other, hash, cached(2));
        assert_eq!(table.get(&one, hash, |_| true), None);
        assert_eq!(table.get(&other, hash, |_| true), Some(cached(2)));
    }

    #[test]
    fn memory_is_bounded_and_what_is_in_use_stays() {
        let table = SeqlockTable::with_capacity(800).unwrap();
        for n in 0..8 {
            insert(&table, n, n);
            get(&table, n);
        }
        for n in 1_000..10_000 {
            insert(&table, n, n);
        }
        assert!(table.len() <= 800, "{}", table.len());
        assert!(table.len() > 700, "{}", table.len());
        for n in 0..8 {
            assert_eq!(get(&table, n), Some(cached(n)));
        }
    }

    #[test]
    fn a_sweep_returns_what_was_used_once_and_wipes_what_expired() {
        let table = SeqlockTable::with_capacity(8).unwrap();
        for n in 1..=3 {
            insert(&table, n, n);
        }
        get(&table, 2);
        get(&table, 3);
        let mut used = Vec::new();
        table.sweep_set(0, cached(2).session.local_valid_until, &mut used);
        let used: Vec<&str> = used.iter().map(|token| token.as_str()).collect();
        assert_eq!(used, [token(3).expose()]);
        assert_eq!((get(&table, 1), get(&table, 2), table.len()), (None, None, 1));

        let mut used = Vec::new();
        table.sweep_set(0, Timestamp::default(), &mut used);
        assert!(used.is_empty());
        let key = TokenKey::of(token(3).expose()).unwrap();
        table.set_used(table.hash(&key));
        table.sweep_set(0, Timestamp::default(), &mut used);
        assert_eq!(used.len(), 1);
    }

    #[test]
    fn f_12_a_reader_never_sees_a_mix_of_two_answers_nor_another_tokens() {
        // One set, sixteen tokens: slots are overwritten all the time.
        let table = SeqlockTable::with_capacity(8).unwrap();
        /// Lets the writers stop however a reader ends.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let stop = AtomicBool::new(false);
        let seen = AtomicUsize::new(0);
        thread::scope(|scope| {
            for writer in 0..2 {
                let (table, stop) = (&table, &stop);
                scope.spawn(move || {
                    let mut round = 0;
                    while !stop.load(Ordering::Relaxed) {
                        round += 1;
                        for n in 0..16 {
                            insert(table, n, (round * 2 + writer) << 8 | n);
                        }
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    let _stop = Stop(&stop);
                    for n in (0..16).cycle().take(400_000) {
                        if let Some(found) = get(&table, n) {
                            let number = u32::try_from(found.version).unwrap();
                            assert_eq!(number & 0xff, n);
                            assert_eq!(found, cached(number));
                            seen.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!(seen.into_inner() > 0);
    }

    #[test]
    fn text_that_has_not_a_tokens_length_has_no_key() {
        let token = token(1);
        let longer = format!("{}\0", token.expose());
        for text in ["", &token.expose()[1..], &longer] {
            assert!(TokenKey::of(text).is_none());
        }
    }
}
