//! The sweeper over the memory store: when it sweeps, and when it had better not.

use sessiond::{
    domain::{Clock as _, ManualClock, Timestamp, UserId},
    metrics::{Metrics, Sweeps},
    shutdown::{self, Trigger},
    store::{Created, EmbeddedStore, MemoryStore, SessionStore},
    sweeper::{Options, sweep_on},
};
use std::{sync::Arc, time::Duration};
use testkit::samples::{bare_session, span};
use tokio::task::JoinHandle;

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A store with sessions that are over, and a sweeper. Tokio's time stands still but for `advance`.
struct Swept {
    store: Arc<MemoryStore>,
    trigger: Trigger,
    sweeper: JoinHandle<()>,
    sweeps: Sweeps,
    now: Timestamp,
}

impl Swept {
    async fn with_ended_sessions(count: u8, known_until: Option<Timestamp>) -> Self {
        let store = Arc::new(MemoryStore::new());
        for number in 0..count {
            store_session(&store, number).await;
        }
        let clock = Arc::new(ManualClock::standing_at(START));
        clock.advance(HOUR);
        let now = clock.now();
        let (trigger, shutdown) = shutdown::channel();
        let options = Options {
            interval: MINUTE,
            batch: 3,
            pause: Duration::from_millis(50),
            counts_sessions: true,
        };
        let sweeps = Sweeps::default();
        let sweeper = tokio::spawn(sweep_on(
            store.clone(),
            clock,
            known_until,
            options,
            sweeps.clone(),
            shutdown,
        ));
        Self {
            store,
            trigger,
            sweeper,
            sweeps,
            now,
        }
    }

    /// How many sessions there still are to sweep. Sweeps them.
    async fn left(&self) -> u64 {
        let mut left = 0;
        loop {
            match self.store.sweep(self.now, 1).await.unwrap() {
                0 => return left,
                count => left += count,
            }
        }
    }
}

async fn store_session(store: &MemoryStore, number: u8) {
    let user = UserId::new(START, [number; 10]);
    let mut new = bare_session(user, store.epoch(user).await.unwrap(), START);
    new.session.live.span = span(MINUTE, MINUTE);
    assert_eq!(store.create(new, START).await.unwrap(), Created::Yes);
}

#[tokio::test(start_paused = true)]
async fn ended_sessions_are_swept_batch_by_batch_until_none_is_left() {
    let swept = Swept::with_ended_sessions(10, None).await;
    tokio::time::sleep(MINUTE * 2).await;
    assert_eq!(swept.left().await, 0);
    assert_eq!(swept.sweeps.sessions(), Some(0));
    let mut metrics = Metrics::default();
    metrics.add_sweeps(&swept.sweeps);
    let text = metrics.text().unwrap();
    for line in [
        "sessiond_swept_sessions_total 10\n",
        "sessiond_sweep_failures_total 0\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    // Jitter decides whether two minutes have one sweep in them or two.
    let is_timed = |sweeps| text.contains(&format!("sessiond_sweep_duration_seconds_count {sweeps}\n"));
    assert!(is_timed(1) || is_timed(2), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_counted_and_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    store.close();
    let sweeps = Sweeps::default();
    let options = Options {
        interval: MINUTE,
        ..Options::default()
    };
    let clock = Arc::new(ManualClock::standing_at(START));
    let (_trigger, shutdown) = shutdown::channel();
    tokio::spawn(sweep_on(
        Arc::new(store),
        clock,
        None,
        options,
        sweeps.clone(),
        shutdown,
    ));
    tokio::time::sleep(MINUTE * 5 / 2).await;
    let mut metrics = Metrics::default();
    metrics.add_sweeps(&sweeps);
    let text = metrics.text().unwrap();
    assert!(text.contains("sessiond_sweep_failures_total 2\n"), "{text}");
    // The default options do not count.
    assert_eq!(sweeps.sessions(), None);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_swept_right_after_the_start() {
    let swept = Swept::with_ended_sessions(10, None).await;
    tokio::time::sleep(MINUTE / 2).await;
    assert_eq!(swept.left().await, 10);
}

#[tokio::test(start_paused = true)]
async fn f_08_a_clock_far_ahead_of_the_stores_past_sweeps_nothing_for_an_hour() {
    let long_ago = Timestamp::from_millis(START.as_millis() - 24 * 3_600_000);
    let swept = Swept::with_ended_sessions(10, Some(long_ago)).await;
    tokio::time::sleep(HOUR - MINUTE).await;
    assert_eq!(swept.left().await, 10);
    let swept = Swept::with_ended_sessions(10, Some(long_ago)).await;
    tokio::time::sleep(HOUR + MINUTE * 2).await;
    assert_eq!(swept.left().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_short_stop_makes_no_clock_doubtful() {
    let swept = Swept::with_ended_sessions(10, Some(START.after(HOUR / 2))).await;
    tokio::time::sleep(MINUTE * 2).await;
    assert_eq!(swept.left().await, 0);
}

#[tokio::test(start_paused = true)]
async fn the_sweeper_ends_when_the_process_drains() {
    let swept = Swept::with_ended_sessions(1, None).await;
    swept.trigger.drain();
    swept.sweeper.await.unwrap();
}
