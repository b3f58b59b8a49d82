//! A lock that many cores may hold for reading without taking a cache line from each other.

use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};
use std::sync::PoisonError;

/// A value that is read far more often than it changes.
///
/// With one word for all readers, a check would spend most of its time fetching that word from the cache of the core that checked
/// last. Here each thread has a word of its own, and a writer takes them all, which is slower.
#[derive(Debug)]
pub(super) struct ReadMostly<T>(ShardedLock<T>);

impl<T> ReadMostly<T> {
    pub(super) fn new(value: T) -> Self {
        Self(ShardedLock::new(value))
    }

    pub(super) fn read(&self) -> ShardedLockReadGuard<'_, T> {
        // A panic with the lock held has been reported; the other threads go on, as with every other lock here.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> ShardedLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
