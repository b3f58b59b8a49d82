//! Time: one instant type, one clock.

use std::{
    fmt,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime},
};

/// An instant, in whole milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant that many milliseconds after 1970 began.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970 began.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The instant `span` later; the furthest representable one if that is out of range.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// The instant `span` earlier; the earliest representable one if that is out of range.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339 with milliseconds, in UTC.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(instant) => write!(f, "{instant:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// What time it is for sessions.
pub trait Clock: Send + Sync + 'static {
    /// Now. Never less than an earlier answer of the same clock.
    fn now(&self) -> Timestamp;
}

/// The clock of a running process: the wall clock's time at its start, carried on by the time since boot.
///
/// A wall clock that is set while the process runs therefore neither lengthens nor ends a session. The process takes the
/// corrected time over when it restarts.
#[derive(Debug)]
pub struct SystemClock {
    origin: Timestamp,
    started: Duration,
}

impl SystemClock {
    /// A clock that starts at the wall clock's time, or at `not_before` if the wall clock stands earlier than that: the last
    /// instant that a former process of the same store is known to have reached.
    #[must_use]
    pub fn starting_at_wall_time(not_before: Option<Timestamp>) -> Self {
        Self {
            origin: wall_time().max(not_before.unwrap_or_default()),
            started: since_boot(),
        }
    }

    /// How far the wall clock has moved away from this one, in milliseconds; positive if it is ahead.
    #[must_use]
    pub fn wall_clock_offset_millis(&self) -> i64 {
        wall_time().as_millis().saturating_sub(self.now().as_millis())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.origin.after(since_boot().saturating_sub(self.started))
    }
}

/// Time since the machine started. Nobody can set it, and it goes on while the machine is suspended.
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(secs, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What the wall clock says; 1970 if it says something earlier.
fn wall_time() -> Timestamp {
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::default().after(since_1970)
}

/// A clock that stands still until it is moved, for tests.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn standing_at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.as_millis()))
    }

    /// Moves the clock forward.
    pub fn advance(&self, span: Duration) {
        self.0.fetch_add(millis(span), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_as_rfc_3339() {
        assert_eq!(
            Timestamp::from_millis(1_795_298_400_007).to_string(),
            "2026-11-21T22:00:00.007Z"
        );
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        let last = Timestamp::from_millis(i64::MAX);
        assert_eq!(last.after(Duration::from_secs(1)), last);
        assert_eq!(Timestamp::default().since(last), Duration::ZERO);
    }

    #[test]
    fn f_09_a_clock_never_starts_before_the_known_past() {
        let known = wall_time().after(Duration::from_secs(3600));
        assert!(SystemClock::starting_at_wall_time(Some(known)).now() >= known);
    }
}
