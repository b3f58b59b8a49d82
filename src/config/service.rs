//! The configuration of `sessiond`: the service, its stores, and the gateway beside it.

use super::{
    GatewayParts, Loaded, Mistakes, Sources, StoresConfig, listeners,
    settings::{CommandLine, Settings},
    sources::Values,
};
use crate::{
    domain::{SessionLimits, SessionSpan},
    grpc,
    listener::{self, Protocol},
    password::{HashingConfig, Peppers},
    sweeper, telemetry,
};
use std::net::SocketAddr;

/// The whole configuration of `sessiond`.
#[derive(Debug)]
pub struct ServiceConfig {
    /// Logs.
    pub telemetry: telemetry::Options,
    /// Where the service listens.
    pub address: SocketAddr,
    /// The limits of its listener.
    pub listener: listener::Options,
    /// Where metrics are shown, if anywhere.
    pub metrics_address: Option<SocketAddr>,
    /// What it serves.
    pub api: grpc::Options,
    /// Where users and sessions live.
    pub stores: StoresConfig,
    /// The ceilings for sessions.
    pub limits: SessionLimits,
    /// How ended sessions are swept.
    pub sweeper: sweeper::Options,
    /// How passwords are hashed.
    pub hashing: HashingConfig,
    /// The gateway in the same process, if it is wanted.
    pub gateway: Option<GatewayParts>,
}

impl ServiceConfig {
    /// Puts the configuration together from flags, environment and the file that one of them names.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(sources: Sources) -> Result<Loaded<Self>, Mistakes> {
        Loaded::new(sources, CommandLine::Service, Self::new)
    }

    fn new(settings: &Settings, values: &mut Values) -> Self {
        listeners::check_address(&settings.listen, settings, values);
        listeners::check_address(&settings.metrics_listen, settings, values);
        let gateway = GatewayParts::new(settings, values);
        Self {
            telemetry: settings.telemetry(),
            address: *settings.listen,
            listener: listeners::options(settings, Protocol::Rpc),
            metrics_address: *settings.metrics_listen,
            api: grpc::Options {
                has_reflection: *settings.reflection,
                call_timeout: *settings.call_timeout,
                ..grpc::Options::default()
            },
            stores: StoresConfig::new(settings, values),
            limits: SessionLimits {
                span: SessionSpan::from_secs(settings.session_lifetime.0, settings.session_idle_timeout.0),
                max_per_user: settings.sessions_per_user.0,
            },
            sweeper: sweeper::Options {
                interval: *settings.sweep_interval,
                counts_sessions: settings.metrics_listen.is_some(),
                ..sweeper::Options::default()
            },
            hashing: hashing(settings, values),
            gateway: settings.gateway.then_some(gateway),
        }
    }
}

fn hashing(settings: &Settings, values: &mut Values) -> HashingConfig {
    HashingConfig {
        cost: settings.password_cost.0,
        min_chars: usize::try_from(settings.password_min_chars.0).unwrap_or(usize::MAX),
        threads: settings.password_threads.map_or(0, usize::from),
        queue: settings.password_queue.map_or(0, usize::from),
        peppers: settings.pepper_file.read(values, |text| {
            Peppers::parse(text).map_err(|error| error.to_string())
        }),
    }
}
