//! What sweeps have done, and how many sessions the last one has left.

use prometheus_client::{
    metrics::{counter::Counter, histogram::Histogram},
    registry::Registry,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// In seconds: a sweep with nothing to do, and one that frees millions of sessions in batches.
const DURATIONS: [f64; 7] = [0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0];

/// The sweeper's numbers. Cheap to clone: clones share everything.
#[derive(Debug, Clone)]
pub struct Sweeps {
    swept: Counter,
    failures: Counter,
    durations: Histogram,
    sessions: Arc<AtomicU64>,
}

/// Stands for an unknown count: no store holds that many sessions.
const UNKNOWN: u64 = u64::MAX;

impl Default for Sweeps {
    fn default() -> Self {
        Self {
            swept: Counter::default(),
            failures: Counter::default(),
            durations: Histogram::new(DURATIONS),
            sessions: Arc::new(AtomicU64::new(UNKNOWN)),
        }
    }
}

impl Sweeps {
    /// The space of that many sessions was freed.
    pub fn note_swept(&self, sessions: u64) {
        self.swept.inc_by(sessions);
    }

    /// A sweep failed at the store.
    pub fn note_failure(&self) {
        self.failures.inc();
    }

    /// A sweep has ended, however it did.
    pub fn note_end(&self, took: Duration) {
        self.durations.observe(took.as_secs_f64());
    }

    /// How many sessions live; `None`: unknown.
    pub fn note_sessions(&self, count: Option<u64>) {
        self.sessions.store(count.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// What was noted last.
    #[must_use]
    pub fn sessions(&self) -> Option<u64> {
        let count = self.sessions.load(Ordering::Relaxed);
        (count != UNKNOWN).then_some(count)
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "sessiond_swept_sessions",
            "Ended sessions whose space this process has freed",
            self.swept.clone(),
        );
        registry.register(
            "sessiond_sweep_failures",
            "Sweeps that a store has broken off",
            self.failures.clone(),
        );
        registry.register(
            "sessiond_sweep_duration_seconds",
            "How long sweeps took, their pauses included",
            self.durations.clone(),
        );
    }
}
