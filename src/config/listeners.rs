//! Where to listen, and within which limits.

use super::{
    setting::{AnySetting, Setting},
    settings::{self, DANGER_PLAINTEXT_LISTEN},
    sources::Values,
    value::is_loopback,
};
use crate::listener::{Options, Protocol};
use std::net::SocketAddr;

/// An address to listen on. Beyond this machine it takes the operator's word that plain text is wanted (S-72).
pub(super) fn address(values: &mut Values, setting: &Setting<SocketAddr>) -> Option<SocketAddr> {
    let address = values.take(setting)?;
    reject_plaintext(values, setting, address);
    Some(address)
}

/// As [`address`], where there may be none.
#[cfg(feature = "server")]
pub(super) fn optional_address(
    values: &mut Values,
    setting: &Setting<Option<SocketAddr>>,
) -> Option<Option<SocketAddr>> {
    let address = values.take(setting)?;
    if let Some(address) = address {
        reject_plaintext(values, setting, address);
    }
    Some(address)
}

fn reject_plaintext(values: &mut Values, setting: &dyn AnySetting, address: SocketAddr) {
    if !is_loopback(address) && !is_danger_accepted(values) {
        values.reject_value(
            setting,
            &format!(
                "{address} can be reached from other machines, in plain text and without proof of who calls. Listen on a loopback \
                 address, or accept the danger with --danger-plaintext-listen"
            ),
        );
    }
}

/// Whether the operator accepts plain text beyond this machine. A wrong value is noted elsewhere, once.
pub(super) fn is_danger_accepted(values: &Values) -> bool {
    values.peek(&DANGER_PLAINTEXT_LISTEN).unwrap_or(false)
}

pub(super) fn options(values: &mut Values, protocol: Protocol) -> Option<Options> {
    let workers = values.take(&settings::WORKERS);
    let connections = values.take(&settings::CONNECTIONS);
    let connections_per_source = values.take(&settings::CONNECTIONS_PER_SOURCE);
    let streams_per_connection = values.take(&settings::STREAMS_PER_CONNECTION);
    let idle_timeout = values.take(&settings::CONNECTION_IDLE_TIMEOUT);
    let connection_age = values.take(&settings::CONNECTION_AGE);
    let drain_timeout = values.take(&settings::DRAIN_TIMEOUT);
    let defaults = Options::new(protocol);
    Some(Options {
        workers: workers?.unwrap_or(defaults.workers),
        connections: connections?.get(),
        connections_per_source: connections_per_source?.get(),
        streams_per_connection: streams_per_connection?,
        idle_timeout: idle_timeout?,
        connection_age: connection_age?,
        drain_timeout: drain_timeout?,
        ..defaults
    })
}
