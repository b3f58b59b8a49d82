//! What stands in Redis: under which keys, and byte by byte. No I/O.

pub(super) mod index_entry;
pub(super) mod keys;
pub(super) mod log_entry;
pub(super) mod marks;
pub(super) mod record;

use crate::domain::Timestamp;
use std::time::Duration;

/// How much longer Redis keeps a session than it lives, so that clocks that differ a little end none early.
pub(super) const MARGIN: Duration = Duration::from_secs(5 * 60);

pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);

/// How long Redis keeps a session that ends at `expires_at`. Counted from now, so that the server's idea of the date does not matter.
pub(super) fn keep_millis(expires_at: Timestamp, now: Timestamp) -> u64 {
    millis(expires_at.since(now) + MARGIN)
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
