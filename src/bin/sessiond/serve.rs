//! The life of the serving process: build, bind, serve, drain.

use crate::{Failure, in_process_transport, metrics_registry, service::Service, stores, welcome};
use futures_util::future::join_all;
use sessiond::{
    config::{GatewayParts, Loaded, ServiceConfig},
    gateway,
    listener::{Listener, Serving, fit_to_descriptors},
    metrics::Sweeps,
    shutdown, sweeper, telemetry,
};
use std::net::SocketAddr;
use tokio::signal::unix::{SignalKind, signal};

/// Serves until a signal ends it.
pub(crate) async fn serve(loaded: Loaded<ServiceConfig>) -> Result<(), Failure> {
    let Loaded { mut config, reloader } = loaded;
    // First of all: without it, the signal would end the process.
    let hangups = signal(SignalKind::hangup())?;
    let log = telemetry::start(&config.telemetry)?;
    let (trigger, mut shutdown) = shutdown::channel();
    trigger.follow_signals()?;
    limit_connections(&mut config);

    // Bound before the stores are opened: an address in use is found out at once.
    let listener = bind(config.address)?;
    let gateway = config.gateway.take();
    let gateway = gateway
        .map(|parts| Ok::<_, Failure>((bind(parts.address)?, parts)))
        .transpose()?;
    let metrics_listener = config.metrics_address.map(bind).transpose()?;
    let opened = tokio::select! {
        opened = stores::open(&config.stores) => opened?,
        () = shutdown.draining() => return Ok(()),
    };
    let service = Service::new(&opened, config.hashing, config.limits, config.api)?;
    let sweeps = Sweeps::default();
    let metrics = metrics_registry::collect(&opened, &service, &sweeps, &log);
    let (filter, passwords) = (log.filter(), service.passwords.clone());
    tokio::spawn(reloader.follow(hangups, move |config| {
        filter.set(&config.telemetry.filter);
        passwords.replace_peppers(config.hashing.peppers);
    }));
    service.auth.note_pending_changes().await?;
    tokio::spawn(service.auth.clone().complete_pending_changes());
    tokio::spawn(service.api.keep_readiness(service.auth.clone()));
    tokio::spawn(sweeper::watch_wall_clock(service.clock.clone(), shutdown.clone()));
    tokio::spawn(sweeper::sweep_on(
        opened.sessions.clone(),
        service.clock.clone(),
        opened.known_until,
        config.sweeper,
        sweeps,
        shutdown.clone(),
    ));

    let api = service.api;
    let drain_timeout = config.listener.drain_timeout;
    let rpc_address = listener.local_address();
    let api_of_workers = api.clone();
    let rpc = listener.serve(config.listener, shutdown.clone(), move || {
        api_of_workers.for_thread()
    })?;
    let mut servings = vec![rpc];
    let mut http_address = None;
    if let Some((listener, parts)) = gateway {
        http_address = Some(listener.local_address());
        let router = gateway::router(parts.gateway, in_process_transport::channel(api.clone()));
        servings.push(listener.serve(parts.listener, shutdown.clone(), move || router.clone())?);
    }
    let mut metrics_address = None;
    if let Some(listener) = metrics_listener {
        metrics_address = Some(listener.local_address());
        servings.push(metrics_registry::serve(
            metrics,
            listener,
            drain_timeout,
            shutdown.clone(),
        )?);
    }
    tracing::info!(
        event = "serving",
        grpc = %rpc_address,
        http = http_address.map(tracing::field::display),
        metrics = metrics_address.map(tracing::field::display),
        store = opened.location,
        "serving"
    );
    welcome::print(rpc_address, http_address, &opened.location);

    shutdown.draining().await;
    // A worker ends when nothing runs on it any more.
    opened.sessions.close_thread_connections();
    api.drain().await;
    let cut_off: usize = join_all(servings.into_iter().map(Serving::drained))
        .await
        .iter()
        .sum();
    opened.close().await?;
    tracing::info!(event = "stopped", cut_off, "stopped");
    Ok(())
}

fn bind(address: SocketAddr) -> Result<Listener, Failure> {
    Listener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}").into())
}

fn limit_connections(config: &mut ServiceConfig) {
    match &mut config.gateway {
        Some(GatewayParts { listener, .. }) => fit_to_descriptors(&mut [&mut config.listener, listener]),
        None => fit_to_descriptors(&mut [&mut config.listener]),
    }
}
