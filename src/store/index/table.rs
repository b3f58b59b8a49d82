//! A hash table of numbers that is well filled at every size and never moves more than one bucket's worth.
//!
//! Linear hashing: whenever there are too many numbers for the buckets, one bucket is split in two, in turns. A table that doubles
//! would be half empty on average just after, and would have to move everything at once.

/// Numbers in a bucket on average, at most. Those that wait for their turn to be split have up to twice as many: their tags are
/// two cache lines.
const MEAN: usize = 48;

/// Numbers of `WIDTH` bytes, at most 4, found by a hash that the numbers' owner knows. A number may be there more than once.
///
/// The lowest bits of a hash choose the bucket, the highest tell the numbers in it apart.
#[derive(Debug)]
pub(super) struct Table<const WIDTH: usize> {
    /// There are `2^n + split` of them: those before `split` were already split in this round, and as many are at the end.
    buckets: Vec<Bucket<WIDTH>>,
    len: usize,
}

/// So many tags, 0 where there is nothing, and as many numbers. What is there comes first.
#[derive(Debug)]
struct Bucket<const WIDTH: usize>(Box<[u8]>);

impl<const WIDTH: usize> Default for Table<WIDTH> {
    fn default() -> Self {
        Self {
            buckets: vec![Bucket::with_room_for(0)],
            len: 0,
        }
    }
}

impl<const WIDTH: usize> Table<WIDTH> {
    /// The number that `is_it`, among those with this hash and some others.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let bucket = &self.buckets[self.place(hash)];
        bucket
            .tagged(tag(hash))
            .map(|slot| bucket.number(slot))
            .find(|number| is_it(*number))
    }

    /// Adds a number. `hash_of` gives the hash that a number was added with.
    pub(super) fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        if self.len >= self.buckets.len() * MEAN {
            self.split(hash_of);
        }
        let place = self.place(hash);
        self.buckets[place].push(tag(hash), number);
        self.len += 1;
    }

    /// Takes a number out that was added with this hash.
    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        let place = self.place(hash);
        let bucket = &mut self.buckets[place];
        if let Some(slot) = bucket.slot_of(tag(hash), number) {
            bucket.remove(slot);
            self.len -= 1;
        }
    }

    /// Puts a number in the place of another that was added with this hash.
    pub(super) fn replace(&mut self, hash: u64, old: u32, new: u32) {
        let place = self.place(hash);
        let bucket = &mut self.buckets[place];
        if let Some(slot) = bucket.slot_of(tag(hash), old) {
            bucket.set(slot, tag(hash), new);
        }
    }

    fn place(&self, hash: u64) -> usize {
        let round = self.buckets.len().ilog2();
        let in_round = |round: u32| (hash & ((1 << round) - 1)) as usize;
        let place = in_round(round + 1);
        match place < self.buckets.len() {
            true => place,
            false => in_round(round),
        }
    }

    /// Adds a bucket, with what belongs there out of the one whose turn it is.
    fn split(&mut self, hash_of: impl Fn(u32) -> u64) {
        let new = self.buckets.len();
        let old = new - (1 << new.ilog2());
        if new == self.buckets.capacity() {
            self.buckets.reserve_exact(new / 8 + 1);
        }
        let whole = std::mem::replace(&mut self.buckets[old], Bucket::with_room_for(0));
        self.buckets.push(Bucket::with_room_for(0));
        let numbers: Vec<(u64, u32)> = (0..whole.len())
            .map(|slot| whole.number(slot))
            .map(|number| (hash_of(number), number))
            .collect();
        drop(whole);
        let moving = numbers
            .iter()
            .filter(|(hash, _)| self.place(*hash) == new)
            .count();
        self.buckets[new] = Bucket::with_room_for(moving);
        self.buckets[old] = Bucket::with_room_for(numbers.len() - moving);
        for (hash, number) in numbers {
            let place = self.place(hash);
            self.buckets[place].push(tag(hash), number);
        }
    }
}

/// Never 0.
fn tag(hash: u64) -> u8 {
    ((hash >> 56) as u8).max(1)
}

impl<const WIDTH: usize> Bucket<WIDTH> {
    /// As large as what an allocator would set aside for so many anyway: mimalloc has four sizes from one power of two to the next.
    fn with_room_for(numbers: usize) -> Self {
        let bytes = numbers * (1 + WIDTH);
        let step = (bytes.next_power_of_two() / 8).max(16);
        let capacity = bytes.next_multiple_of(step) / (1 + WIDTH);
        Self(vec![0; capacity * (1 + WIDTH)].into())
    }

    fn capacity(&self) -> usize {
        self.0.len() / (1 + WIDTH)
    }

    fn tags(&self) -> &[u8] {
        &self.0[..self.capacity()]
    }

    fn len(&self) -> usize {
        self.tagged(0).next().unwrap_or(self.capacity())
    }

    /// The slots that have this tag, in order.
    fn tagged(&self, tag: u8) -> impl Iterator<Item = usize> {
        let (words, rest) = self.tags().as_chunks::<8>();
        let in_words = words.iter().enumerate().flat_map(move |(index, word)| {
            Equal::of(u64::from_le_bytes(*word), tag).map(move |byte| index * 8 + byte)
        });
        let begin = words.len() * 8;
        let in_rest = rest.iter().enumerate().filter(move |(_, other)| **other == tag);
        in_words.chain(in_rest.map(move |(index, _)| begin + index))
    }

    fn number(&self, slot: usize) -> u32 {
        let begin = self.capacity() + slot * WIDTH;
        let mut bytes = [0; 4];
        bytes[..WIDTH].copy_from_slice(&self.0[begin..begin + WIDTH]);
        u32::from_le_bytes(bytes)
    }

    fn slot_of(&self, tag: u8, number: u32) -> Option<usize> {
        self.tagged(tag).find(|slot| self.number(*slot) == number)
    }

    fn set(&mut self, slot: usize, tag: u8, number: u32) {
        let begin = self.capacity() + slot * WIDTH;
        self.0[slot] = tag;
        self.0[begin..begin + WIDTH].copy_from_slice(&number.to_le_bytes()[..WIDTH]);
    }

    fn push(&mut self, tag: u8, number: u32) {
        let len = self.len();
        if len == self.capacity() {
            let mut larger = Self::with_room_for(len + 1);
            for slot in 0..len {
                larger.set(slot, self.0[slot], self.number(slot));
            }
            *self = larger;
        }
        self.set(len, tag, number);
    }

    fn remove(&mut self, slot: usize) {
        let last = self.len() - 1;
        self.set(slot, self.0[last], self.number(last));
        self.set(last, 0, 0);
    }
}

/// The bytes of a word, from the lowest, that equal one byte.
struct Equal {
    /// The uppermost bit of each byte that is left.
    hits: u64,
}

impl Equal {
    fn of(word: u64, byte: u8) -> Self {
        const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
        let different = word ^ (u64::from(byte) * 0x0101_0101_0101_0101);
        // No sum carries into the next byte, so that every byte is told for itself.
        let hits = !(((different & LOW) + LOW) | different | LOW);
        Self { hits }
    }
}

impl Iterator for Equal {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let byte = (self.hits != 0).then(|| self.hits.trailing_zeros() as usize / 8)?;
        self.hits &= self.hits - 1;
        Some(byte)
    }
}

#[cfg(test)]
impl<const WIDTH: usize> Table<WIDTH> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Memory that it takes up, without what the allocator adds.
    pub(super) fn bytes(&self) -> usize {
        let buckets = self.buckets.iter().map(|bucket| bucket.0.len()).sum::<usize>();
        self.buckets.capacity() * size_of::<Bucket<WIDTH>>() + buckets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use std::collections::BTreeMap;

    /// Well spread, except that many numbers share a tag.
    fn hash(number: u32) -> u64 {
        let spread = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let spread = (spread ^ spread >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (spread ^ spread >> 27) & !(0x3f << 56)
    }

    fn find<const WIDTH: usize>(table: &Table<WIDTH>, number: u32) -> Option<u32> {
        table.find(hash(number), |other| other == number)
    }

    proptest! {
        #[test]
        fn what_was_added_and_not_taken_out_is_found(steps in vec((any::<bool>(), 0_u32..3000), 1..6000)) {
            let mut table = Table::<3>::default();
            let mut expected = BTreeMap::new();
            for (adds, number) in steps {
                let is_there = expected.contains_key(&number);
                match adds {
                    true if !is_there => {
                        table.insert(hash(number), number, hash);
                        expected.insert(number, ());
                    }
                    true => {}
                    false => {
                        table.remove(hash(number), number);
                        expected.remove(&number);
                    }
                }
                prop_assert_eq!(find(&table, number).is_some(), expected.contains_key(&number));
            }
            prop_assert_eq!(table.len(), expected.len());
            for number in 0..3000 {
                prop_assert_eq!(find(&table, number).is_some(), expected.contains_key(&number));
            }
        }
    }

    #[test]
    fn every_number_of_its_width_is_kept() {
        let mut table = Table::<4>::default();
        for number in (0..=16).map(|shift| u32::MAX >> shift) {
            table.insert(hash(number), number, hash);
        }
        for number in (0..=16).map(|shift| u32::MAX >> shift) {
            assert_eq!(find(&table, number), Some(number));
        }
    }

    #[test]
    fn a_number_takes_the_place_of_another() {
        let mut table = Table::<4>::default();
        for number in 1..1000 {
            table.insert(hash(number), number, hash);
        }
        table.replace(hash(500), 500, 5000);
        assert_eq!(table.find(hash(500), |number| number == 500), None);
        assert_eq!(table.find(hash(500), |number| number == 5000), Some(5000));
        assert_eq!(table.len(), 999);
    }

    #[test]
    fn f_20_a_table_is_well_filled_at_every_size_and_moves_little_at_a_time() {
        let mut table = Table::<4>::default();
        let moved = std::cell::Cell::new(0);
        let counted = |number| {
            moved.set(moved.get() + 1);
            hash(number)
        };
        for number in 0..100_000 {
            moved.set(0);
            table.insert(hash(number), number, counted);
            assert!(moved.get() <= 4 * MEAN, "{} moved at once", moved.get());
            if number >= 1000 {
                let bytes = table.bytes() as f64 / f64::from(number + 1);
                assert!(bytes <= 6.3, "{bytes} bytes a number at {number}");
            }
        }
    }
}
