//! What the store, its writer and its checkpoints know of each other.

use super::user_cache::UserCache;
use crate::{domain::Timestamp, error_chain::chain, store::session_table::Slot};
use parking_lot::Mutex;
use rusqlite::{ErrorCode, ffi};
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
};

#[derive(Debug, Default)]
pub(super) struct SharedState {
    /// Nothing may be written any more.
    broken: AtomicBool,
    /// The log waits for the writer to finish emptying it.
    pub(super) wants_checkpoint: AtomicBool,
    /// A flush has been asked for and not begun.
    pub(super) wants_flush: AtomicBool,
    /// Sessions that were touched and not written down: each at most once.
    pub(super) touched: Mutex<VecDeque<Slot>>,
    /// Users that were read lately. The writer says which change.
    pub(super) users: UserCache,
    latest_millis: AtomicI64,
}

impl SharedState {
    /// Whether writing has failed in a way that leaves open what is on disk: then only a restart, which reads it, can tell.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Logs a failure to write, and stops all writing if the disk can no longer be trusted.
    pub(super) fn note_failure(&self, doing: &'static str, error: &(dyn std::error::Error + 'static)) {
        let is_fatal = match error.downcast_ref::<rusqlite::Error>() {
            Some(error) => is_fatal(error),
            // A damaged row.
            None => true,
        };
        if !is_fatal {
            tracing::warn!(doing, cause = %chain(error), "the store failed; it goes on");
        } else if !self.broken.swap(true, Ordering::AcqRel) {
            tracing::error!(
                doing,
                cause = %chain(error),
                "the store can no longer be trusted with writes; checks go on, everything else needs a restart"
            );
        }
    }

    /// Notes that the clock has reached `now`, give or take a tenth of a second. Cheap enough for every check: it hardly ever
    /// writes.
    pub(super) fn note_time(&self, now: Timestamp) {
        if now
            .as_millis()
            .saturating_sub(self.latest_millis.load(Ordering::Relaxed))
            >= 100
        {
            self.latest_millis.fetch_max(now.as_millis(), Ordering::Relaxed);
        }
    }

    /// The latest instant that was noted.
    pub(super) fn latest(&self) -> Timestamp {
        Timestamp::from_millis(self.latest_millis.load(Ordering::Relaxed))
    }
}

/// After a failed write or sync, the system may have dropped what it could not write: trying again would succeed and prove nothing.
/// A full disk is not such a failure, nor is a log index (kept in memory only) that could not grow.
fn is_fatal(error: &rusqlite::Error) -> bool {
    const FATAL: [ErrorCode; 4] = [
        ErrorCode::SystemIoFailure,
        ErrorCode::DatabaseCorrupt,
        ErrorCode::NotADatabase,
        ErrorCode::InternalMalfunction,
    ];
    error
        .sqlite_error()
        .is_some_and(|error| FATAL.contains(&error.code) && error.extended_code != ffi::SQLITE_IOERR_SHMSIZE)
}
