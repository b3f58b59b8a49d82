//! A hash table of numbers that is well filled at every size, and grows without a look at what the numbers stand for.
//!
//! Entries stand in the order of their hashes, each at the place that its hash has in an evenly filled table or as little behind
//! it as those before leave room. So a larger table is this one copied from one end to the other, and it need not be twice as
//! large.

/// What an entry keeps of its hash, in bytes.
const KEPT: usize = 2;

/// Numbers of `WIDTH` bytes, at most 4 and not all of their bits set, found by a hash that the numbers' owner knows. The highest
/// bits of a hash decide.
#[derive(Debug, Default)]
pub(super) struct CompactTable<const WIDTH: usize> {
    /// Each entry is the part of its hash that is kept, then its number: [`EMPTY`](Self::EMPTY) where there is none.
    entries: Box<[u8]>,
    len: usize,
}

impl<const WIDTH: usize> CompactTable<WIDTH> {
    const ENTRY: usize = KEPT + WIDTH;

    const EMPTY: u32 = u32::MAX >> (32 - 8 * WIDTH);

    /// The number that `is_it`, among those with this hash and some others.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let slot = self.slot_of(hash, is_it)?;
        Some(self.entry(slot).1)
    }

    /// Adds a number.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        let kept = kept(hash);
        let mut room = self.room_for(kept);
        // Nine tenths full at most: beyond, entries stand too far behind their places.
        while room.is_none() || self.len * 10 >= self.capacity() * 9 {
            self.grow();
            room = self.room_for(kept);
        }
        if let Some((slot, empty)) = room {
            let (begin, end) = (slot * Self::ENTRY, empty * Self::ENTRY);
            self.entries.copy_within(begin..end, begin + Self::ENTRY);
            self.set(slot, kept, number);
            self.len += 1;
        }
    }

    /// Takes a number out that was added with this hash.
    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        let Some(slot) = self.slot_of(hash, |other| other == number) else {
            return;
        };
        // Those that it was in the way of move up.
        let is_behind = |slot: &usize| {
            let (kept, number) = self.entry(*slot);
            number != Self::EMPTY && self.home(kept) < *slot
        };
        let last = (slot + 1..self.capacity())
            .take_while(is_behind)
            .last()
            .unwrap_or(slot);
        let begin = slot * Self::ENTRY;
        self.entries
            .copy_within(begin + Self::ENTRY..(last + 1) * Self::ENTRY, begin);
        self.set(last, 0, Self::EMPTY);
        self.len -= 1;
    }

    /// Puts a number in the place of another that was added with this hash.
    pub(super) fn replace(&mut self, hash: u64, old: u32, new: u32) {
        if let Some(slot) = self.slot_of(hash, |other| other == old) {
            self.set(slot, kept(hash), new);
        }
    }

    fn slot_of(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        let wanted = kept(hash);
        for slot in self.home(wanted)..self.capacity() {
            let (kept, number) = self.entry(slot);
            if number == Self::EMPTY || kept > wanted {
                return None;
            }
            if kept == wanted && is_it(number) {
                return Some(slot);
            }
        }
        None
    }

    /// Where a new entry belongs, and the first empty slot from there on.
    fn room_for(&self, wanted: u16) -> Option<(usize, usize)> {
        let mut slots = self.home(wanted)..self.capacity();
        let slot = slots.clone().find(|slot| {
            let (kept, number) = self.entry(*slot);
            number == Self::EMPTY || kept > wanted
        })?;
        slots.start = slot;
        let empty = slots.find(|slot| self.entry(*slot).1 == Self::EMPTY)?;
        Some((slot, empty))
    }

    fn grow(&mut self) {
        // What is left of a size after its last entry does not count.
        let mut larger = larger(self.entries.len() + Self::ENTRY);
        while !self.copied_to(larger) {
            larger = self::larger(larger);
        }
    }

    /// Copies everything to a table of so many bytes, which becomes this one; `false` if they are too few.
    fn copied_to(&mut self, bytes: usize) -> bool {
        let mut copy = Self {
            entries: vec![u8::MAX; bytes / Self::ENTRY * Self::ENTRY].into(),
            len: self.len,
        };
        let mut free = 0;
        for slot in 0..self.capacity() {
            let (kept, number) = self.entry(slot);
            if number != Self::EMPTY {
                let place = copy.home(kept).max(free);
                if place >= copy.capacity() {
                    return false;
                }
                copy.set(place, kept, number);
                free = place + 1;
            }
        }
        *self = copy;
        true
    }

    fn capacity(&self) -> usize {
        self.entries.len() / Self::ENTRY
    }

    /// Where an entry stands if no other is in its way. At the end some slots are left for those that are behind.
    fn home(&self, kept: u16) -> usize {
        let capacity = self.capacity();
        let homes = capacity - (capacity / 8).min(32);
        (usize::from(kept) * homes) >> (8 * KEPT)
    }

    fn entry(&self, slot: usize) -> (u16, u32) {
        let begin = slot * Self::ENTRY;
        let entry = &self.entries[begin..begin + Self::ENTRY];
        let mut number = [0; 4];
        number[..WIDTH].copy_from_slice(&entry[KEPT..]);
        (
            u16::from_le_bytes([entry[0], entry[1]]),
            u32::from_le_bytes(number),
        )
    }

    fn set(&mut self, slot: usize, kept: u16, number: u32) {
        let begin = slot * Self::ENTRY;
        let entry = &mut self.entries[begin..begin + Self::ENTRY];
        entry[..KEPT].copy_from_slice(&kept.to_le_bytes());
        entry[KEPT..].copy_from_slice(&number.to_le_bytes()[..WIDTH]);
    }
}

fn kept(hash: u64) -> u16 {
    (hash >> 48) as u16
}

/// The next size in bytes: of those that an allocator hands out without waste, four from one power of two to the next.
fn larger(bytes: usize) -> usize {
    match bytes {
        0..64 => 64,
        _ => {
            let step = (bytes + 1).next_power_of_two() / 8;
            (bytes + 1).next_multiple_of(step)
        }
    }
}

#[cfg(test)]
impl<const WIDTH: usize> CompactTable<WIDTH> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Memory that it takes up.
    pub(super) fn bytes(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use std::collections::BTreeSet;

    fn hash(number: u32) -> u64 {
        let spread = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let spread = (spread ^ spread >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        spread ^ spread >> 27
    }

    /// The same for all but a few numbers, as if somebody had chosen them.
    fn crowded(number: u32) -> u64 {
        u64::from(number % 7) << 62
    }

    fn follow<const WIDTH: usize>(hash: fn(u32) -> u64, steps: Vec<(bool, u32)>) {
        let mut table = CompactTable::<WIDTH>::default();
        let mut expected = BTreeSet::new();
        let is_found = |table: &CompactTable<WIDTH>, number| {
            table.find(hash(number), |other| other == number) == Some(number)
        };
        for (adds, number) in steps {
            match adds {
                true if expected.insert(number) => table.insert(hash(number), number),
                true => {}
                false => {
                    table.remove(hash(number), number);
                    expected.remove(&number);
                }
            }
            assert_eq!(is_found(&table, number), adds);
        }
        assert_eq!(table.len(), expected.len());
        for number in 0..3000 {
            assert_eq!(is_found(&table, number), expected.contains(&number), "{number}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_was_added_and_not_taken_out_is_found(steps in vec((any::<bool>(), 0_u32..3000), 1..6000)) {
            follow::<3>(hash, steps);
        }

        #[test]
        fn hashes_that_meet_lose_nothing(steps in vec((any::<bool>(), 0_u32..300), 1..600)) {
            follow::<4>(crowded, steps);
        }
    }

    #[test]
    fn every_number_of_its_width_is_kept() {
        let mut table = CompactTable::<3>::default();
        let numbers = || {
            (1..=16)
                .map(|shift| (1_u32 << 24 >> shift) - 1)
                .chain([(1 << 24) - 2])
        };
        for number in numbers() {
            table.insert(hash(number), number);
        }
        for number in numbers() {
            assert_eq!(table.find(hash(number), |other| other == number), Some(number));
        }
    }

    #[test]
    fn a_number_takes_the_place_of_another() {
        let mut table = CompactTable::<4>::default();
        for number in 0..1000 {
            table.insert(hash(number), number);
        }
        table.replace(hash(500), 500, 5000);
        assert_eq!(table.find(hash(500), |number| number == 500), None);
        assert_eq!(table.find(hash(500), |number| number == 5000), Some(5000));
        assert_eq!(table.len(), 1000);
    }

    #[test]
    fn f_20_a_table_is_well_filled_at_every_size() {
        let (mut narrow, mut wide) = (CompactTable::<3>::default(), CompactTable::<4>::default());
        for number in 0..200_000 {
            narrow.insert(hash(number), number);
            wide.insert(hash(number), number);
            if number >= 500 {
                let count = f64::from(number + 1);
                let (narrow, wide) = (narrow.bytes() as f64 / count, wide.bytes() as f64 / count);
                assert!(
                    narrow <= 7.1 && wide <= 8.5,
                    "{narrow} and {wide} bytes each for {number}"
                );
            }
        }
    }
}
