//! Resolves which service a command asks: the one that `--server` names, the one that runs at the configured address, or one
//! in this process over the stores.

use crate::{
    Failure, in_process_transport,
    service::Service,
    stores::{self, OpenStores},
};
use clap::ArgMatches;
use sessiond::{
    config::{ServiceConfig, Upstream, UserStoreConfig},
    error_chain::chain,
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};
use tonic::transport::Channel;

/// How long a service may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A service that commands can call.
pub(super) enum Target {
    /// It runs elsewhere.
    Remote(Channel),
    /// It is this process's own.
    InProcess(Channel, OpenStores),
}

impl Target {
    pub(super) async fn resolve(matches: &ArgMatches, config: ServiceConfig) -> Result<Self, Failure> {
        if let Some(upstream) = from_flag(matches)? {
            return connect(&upstream).await.map(Self::Remote);
        }
        let address = connectable(config.address);
        if let Ok(Ok(_)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            return connect(&at_address(address)?).await.map(Self::Remote);
        }
        if matches!(config.stores.users, UserStoreConfig::Memory) {
            let text =
                format!("no service runs at {address}, and the memory store holds nothing without one");
            return Err(text.into());
        }
        let opened = stores::open(&config.stores)
            .await
            .map_err(|failure| format!("no service runs at {address}, and {}", chain(&*failure)))?;
        let service = Service::new(&opened, config.hashing, config.limits, config.api)?;
        Ok(Self::InProcess(
            in_process_transport::channel(service.api),
            opened,
        ))
    }

    pub(super) fn channel(&self) -> Channel {
        match self {
            Self::Remote(channel) | Self::InProcess(channel, _) => channel.clone(),
        }
    }

    /// Closes what was opened.
    pub(super) async fn close(self) -> Result<(), Failure> {
        match self {
            Self::Remote(_) => Ok(()),
            Self::InProcess(_, opened) => opened.close().await,
        }
    }
}

/// A connection to a service, made at once, so that a failure names the address.
pub(super) async fn connect(upstream: &Upstream) -> Result<Channel, Failure> {
    let endpoint = upstream.endpoint()?.connect_timeout(CONNECT_TIMEOUT);
    let connected = endpoint.connect().await;
    connected.map_err(|error| format!("{upstream} does not answer: {}", chain(&error)).into())
}

/// The service that `--server` names.
pub(super) fn from_flag(matches: &ArgMatches) -> Result<Option<Upstream>, Failure> {
    let Some(text) = matches.get_one::<String>("server") else {
        return Ok(None);
    };
    let upstream = text.parse().map_err(|error| format!("--server: {error}"))?;
    Ok(Some(upstream))
}

/// The service at an address of this machine.
pub(super) fn at_address(address: SocketAddr) -> Result<Upstream, Failure> {
    Ok(format!("http://{address}").parse()?)
}

/// Where a service that listens on this address can be reached from the same machine.
pub(super) fn connectable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from(Ipv6Addr::LOCALHOST),
        IpAddr::V4(_) | IpAddr::V6(_) => listen.ip(),
    };
    SocketAddr::new(ip, listen.port())
}
