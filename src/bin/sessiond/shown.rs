//! Which numbers of this process are shown, and where: `docs/operations.md` explains each.

use crate::{Failure, service::Built, stores::Opened};
use sessiond::{
    listener::{Listener, Options, Protocol, Serving},
    metrics::{self, Metrics, Sweeps},
    shutdown::Shutdown,
    telemetry::Flushed,
};
use std::{num::NonZeroUsize, sync::Arc, time::Duration};

/// Connections for those who read metrics: few enough to fit into the files that are kept for everything else.
const CONNECTIONS: usize = 16;

/// All there are.
pub(crate) fn metrics(opened: &Opened, built: &Built, sweeps: &Sweeps, log: &Flushed) -> Metrics {
    let mut metrics = Metrics::default();
    metrics.add_calls(built.api.calls().clone());

    let noted = sweeps.clone();
    metrics.add_gauge(
        "sessiond_sessions",
        "Sessions that live, as of the last sweep",
        move || noted.sessions().map(|count| count as f64),
    );
    metrics.add_sweeps(sweeps);

    let passwords = built.passwords.clone();
    metrics.add_counter(
        "sessiond_hashing_computed",
        "Password hashes computed",
        move || passwords.stats().computed,
    );
    let passwords = built.passwords.clone();
    metrics.add_counter(
        "sessiond_hashing_refused",
        "Passwords not looked at because too many were waiting",
        move || passwords.stats().refused,
    );
    let passwords = built.passwords.clone();
    metrics.add_gauge(
        "sessiond_hashing_running",
        "Passwords that are being hashed",
        move || Some(passwords.stats().running as f64),
    );
    let passwords = built.passwords.clone();
    metrics.add_gauge(
        "sessiond_hashing_waiting",
        "Passwords that wait to be hashed",
        move || Some(passwords.stats().waiting as f64),
    );

    let revocations = opened.sessions.revocations().clone();
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
    let clock = built.clock.clone();
    metrics.add_gauge(
        "sessiond_wall_clock_offset_seconds",
        "How far the wall clock has moved away from the clock that sessions live by",
        move || Some(clock.wall_clock_offset_millis() as f64 / 1000.0),
    );
    metrics
}

/// Serves them on a listener of their own.
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
