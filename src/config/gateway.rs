//! What a gateway is told, beside `sessiond` or as `sessiond-gateway`.

use super::{Flags, Mistakes, listeners, settings, sources::Values, upstream::Upstream, value::is_loopback};
use crate::{
    gateway::GatewayConfig,
    listener::{self, Protocol},
    telemetry,
};
use std::{ffi::OsString, net::SocketAddr};

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
    pub(super) fn take(values: &mut Values) -> Option<Self> {
        let address = listeners::address(values, &settings::GATEWAY_LISTEN);
        let listener = listeners::options(values, Protocol::Web);
        let cookie_name = values.take(&settings::COOKIE_NAME);
        let public_origin = values.take(&settings::PUBLIC_ORIGIN);
        let allowed_origins = values.take(&settings::ALLOWED_ORIGINS);
        let registration = values.take(&settings::REGISTRATION);
        let basic_auth = values.take(&settings::BASIC_AUTH);
        let trusted_proxies = values.take(&settings::TRUSTED_PROXIES);
        let call_timeout = values.take(&settings::CALL_TIMEOUT);
        let reauthentication_age = values.take(&settings::REAUTHENTICATION_AGE);
        let address = address?;
        Some(Self {
            address,
            listener: listener?,
            gateway: GatewayConfig {
                cookie_name: cookie_name?,
                listens_on_plain_loopback: is_loopback(address),
                public_origin: public_origin?,
                allowed_origins: allowed_origins?,
                registration: registration?,
                basic_auth: basic_auth?,
                trusted_proxies: trusted_proxies?,
                call_timeout: call_timeout?,
                reauthentication_age: reauthentication_age?,
            },
        })
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
    /// Puts the configuration together from flags, this environment and the file that one of them names.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(
        flags: Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Mistakes> {
        let mut values = Values::collect(flags, environment);
        let telemetry = super::telemetry_options(&mut values);
        let parts = GatewayParts::take(&mut values);
        let upstream = values.take(&settings::UPSTREAM);
        if upstream
            .as_ref()
            .is_some_and(Upstream::is_plain_beyond_this_machine)
            && !listeners::is_danger_accepted(&values)
        {
            values.reject_value(
                &settings::UPSTREAM,
                "is reached over a network in plain text. Use https, or accept the danger with --danger-plaintext-listen",
            );
        }
        super::check_remaining(&mut values);
        let config = match (telemetry, parts, upstream) {
            (Some(telemetry), Some(parts), Some(upstream)) => Some(Self {
                telemetry,
                parts,
                upstream,
            }),
            _ => None,
        };
        values.finish(config)
    }
}
