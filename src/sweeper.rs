//! Frees the space of sessions that have ended, and watches the clocks.
//!
//! Nothing depends on it but space: a session that has ended is over whether it has been swept or not.

use crate::{
    domain::{Clock, SystemClock, Timestamp},
    error_chain::causes,
    jitter,
    metrics::Sweeps,
    shutdown::Shutdown,
    store::SessionStore,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// How much is swept, and how often.
#[derive(Debug, Clone)]
pub struct Options {
    /// From one sweep to the next, give or take a tenth, so that processes that share a store do not sweep in step.
    pub interval: Duration,
    /// Sessions that are swept in one step.
    pub batch: u32,
    /// The pause between two steps, in which other work runs.
    pub pause: Duration,
    /// Whether the sessions that live are counted after each sweep, and once before the first: a shared store may have to look at
    /// all of them for that.
    pub counts_sessions: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            batch: 1000,
            pause: Duration::from_millis(50),
            counts_sessions: false,
        }
    }
}

/// How far ahead of the last instant that the store knows the clock may stand at the start: the store may have been down that
/// long. Beyond it the clock is doubted for [`DOUBT_LASTS`].
const UNSUSPICIOUS_GAP: Duration = Duration::from_secs(60 * 60);

/// How long a doubtful clock keeps the sweeper waiting. If the clock is set right and sessiond restarted within it, nothing
/// has been purged.
const DOUBT_LASTS: Duration = Duration::from_secs(60 * 60);

/// Sweeps until the stop is ordered.
///
/// `known_until` is the last instant that the store is known to have reached before the start, if it knows one. A clock that
/// stands far ahead of it may be wrong, and then almost every session would look expired (F-08, F-09): for an hour nothing is
/// swept.
pub async fn sweep_on(
    sessions: Arc<dyn SessionStore>,
    clock: Arc<dyn Clock>,
    known_until: Option<Timestamp>,
    options: Options,
    sweeps: Sweeps,
    mut shutdown: Shutdown,
) {
    let sweeping = async {
        if options.counts_sessions {
            count(&*sessions, &*clock, &sweeps).await;
        }
        if let Some(gap) = doubtful_gap(known_until, clock.now()) {
            tracing::error!(
                event = "clock_doubtful",
                gap_seconds = gap.as_secs(),
                "the clock is far ahead of the last instant that the store knows: nothing is swept for an hour. If the clock is \
                 wrong, set it right and restart; if sessiond was stopped that long, all is well"
            );
            sleep(DOUBT_LASTS).await;
        }
        loop {
            sleep(jitter::interval(options.interval)).await;
            sweep(&*sessions, &*clock, &options, &sweeps).await;
            if options.counts_sessions {
                count(&*sessions, &*clock, &sweeps).await;
            }
        }
    };
    tokio::select! {
        () = shutdown.draining() => {}
        () = sweeping => {}
    }
}

/// Sweeps until nothing is left, in batches. An error ends this sweep; the next one comes at its time.
async fn sweep(sessions: &dyn SessionStore, clock: &dyn Clock, options: &Options, sweeps: &Sweeps) {
    let started_at = Instant::now();
    let mut swept = 0;
    loop {
        match sessions.sweep(clock.now(), options.batch).await {
            Ok(count) => {
                swept += count;
                sweeps.note_swept(count);
                if count < u64::from(options.batch) {
                    break;
                }
            }
            Err(failure) => {
                sweeps.note_failure();
                tracing::warn!(event = "sweep_failed", cause = %causes(&failure), "{failure}");
                break;
            }
        }
        sleep(options.pause).await;
    }
    sweeps.note_end(started_at.elapsed());
    if swept > 0 {
        tracing::debug!(event = "swept", count = swept, "space of ended sessions freed");
    }
}

async fn count(sessions: &dyn SessionStore, clock: &dyn Clock, sweeps: &Sweeps) {
    let count = sessions.count(clock.now()).await;
    let count = count.inspect_err(|failure| {
        tracing::warn!(event = "count_failed", cause = %causes(failure), "{failure}");
    });
    sweeps.note_sessions(count.ok());
}

fn doubtful_gap(known_until: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    known_until
        .map(|known| now.since(known))
        .filter(|gap| *gap > UNSUSPICIOUS_GAP)
}

/// How often the wall clock is looked at, and how far it may be off before that is worth a line.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
const TOLERATED_MILLIS: i64 = 1000;

/// Warns when the wall clock moves away from the clock that sessions live by, until the stop is ordered.
pub async fn watch_wall_clock(clock: Arc<SystemClock>, mut shutdown: Shutdown) {
    let watching = async {
        let mut told = 0_i64;
        loop {
            sleep(LOOK_INTERVAL).await;
            let offset = clock.wall_clock_offset_millis();
            if offset.saturating_sub(told).saturating_abs() > TOLERATED_MILLIS {
                told = offset;
                tracing::warn!(
                    event = "wall_clock_moved",
                    offset_millis = offset,
                    "the wall clock was set while sessiond runs. Sessions go by the time since its start; a restart takes the new \
                     time over"
                );
            }
        }
    };
    tokio::select! {
        () = shutdown.draining() => {}
        () = watching => {}
    }
}
