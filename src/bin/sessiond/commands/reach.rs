//! Finds the service to ask: the one that is named, the one that runs, or one of the process's own over the stores.

use crate::{
    Failure, in_process,
    service::Built,
    stores::{self, Opened},
    with_causes,
};
use clap::ArgMatches;
use sessiond::config::{ServiceConfig, Upstream, UserStoreConfig};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};
use tonic::transport::Channel;

/// How long a service may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A service that can be asked.
pub(super) enum Reached {
    /// It runs elsewhere.
    Running(Channel),
    /// It is this process's own.
    Own(Channel, Opened),
}

impl Reached {
    pub(super) async fn by(matches: &ArgMatches, config: ServiceConfig) -> Result<Self, Failure> {
        if let Some(upstream) = named(matches)? {
            return Self::running_at(&upstream);
        }
        let address = reachable(config.address);
        if let Ok(Ok(_)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            return Self::running_at(&configured(address)?);
        }
        if matches!(config.stores.users, UserStoreConfig::Memory) {
            let text =
                format!("no service runs at {address}, and the memory store holds nothing without one");
            return Err(text.into());
        }
        let opened = stores::open(&config.stores)
            .await
            .map_err(|failure| format!("no service runs at {address}, and {}", with_causes(&*failure)))?;
        let built = Built::over(&opened, config.hashing, config.limits, config.api)?;
        Ok(Self::Own(in_process::channel(built.api), opened))
    }

    fn running_at(upstream: &Upstream) -> Result<Self, Failure> {
        let endpoint = upstream.endpoint()?.connect_timeout(CONNECT_TIMEOUT);
        Ok(Self::Running(endpoint.connect_lazy()))
    }

    pub(super) fn channel(&self) -> Channel {
        match self {
            Self::Running(channel) | Self::Own(channel, _) => channel.clone(),
        }
    }

    /// Closes what was opened.
    pub(super) async fn leave(self) -> Result<(), Failure> {
        match self {
            Self::Running(_) => Ok(()),
            Self::Own(_, opened) => opened.close().await,
        }
    }
}

/// The service that `--server` names.
pub(super) fn named(matches: &ArgMatches) -> Result<Option<Upstream>, Failure> {
    let Some(text) = matches.get_one::<String>("server") else {
        return Ok(None);
    };
    let upstream = text.parse().map_err(|error| format!("--server: {error}"))?;
    Ok(Some(upstream))
}

/// The service at an address of this machine.
pub(super) fn configured(address: SocketAddr) -> Result<Upstream, Failure> {
    Ok(format!("http://{address}").parse()?)
}

/// Where a service that listens on this address can be reached from the same machine.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from(Ipv6Addr::LOCALHOST),
        IpAddr::V4(_) | IpAddr::V6(_) => listen.ip(),
    };
    SocketAddr::new(ip, listen.port())
}
