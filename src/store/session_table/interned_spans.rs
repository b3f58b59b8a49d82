//! The time-outs that sessions have in common, kept once.

use crate::domain::SessionSpan;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Numbers from 1 to here can be given out.
pub(super) const LAST_NUMBER: u32 = (1 << 11) - 1;

/// Pairs of time-outs by number, as long as a session has them. Callers choose them freely, so there may be more than there are
/// numbers: a session that gets none has its own copy.
///
/// Only the index's writer takes and gives back.
#[derive(Debug)]
pub(super) struct InternedSpans(Box<[Interned]>);

#[derive(Debug, Default)]
struct Interned {
    /// The lifetime in the upper half, the idle timeout in the lower.
    secs: AtomicU64,
    /// Sessions that have it.
    users: AtomicU32,
}

impl InternedSpans {
    pub(super) fn new() -> Self {
        Self((1..=LAST_NUMBER).map(|_| Interned::default()).collect())
    }

    /// The span that a record has by this number.
    pub(super) fn get(&self, number: u32) -> Option<SessionSpan> {
        let secs = self.interned(number)?.secs.load(Ordering::Relaxed);
        Some(SessionSpan::from_secs((secs >> 32) as u32, secs as u32))
    }

    /// A number for the span, for one more session; `None` if there are too many spans.
    pub(super) fn take(&self, span: SessionSpan) -> Option<u32> {
        let secs = u64::from(span.lifetime_secs()) << 32 | u64::from(span.idle_timeout_secs());
        let mut unused = None;
        let mut place = None;
        for (index, interned) in self.0.iter().enumerate() {
            if interned.users.load(Ordering::Relaxed) == 0 {
                unused = unused.or(Some(index));
                // Nothing was ever given out from here on.
                if interned.secs.load(Ordering::Relaxed) == 0 {
                    break;
                }
            } else if interned.secs.load(Ordering::Relaxed) == secs {
                place = Some(index);
                break;
            }
        }
        let place = place.or(unused)?;
        let interned = &self.0[place];
        // Readers come here from a record, under the lock that protects it; no record holds a number without users.
        interned.secs.store(secs, Ordering::Relaxed);
        interned.users.fetch_add(1, Ordering::Relaxed);
        Some(place as u32 + 1)
    }

    /// One session less has this number.
    pub(super) fn give_back(&self, number: u32) {
        if let Some(interned) = self.interned(number) {
            interned.users.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn interned(&self, number: u32) -> Option<&Interned> {
        self.0.get(number.checked_sub(1)? as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_shared_and_used_again_when_nobody_has_it() {
        let spans = InternedSpans::new();
        let (a, b) = (SessionSpan::from_secs(60, 6), SessionSpan::from_secs(60, 7));
        let numbers = [a, b, a].map(|span| spans.take(span).unwrap());
        assert_eq!(numbers[0], numbers[2]);
        assert_eq!(numbers.map(|number| spans.get(number).unwrap()), [a, b, a]);
        spans.give_back(numbers[0]);
        let c = SessionSpan::from_secs(1, 1);
        assert_ne!(spans.take(c), Some(numbers[0]), "a session still has it");
        spans.give_back(numbers[0]);
        let d = SessionSpan::from_secs(2, 2);
        assert_eq!(spans.take(d), Some(numbers[0]));
        assert_eq!(spans.get(numbers[0]), Some(d));
    }

    #[test]
    fn the_numbers_end() {
        let spans = InternedSpans::new();
        let span = |n| SessionSpan::from_secs(n, n);
        let taken: Vec<_> = (1..=LAST_NUMBER).map(|n| spans.take(span(n)).unwrap()).collect();
        assert_eq!(spans.take(span(LAST_NUMBER + 1)), None);
        assert_eq!(spans.take(span(5)), Some(taken[4]));
        assert_eq!(spans.get(0), None);
        assert_eq!(spans.get(LAST_NUMBER + 1), None);
    }
}
