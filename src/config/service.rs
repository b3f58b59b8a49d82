//! What `sessiond` is told: the service, its stores, and the gateway beside it.

use super::{Flags, GatewayParts, Mistakes, StoresConfig, listeners, secret_file, settings, sources::Values};
use crate::{
    domain::{SessionLimits, SessionSpan},
    grpc,
    listener::{self, Protocol},
    password::{HashingConfig, Peppers},
    sweeper, telemetry,
};
use std::{ffi::OsString, net::SocketAddr};

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
    /// Puts the configuration together from flags, this environment and the file that one of them names.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(
        flags: Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Mistakes> {
        let mut values = Values::collect(flags, environment);
        let config = Self::take(&mut values);
        values.finish(config)
    }

    /// Everything is taken before anything is found missing, so that every mistake is noted.
    fn take(values: &mut Values) -> Option<Self> {
        let telemetry = super::telemetry_options(values);
        let address = listeners::address(values, &settings::LISTEN);
        let listener = listeners::options(values, Protocol::Rpc);
        let metrics_address = listeners::optional_address(values, &settings::METRICS_LISTEN);
        let reflection = values.take(&settings::REFLECTION);
        let call_timeout = values.take(&settings::CALL_TIMEOUT);
        let limits = limits(values);
        let stores = StoresConfig::take(values);
        let sweep_interval = values.take(&settings::SWEEP_INTERVAL);
        let hashing = hashing(values);
        let has_gateway = values.take(&settings::GATEWAY);
        let gateway = GatewayParts::take(values);
        super::check_remaining(values);
        Some(Self {
            telemetry: telemetry?,
            address: address?,
            listener: listener?,
            metrics_address: metrics_address?,
            api: grpc::Options {
                has_reflection: reflection?,
                call_timeout: call_timeout?,
            },
            stores: stores?,
            limits: limits?,
            sweeper: sweeper::Options {
                interval: sweep_interval?,
                counts_sessions: metrics_address?.is_some(),
                ..sweeper::Options::default()
            },
            hashing: hashing?,
            gateway: match has_gateway? {
                true => Some(gateway?),
                false => None,
            },
        })
    }
}

fn limits(values: &mut Values) -> Option<SessionLimits> {
    let lifetime = values.take(&settings::SESSION_LIFETIME);
    let idle_timeout = values.take(&settings::SESSION_IDLE_TIMEOUT);
    let max_per_user = values.take(&settings::SESSIONS_PER_USER);
    Some(SessionLimits {
        span: SessionSpan::from_secs(lifetime?, idle_timeout?),
        max_per_user: max_per_user?,
    })
}

fn hashing(values: &mut Values) -> Option<HashingConfig> {
    let cost = values.take(&settings::PASSWORD_COST);
    let min_chars = values.take(&settings::PASSWORD_MIN_CHARS);
    let threads = values.take(&settings::PASSWORD_THREADS);
    let queue = values.take(&settings::PASSWORD_QUEUE);
    let peppers = match values.take(&settings::PEPPER_FILE)? {
        None => None,
        Some(path) => {
            let peppers = secret_file::read(&path).and_then(|text| {
                Peppers::parse(&text).map_err(|error| format!("names {}: {error}", path.display()))
            });
            match peppers {
                Ok(peppers) => Some(peppers),
                Err(reason) => {
                    values.reject_value(&settings::PEPPER_FILE, &reason);
                    None
                }
            }
        }
    };
    Some(HashingConfig {
        cost: cost?,
        min_chars: usize::try_from(min_chars?).ok()?,
        threads: threads?.map_or(0, usize::from),
        queue: queue?.map_or(0, usize::from),
        peppers,
    })
}
