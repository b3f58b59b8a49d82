//! The checker itself on trial: it finds each of five bugs in a service that has it, and nothing in one that has none.

use crate::{
    chance,
    in_process::{CAP, InProcess},
    lying_store::{Bug, LyingStore},
    rules::{Bounds, Violation, violations},
    workload::{SHORT, Workload, assert_clean},
};
use sessiond::{
    domain::{Clock as _, SystemClock},
    store::{MemoryStore, SessionStore},
};
use std::{sync::Arc, time::Duration};

const BOUNDS: Bounds = Bounds {
    skew: Duration::from_millis(20),
    clock_error: Duration::ZERO,
    write_lag: Duration::ZERO,
    cap: CAP,
};

/// Two processes over one store, one of which has the bug; both are restarted once.
async fn run(bug: Bug) -> Arc<crate::recorder::Recorder> {
    let honest = Arc::new(MemoryStore::new());
    let liar = LyingStore::over(Arc::clone(&honest), bug);
    let truthful = LyingStore::over(honest, Bug::None);
    let views: Vec<Arc<dyn SessionStore>> = vec![liar.clone(), truthful];
    let service = InProcess::over(views);
    let workload = Workload {
        seed: chance::seed(&format!("{bug:?}")),
        clients: 8,
        lasts: Duration::from_secs(4),
        patience: Duration::from_secs(10),
        short_lived: 30,
        short_span: SHORT,
    };
    let restart = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = SystemClock::starting_at_wall_time(None).now();
        liar.restart(now).await;
    });
    let healed = async { restart.await.unwrap() };
    workload.run(service.channels.clone(), Vec::new(), healed).await.0
}

async fn found(bug: Bug) -> Vec<Violation> {
    let recorder = run(bug).await;
    let history = recorder.history();
    println!("{bug:?}: {}", crate::summary::of(&history));
    violations(&history, &BOUNDS)
}

#[track_caller]
fn assert_reported(found: &[Violation], rule: u8) {
    let rules: Vec<_> = found.iter().map(|violation| violation.rule).collect();
    assert!(rules.contains(&rule), "{rules:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_nothing_is_reported_where_nothing_is_wrong() {
    assert_clean("no bug", &*run(Bug::None).await, &BOUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_stale_cache_is_caught() {
    assert_reported(&found(Bug::StaleCache).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_lost_destroy_is_caught() {
    assert_reported(&found(Bug::LostDestroy).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_late_expiry_is_caught() {
    assert_reported(&found(Bug::LateExpiry).await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_swapped_id_is_caught() {
    assert_reported(&found(Bug::SwappedId).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_resurrection_on_restart_is_caught() {
    assert_reported(&found(Bug::Resurrection).await, 2);
}
