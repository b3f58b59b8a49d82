//! The metrics registry of this process, and the endpoint that serves it: `docs/operations.md` explains each.

use crate::{Failure, service::Service, stores::OpenStores};
use sessiond::{
    listener::{Listener, Options, Protocol, Serving},
    metrics::{self, Metrics, Sweeps},
    shutdown::Shutdown,
    telemetry::Log,
};
use std::{num::NonZeroUsize, sync::Arc, time::Duration};

/// Connections for readers of metrics: few enough to fit into the files that are kept for everything else.
const CONNECTIONS: usize = 16;

/// Every metric that this process exposes.
pub(crate) fn collect(stores: &OpenStores, service: &Service, sweeps: &Sweeps, log: &Log) -> Metrics {
    let mut metrics = Metrics::default();
    metrics.add_calls(service.api.calls().clone());

    let noted = sweeps.clone();
    metrics.add_gauge(
        "sessiond_sessions",
        "Sessions that live, as of the last sweep",
        move || noted.sessions().map(|count| count as f64),
    );
    metrics.add_sweeps(sweeps);
    let sessions = Arc::clone(&stores.sessions);
    metrics.add_gauge(
        "sessiond_store_full",
        "1 while the session store has no room for new sessions",
        move || Some(f64::from(u8::from(sessions.is_full()))),
    );

    let passwords = service.passwords.clone();
    metrics.add_counter(
        "sessiond_hashing_computed",
        "Password hashes computed",
        move || passwords.stats().computed,
    );
    let passwords = service.passwords.clone();
    metrics.add_counter(
        "sessiond_hashing_refused",
        "Passwords not looked at because too many were waiting",
        move || passwords.stats().refused,
    );
    let passwords = service.passwords.clone();
    metrics.add_gauge(
        "sessiond_hashing_running",
        "Passwords that are being hashed",
        move || Some(passwords.stats().running as f64),
    );
    let passwords = service.passwords.clone();
    metrics.add_gauge(
        "sessiond_hashing_waiting",
        "Passwords that wait to be hashed",
        move || Some(passwords.stats().waiting as f64),
    );

    let revocations = stores.sessions.revocations().clone();
    metrics.add_gauge(
        "sessiond_revocation_subscribers",
        "Streams of revocations that are open",
        move || Some(revocations.readers() as f64),
    );
    metrics.add_counter(
        "sessiond_log_lines_dropped",
        "Log lines that the output did not take in time",
        log.dropped_lines(),
    );
    let clock = service.clock.clone();
    metrics.add_gauge(
        "sessiond_wall_clock_offset_seconds",
        "How far the wall clock has moved away from the clock that sessions live by",
        move || Some(clock.wall_clock_offset_millis() as f64 / 1000.0),
    );
    metrics
}

/// Serves the metrics on a listener of their own.
pub(crate) fn serve(
    metrics: Metrics,
    listener: Listener,
    drain_timeout: Duration,
    shutdown: Shutdown,
) -> Result<Serving, Failure> {
    let options = Options {
        workers: NonZeroUsize::MIN,
        connections: CONNECTIONS,
        connections_per_source: CONNECTIONS,
        drain_timeout,
        ..Options::new(Protocol::Web)
    };
    let endpoint = metrics::endpoint(Arc::new(metrics));
    Ok(listener.serve(options, shutdown, move || endpoint.clone())?)
}
