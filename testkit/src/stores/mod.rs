//! Stores opened for one test: twice, as two processes would have them.

pub mod embedded;
pub mod memory;
pub mod postgres;
pub mod redis;

use std::{any::Any, sync::Arc, time::Duration};

/// A store that no other test uses, empty.
pub struct Opened<S: ?Sized> {
    /// The store as the process under test has it.
    pub here: Arc<S>,
    /// The same store as another process has it. For a store that belongs to one process: the same again.
    pub there: Arc<S>,
    /// How long a revocation may take to reach the log of either process after it was acknowledged. Zero: it is there before.
    pub telling_lag: Duration,
    /// What must live as long as the store: its directory, its server.
    pub _keeps: Vec<Box<dyn Any + Send + Sync>>,
}

impl<S: ?Sized> Opened<S> {
    /// A store that belongs to one process.
    pub fn alone(store: Arc<S>) -> Self {
        Self {
            here: Arc::clone(&store),
            there: store,
            telling_lag: Duration::ZERO,
            _keeps: Vec::new(),
        }
    }

    /// Either process, in turn.
    pub fn process(&self, turn: usize) -> Arc<S> {
        match turn.is_multiple_of(2) {
            true => Arc::clone(&self.here),
            false => Arc::clone(&self.there),
        }
    }
}
