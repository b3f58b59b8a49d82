//! As many connections as the process may open files, and no more.

use super::Options;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that everything else may need: stores, runtimes, logs.
const RESERVED: u64 = 256;

/// Raises the process's limit of open files as far as it may go, and lowers the limits of connections so that all of them
/// together stay below it (S-81). Running out of files stops more than the connection that needed one.
pub fn fit_to_descriptors(listeners: &mut [&mut Options]) {
    let limit = raised_limit();
    let reserved = RESERVED.min(limit / 2);
    let room = usize::try_from(limit - reserved).unwrap_or(usize::MAX);
    let wanted: usize = listeners.iter().map(|options| options.connections).sum();
    if wanted <= room || listeners.is_empty() {
        return;
    }
    let each = (room / listeners.len()).max(1);
    for options in listeners.iter_mut() {
        options.connections = options.connections.min(each);
    }
    tracing::info!(
        event = "connections_limited",
        open_files = limit,
        connections = each,
        "the process may not open enough files for all connections: each listener takes fewer"
    );
}

/// The limit of open files, after raising it to what this user may have.
fn raised_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // None is no limit at all.
    let highest = limit.maximum.unwrap_or(u64::MAX);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => highest,
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}
