//! When a session was last seen, or that it is over: one atomic word.
//!
//! Expiry and activity are one word, so that one of them comes first: a check that was held up after it had found the session
//! alive cannot bring it back by its touch once another check has answered that it is over.
//!
//! `last_seen_model` compiles this file over loom's atomics, too, and tries every execution that the memory model allows.

use super::sync::{AtomicU32, Ordering};

/// The greatest time since a session's creation that can be noted.
pub(super) const MAX_TICKS: u32 = OVER - 1;

/// In place of a time: a check has answered that the session has expired, so no activity is noted any more.
const OVER: u32 = u32::MAX;

/// A time in ticks since the session's creation, which only grows; or that the session is over.
#[derive(Debug)]
pub(super) struct LastSeen(AtomicU32);

impl LastSeen {
    pub(super) fn at(ticks: u32) -> Self {
        Self(AtomicU32::new(ticks))
    }

    /// `None`: the session is over.
    pub(super) fn get(&self) -> Option<u32> {
        let noted = self.0.load(Ordering::Acquire);
        (noted != OVER).then_some(noted)
    }

    /// The time that is noted, unless a session last seen then has expired: then it is over from now on.
    pub(super) fn end_if(&self, is_expired: impl Fn(u32) -> bool) -> Option<u32> {
        let mut noted = self.get()?;
        while is_expired(noted) {
            match self
                .0
                .compare_exchange_weak(noted, OVER, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) | Err(OVER) => return None,
                Err(newer) => noted = newer,
            }
        }
        Some(noted)
    }

    /// Notes a time, unless a later one is noted, or the session is over, or had expired by then. Says whether it did.
    pub(super) fn raise(&self, ticks: u32, had_expired: impl Fn(u32) -> bool) -> bool {
        let mut noted = self.0.load(Ordering::Acquire);
        // Nothing is later than `OVER`.
        while noted < ticks && !had_expired(noted) {
            match self
                .0
                .compare_exchange_weak(noted, ticks, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return true,
                Err(newer) => noted = newer,
            }
        }
        false
    }

    /// Notes what is noted here, if that is later.
    pub(super) fn inherit(&self, from: &Self) {
        self.0.fetch_max(from.0.load(Ordering::Acquire), Ordering::AcqRel);
    }
}
