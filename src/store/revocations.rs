//! The log of revocations: what caches of answers have to drop, in order, with no gap that goes unnoticed.

use crate::domain::Revocation;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};
use tokio::sync::watch;

/// A place in one log: which log, and how many entries came before.
///
/// As text, for clients to hold: two hexadecimal numbers with a dash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Which log. A log that cannot continue its numbers after a restart takes a new one.
    pub log: u64,
    /// The number of the last entry seen.
    pub sequence: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.log, self.sequence)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (log, sequence) = text.split_once('-').ok_or(InvalidCursor)?;
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => u64::from_str_radix(text, 16).map_err(|_| InvalidCursor),
            false => Err(InvalidCursor),
        };
        Ok(Self {
            log: number(log)?,
            sequence: number(sequence)?,
        })
    }
}

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a cursor that WatchRevocations has sent")]
pub struct InvalidCursor;

/// What a reader of the log receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationEvent {
    /// These sessions ended.
    Revoked(Revocation),
    /// Something was missed: every cached answer may be wrong.
    Forget,
}

/// Entries kept for readers that come back or fall behind; one that is further behind has to forget.
const KEPT_ENTRIES: usize = 65_536;

/// What has been revoked, in order. Cheap to clone: all clones are one log.
///
/// A store whose sessions belong to this process alone writes with [`publish`](Self::publish). A store that is shared follows
/// the shared log with [`publish_at`](Self::publish_at), says with [`confirm`](Self::confirm) that it has everything, and
/// [`restart`](Self::restart)s the log when it may have missed something.
#[derive(Debug, Clone)]
pub struct RevocationLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ring: Mutex<Ring>,
    /// Changes with every entry, to wake readers.
    head: watch::Sender<Cursor>,
    /// When a shared store last confirmed the log, by [`monotonic_millis`]; [`i64::MAX`]: this process alone writes it.
    confirmed_at: AtomicI64,
}

#[derive(Debug)]
struct Ring {
    log: u64,
    /// How often the log was restarted. Its numbers may have gone back with that.
    restarts: u64,
    /// Every entry with a greater sequence is in `entries`.
    floor: u64,
    head: u64,
    entries: VecDeque<(u64, Revocation)>,
}

impl Ring {
    fn push(&mut self, sequence: u64, revocation: Revocation) {
        if self.entries.len() == KEPT_ENTRIES
            && let Some((dropped, _)) = self.entries.pop_front()
        {
            self.floor = dropped;
        }
        self.entries.push_back((sequence, revocation));
        self.head = sequence;
    }

    fn cursor(&self) -> Cursor {
        Cursor {
            log: self.log,
            sequence: self.head,
        }
    }
}

impl RevocationLog {
    /// The log of a store that only this process writes to, with a number that no other log had.
    #[must_use]
    pub fn in_process(log: u64) -> Self {
        Self::starting_at(Cursor { log, sequence: 0 }, i64::MAX)
    }

    /// A log that follows a shared one, from `head` on. Not confirmed yet.
    #[must_use]
    pub fn following(head: Cursor) -> Self {
        Self::starting_at(head, i64::MIN)
    }

    fn starting_at(head: Cursor, confirmed_at: i64) -> Self {
        let ring = Ring {
            log: head.log,
            restarts: 0,
            floor: head.sequence,
            head: head.sequence,
            entries: VecDeque::new(),
        };
        Self {
            shared: Arc::new(Shared {
                ring: Mutex::new(ring),
                head: watch::Sender::new(head),
                confirmed_at: AtomicI64::new(confirmed_at),
            }),
        }
    }

    /// Appends an entry under the next number.
    pub fn publish(&self, revocation: Revocation) {
        let mut ring = self.shared.ring.lock();
        let sequence = ring.head + 1;
        ring.push(sequence, revocation);
        // Under the lock, so that the head never moves backwards.
        self.shared.head.send_replace(ring.cursor());
    }

    /// Appends an entry of the shared log. Numbers may have gaps; one that is not greater than the last is known already.
    pub fn publish_at(&self, sequence: u64, revocation: Revocation) {
        let mut ring = self.shared.ring.lock();
        if sequence > ring.head {
            ring.push(sequence, revocation);
            self.shared.head.send_replace(ring.cursor());
        }
    }

    /// Goes on from `head`; every reader has to forget.
    pub fn restart(&self, head: Cursor) {
        let mut ring = self.shared.ring.lock();
        *ring = Ring {
            log: head.log,
            restarts: ring.restarts + 1,
            floor: head.sequence,
            head: head.sequence,
            entries: VecDeque::new(),
        };
        drop(ring);
        // A reader compares cursors, and this one may equal what it last saw: it must wake and look all the same.
        self.shared.head.send_replace(head);
    }

    /// Notes that the log holds all that the shared one held at `asked_at`, an instant of [`monotonic_millis`].
    pub fn confirm(&self, asked_at: i64) {
        self.shared.confirmed_at.fetch_max(asked_at, Ordering::Release);
    }

    /// Until when the log is known to hold everything that was revoked, by [`monotonic_millis`]; [`i64::MIN`] if that is not
    /// known at all.
    #[must_use]
    pub fn complete_until(&self) -> i64 {
        // The clock is read first: what is published between the two reads makes the answer more true, not less.
        let now = monotonic_millis();
        self.shared.confirmed_at.load(Ordering::Acquire).min(now)
    }

    /// Where the log stands.
    #[must_use]
    pub fn head(&self) -> Cursor {
        self.shared.ring.lock().cursor()
    }

    /// A reader of what follows `after`. Without it, or if that is no longer kept, the reader first has to forget.
    #[must_use]
    pub fn read(&self, after: Option<Cursor>) -> Revocations {
        Revocations {
            log: self.clone(),
            restarts: self.shared.ring.lock().restarts,
            changed: self.shared.head.subscribe(),
            // No log has this number, so the first read finds that it cannot continue.
            at: after.unwrap_or(Cursor {
                log: u64::MAX,
                sequence: 0,
            }),
        }
    }

    /// How many readers there are now.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.shared.head.receiver_count()
    }
}

/// Milliseconds of a clock that only goes forward.
#[must_use]
pub(crate) fn monotonic_millis() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec
        .saturating_mul(1000)
        .saturating_add(time.tv_nsec / 1_000_000)
}

/// One reader's place in a [`RevocationLog`].
#[derive(Debug)]
pub struct Revocations {
    log: RevocationLog,
    /// How often the log had been restarted when the reader looked last.
    restarts: u64,
    changed: watch::Receiver<Cursor>,
    at: Cursor,
}

impl Revocations {
    /// Where the reader stands.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.at
    }

    /// What came since, with the cursor after each: waits for at least one, gives at most `limit`.
    ///
    /// Cancel-safe: a dropped call has consumed nothing.
    pub async fn next(&mut self, limit: usize) -> Vec<(Cursor, RevocationEvent)> {
        loop {
            // Marked before looking: an entry that arrives after the look wakes the wait below.
            self.changed.borrow_and_update();
            let events = self.ready(limit);
            if !events.is_empty() {
                return events;
            }
            // The sender lives in `self.log`, so the wait ends only with a change.
            let _ = self.changed.changed().await;
        }
    }

    /// As [`next`](Self::next), without waiting: empty if nothing came.
    pub fn ready(&mut self, limit: usize) -> Vec<(Cursor, RevocationEvent)> {
        let ring = self.log.shared.ring.lock();
        let continues = self.at.log == ring.log
            && self.restarts == ring.restarts
            && (ring.floor..=ring.head).contains(&self.at.sequence);
        if !continues {
            self.restarts = ring.restarts;
            self.at = ring.cursor();
            return vec![(self.at, RevocationEvent::Forget)];
        }
        let start = ring
            .entries
            .partition_point(|(sequence, _)| *sequence <= self.at.sequence);
        let events: Vec<_> = ring
            .entries
            .range(start..)
            .take(limit)
            .map(|&(sequence, revocation)| {
                (
                    Cursor {
                        log: ring.log,
                        sequence,
                    },
                    RevocationEvent::Revoked(revocation),
                )
            })
            .collect();
        if let Some((cursor, _)) = events.last() {
            self.at = *cursor;
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Timestamp, UserId};

    fn user(n: u8) -> Revocation {
        Revocation::User {
            user: UserId::new(Timestamp::default(), [n; 10]),
            except: None,
        }
    }

    fn revoked(events: &[(Cursor, RevocationEvent)]) -> Vec<RevocationEvent> {
        events.iter().map(|(_, event)| *event).collect()
    }

    #[tokio::test]
    async fn a_reader_without_a_cursor_is_told_to_forget_and_then_everything() {
        let log = RevocationLog::in_process(7);
        log.publish(user(1));
        let mut reader = log.read(None);
        assert_eq!(revoked(&reader.next(10).await), [RevocationEvent::Forget]);
        log.publish(user(2));
        log.publish(user(3));
        assert_eq!(
            revoked(&reader.next(10).await),
            [
                RevocationEvent::Revoked(user(2)),
                RevocationEvent::Revoked(user(3))
            ]
        );
    }

    #[tokio::test]
    async fn a_reader_that_comes_back_is_told_what_it_missed() {
        let log = RevocationLog::in_process(7);
        log.publish(user(1));
        let cursor = log.head();
        log.publish(user(2));
        let mut reader = log.read(Some(cursor.to_string().parse().unwrap()));
        assert_eq!(
            revoked(&reader.next(10).await),
            [RevocationEvent::Revoked(user(2))]
        );
    }

    #[tokio::test]
    async fn a_reader_that_falls_behind_is_told_to_forget() {
        let log = RevocationLog::in_process(7);
        let mut reader = log.read(Some(log.head()));
        for _ in 0..=KEPT_ENTRIES {
            log.publish(user(1));
        }
        assert_eq!(revoked(&reader.next(10).await), [RevocationEvent::Forget]);
        log.publish(user(2));
        assert_eq!(
            revoked(&reader.next(10).await),
            [RevocationEvent::Revoked(user(2))]
        );
    }

    #[tokio::test]
    async fn a_restarted_log_tells_every_reader_to_forget() {
        let log = RevocationLog::following(Cursor { log: 1, sequence: 5 });
        let mut reader = log.read(Some(log.head()));
        log.restart(Cursor { log: 2, sequence: 5 });
        assert_eq!(revoked(&reader.next(10).await), [RevocationEvent::Forget]);
    }

    #[tokio::test]
    async fn f_15_a_log_that_lost_its_last_entries_tells_every_reader_to_forget() {
        let head = |sequence| Cursor { log: 1, sequence };
        let log = RevocationLog::following(head(5));
        let mut reader = log.read(Some(log.head()));
        log.restart(head(4));
        // By the time that the reader looks, the log is where it was before, with another entry there.
        log.publish_at(5, user(1));
        assert_eq!(revoked(&reader.next(10).await), [RevocationEvent::Forget]);
        log.publish_at(6, user(2));
        assert_eq!(
            revoked(&reader.next(10).await),
            [RevocationEvent::Revoked(user(2))]
        );
        let mut ahead = log.read(Some(head(9)));
        assert_eq!(revoked(&ahead.next(10).await), [RevocationEvent::Forget]);
    }

    #[test]
    fn a_shared_log_is_complete_until_it_was_last_confirmed() {
        let log = RevocationLog::following(Cursor { log: 1, sequence: 5 });
        assert_eq!(log.complete_until(), i64::MIN);
        let asked_at = monotonic_millis();
        log.confirm(asked_at);
        log.confirm(asked_at - 1);
        assert_eq!(log.complete_until(), asked_at);
        assert!(RevocationLog::in_process(1).complete_until() >= asked_at);
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in ["", "-", "1-", "+1-2", "g-1", "1-2-3", "11111111111111111-1"] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text}");
        }
    }
}
