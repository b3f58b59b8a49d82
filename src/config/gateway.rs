//! The configuration of a gateway, beside `sessiond` or as `sessiond-gateway`.

use super::{
    Loaded, Mistakes, Sources, Upstream, listeners,
    settings::{CommandLine, Settings},
    sources::Values,
    value::is_loopback,
};
use crate::{
    gateway::GatewayConfig,
    listener::{self, Protocol},
    telemetry,
};
use std::net::SocketAddr;

/// A gateway, wherever it runs.
#[derive(Debug)]
pub struct GatewayParts {
    /// Where it listens.
    pub address: SocketAddr,
    /// The limits of its listener.
    pub listener: listener::Options,
    /// How it behaves.
    pub gateway: GatewayConfig,
}

impl GatewayParts {
    pub(super) fn new(settings: &Settings, values: &mut Values) -> Self {
        listeners::check_address(&settings.gateway_listen, settings, values);
        if settings
            .public_origin
            .as_ref()
            .is_some_and(|origin| !origin.is_web())
        {
            values.reject(
                &settings.public_origin,
                "must begin with https:// or http://: browsers find no gateway elsewhere",
            );
        }
        Self {
            address: *settings.gateway_listen,
            listener: listeners::options(settings, Protocol::Web),
            gateway: GatewayConfig {
                cookie_name: settings.cookie_name.clone(),
                listens_on_plain_loopback: is_loopback(settings.gateway_listen.ip()),
                public_origin: settings.public_origin.clone(),
                allowed_origins: settings.allowed_origins.clone(),
                registration: *settings.registration,
                basic_auth: *settings.basic_auth,
                trusted_proxies: settings.trusted_proxies.clone(),
                call_timeout: *settings.call_timeout,
                reauthentication_age: *settings.reauthentication_age,
            },
        }
    }
}

/// The whole configuration of `sessiond-gateway`.
#[derive(Debug)]
pub struct GatewayProgramConfig {
    /// Logs.
    pub telemetry: telemetry::Options,
    /// The gateway.
    pub parts: GatewayParts,
    /// The service that it asks.
    pub upstream: Upstream,
}

impl GatewayProgramConfig {
    /// Puts the configuration together from flags, environment and the file that one of them names.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(sources: Sources) -> Result<Loaded<Self>, Mistakes> {
        Loaded::new(sources, CommandLine::Gateway, Self::new)
    }

    fn new(settings: &Settings, values: &mut Values) -> Self {
        if settings.upstream.is_plain_beyond_this_machine() && !*settings.danger_plaintext_listen {
            values.reject(
                &settings.upstream,
                "is reached over a network in plain text. Use https, or accept the danger with --danger-plaintext-listen",
            );
        }
        Self {
            parts: GatewayParts::new(settings, values),
            telemetry: settings.telemetry(),
            upstream: settings.upstream.clone(),
        }
    }
}
