//! Where to listen, and within which limits.

use super::{
    settings::Settings,
    sources::{Given, Values},
    value::is_loopback,
};
use crate::{
    listener::{Options, Protocol},
    telemetry,
};
use std::net::SocketAddr;

/// Beyond this machine an address takes the operator's word that plain text is wanted (S-72).
pub(super) fn check_address<T>(address: &Given<T>, settings: &Settings, values: &mut Values)
where
    T: Copy + Into<Option<SocketAddr>>,
{
    let address_beyond = (**address).into().filter(|address| !is_loopback(address.ip()));
    if let Some(beyond) = address_beyond
        && !*settings.danger_plaintext_listen
    {
        let reason = format!(
            "{beyond} can be reached from other machines, in plain text and without proof of who calls. Listen on a loopback \
             address, or accept the danger with --danger-plaintext-listen"
        );
        values.reject(address, &reason);
    }
}

pub(super) fn options(settings: &Settings, protocol: Protocol) -> Options {
    let defaults = Options::new(protocol);
    Options {
        workers: settings.workers.unwrap_or(defaults.workers),
        connections: settings.connections.get(),
        connections_per_source: settings.connections_per_source.get(),
        streams_per_connection: settings.streams_per_connection.0,
        idle_timeout: *settings.connection_idle_timeout,
        connection_age: *settings.connection_age,
        drain_timeout: *settings.drain_timeout,
        ..defaults
    }
}

impl Settings {
    pub(super) fn telemetry(&self) -> telemetry::Options {
        telemetry::Options {
            filter: self.log.clone(),
            format: *self.log_format,
        }
    }
}
