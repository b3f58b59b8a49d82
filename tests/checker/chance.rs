//! Chance that can be had again: the same seed, the same choices.

use std::time::{SystemTime, UNIX_EPOCH};

/// Numbers that look random (SplitMix64), from a seed.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator of its own for part `number` of a run.
    pub(crate) fn part(seed: u64, number: usize) -> Self {
        let mut parts = Self(seed ^ (number as u64).wrapping_mul(0xd134_2543_de82_ef95));
        Self(parts.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(crate) fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        match from {
            [] => None,
            some => Some(some[self.below(some.len())]),
        }
    }
}

/// The seed of this run: `SESSIOND_TEST_SEED`, or one that differs from run to run. Printed, so that a failure tells it.
pub(crate) fn seed(of: &str) -> u64 {
    let seed = match std::env::var("SESSIOND_TEST_SEED") {
        Ok(text) => text.parse().expect("SESSIOND_TEST_SEED is a number"),
        Err(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            now.as_nanos() as u64
        }
    };
    println!("{of}: SESSIOND_TEST_SEED={seed}");
    seed
}
