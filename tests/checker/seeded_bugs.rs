//! The checker itself on trial: it finds each of five bugs in a service that has it, and each of three in clients that cache
//! answers, and nothing where there is none.

use crate::{
    chance,
    in_process::{CAP, serve},
    lying_store::{Bug, LyingStore},
    recorder::{Recorder, remembering_options},
    rules::{Bounds, violations},
    workload::{SHORT, Workload, assert_clean},
};
use sessiond::{
    client::{ClientOptions, SessionClient},
    domain::{Clock, ManualClock, SystemClock},
    store::{MemoryStore, SessionStore},
};
use std::{sync::Arc, time::Duration};
use testkit::service::Served;
use tonic::transport::{Channel, Endpoint};

const BOUNDS: Bounds = Bounds {
    skew: Duration::from_millis(20),
    clock_error: Duration::ZERO,
    write_lag: Duration::ZERO,
    cap: CAP,
};

/// Two processes over one store, one of which has the bug; both are restarted once.
async fn run(bug: Bug) -> Arc<Recorder> {
    let honest = Arc::new(MemoryStore::new());
    let liar = LyingStore::over(Arc::clone(&honest), bug);
    let truthful = LyingStore::over(honest, Bug::None);
    let views: Vec<Arc<dyn SessionStore>> = vec![liar.clone(), truthful];
    let served = serve(views);
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
    workload.run(channels(&served), Vec::new(), healed).await.0
}

fn channels(served: &[Served]) -> Vec<Channel> {
    let lazily = |process: &Served| process.endpoint().connect_lazy();
    served.iter().map(lazily).collect()
}

/// Asserts that the checker finds that a rule is broken. On a busy machine so little may be asked in one run that the bug does not
/// show; then it runs again.
async fn assert_reported(rule: u8, run: impl AsyncFn() -> Arc<Recorder>) {
    let mut reported = Vec::new();
    for _ in 0..5 {
        let recorder = run().await;
        println!("{}", recorder.summary());
        let found = violations(&recorder.history(), &BOUNDS);
        reported.extend(found.iter().map(|violation| violation.rule));
        if reported.contains(&rule) {
            return;
        }
    }
    panic!("rule {rule} is not among those that are broken: {reported:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_nothing_is_reported_where_nothing_is_wrong() {
    assert_clean("no bug", &*run(Bug::None).await, &BOUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_stale_cache_is_caught() {
    assert_reported(2, async || run(Bug::StaleCache).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_lost_destroy_is_caught() {
    assert_reported(2, async || run(Bug::LostDestroy).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_late_expiry_is_caught() {
    assert_reported(5, async || run(Bug::LateExpiry).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_swapped_id_is_caught() {
    assert_reported(1, async || run(Bug::SwappedId).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_resurrection_on_restart_is_caught() {
    assert_reported(2, async || run(Bug::Resurrection).await).await;
}

/// Bugs that caches of sessions have had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CacheBug {
    None,
    /// Not every revocation reaches it.
    MissesRevocations,
    /// It goes on without the stream of revocations.
    OutlivesItsStream,
    /// It goes on after the session's end.
    IgnoresExpiry,
}

impl CacheBug {
    /// A client that has it.
    fn client(self, to: Endpoint) -> SessionClient {
        let mut options = remembering_options();
        let mut clock: Arc<dyn Clock> = Arc::new(SystemClock::starting_at_wall_time(None));
        // Reports of use would reveal in time what the stream leaves out.
        let late_reports = Duration::from_secs(10);
        match self {
            Self::None => {}
            Self::MissesRevocations => options.recheck_interval = late_reports,
            Self::OutlivesItsStream => {
                options = ClientOptions {
                    recheck_interval: late_reports,
                    staleness_bound: Duration::from_secs(3600),
                    ..options
                };
            }
            Self::IgnoresExpiry => clock = Arc::new(ManualClock::standing_at(clock.now())),
        }
        SessionClient::start_with_clock(to, options, clock).unwrap()
    }
}

/// Two processes whose clients cache answers; for a while they receive no revocation.
async fn run_remembering(bug: CacheBug) -> Arc<Recorder> {
    let honest = Arc::new(MemoryStore::new());
    let bug_of_stores = match bug {
        CacheBug::MissesRevocations => Bug::UntoldRevocation,
        CacheBug::None | CacheBug::OutlivesItsStream | CacheBug::IgnoresExpiry => Bug::SilentLog,
    };
    let view = || -> Arc<dyn SessionStore> { LyingStore::over(Arc::clone(&honest), bug_of_stores) };
    let served = serve(vec![view(), view()]);
    let clients = served.iter().map(|process| bug.client(process.endpoint()));
    let workload = Workload {
        seed: chance::seed(&format!("cache: {bug:?}")),
        clients: 8,
        lasts: Duration::from_secs(5),
        patience: Duration::from_secs(10),
        short_lived: 30,
        short_span: SHORT,
    };
    let healed = std::future::ready(());
    workload.run(channels(&served), clients.collect(), healed).await.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_nothing_is_reported_where_nothing_is_wrong_with_a_cache() {
    assert_clean("no bug", &*run_remembering(CacheBug::None).await, &BOUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_cache_that_misses_revocations_is_caught() {
    assert_reported(2, async || run_remembering(CacheBug::MissesRevocations).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_cache_that_goes_on_without_its_stream_is_caught() {
    assert_reported(2, async || run_remembering(CacheBug::OutlivesItsStream).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_cache_that_ignores_when_sessions_end_is_caught() {
    assert_reported(5, async || run_remembering(CacheBug::IgnoresExpiry).await).await;
}
