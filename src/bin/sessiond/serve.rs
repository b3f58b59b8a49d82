//! The life of the serving process: build, bind, serve, drain.

use crate::{Failure, in_process, service::Built, stores, welcome};
use sessiond::{
    config::{GatewayParts, ServiceConfig},
    gateway,
    listener::{Listener, fit_to_descriptors},
    shutdown, sweeper, telemetry,
};
use std::net::SocketAddr;

/// Serves until a signal ends it.
pub(crate) async fn serve(mut config: ServiceConfig) -> Result<(), Failure> {
    let _flushed = telemetry::start(&config.telemetry)?;
    let (trigger, mut shutdown) = shutdown::channel();
    trigger.follow_signals()?;
    limit_connections(&mut config);

    // Bound before the stores are opened: an address in use is found out at once.
    let listener = bind(config.address)?;
    let gateway = config.gateway.take();
    let gateway = gateway
        .map(|parts| Ok::<_, Failure>((bind(parts.address)?, parts)))
        .transpose()?;
    let opened = tokio::select! {
        opened = stores::open(&config.stores) => opened?,
        () = shutdown.draining() => return Ok(()),
    };
    let Built { auth, api, clock } = Built::over(&opened, config.hashing, config.limits, config.api)?;
    tokio::spawn(api.keep_readiness(auth.clone()));
    tokio::spawn(sweeper::watch_wall_clock(clock.clone(), shutdown.clone()));
    tokio::spawn(sweeper::sweep_on(
        opened.sessions.clone(),
        clock,
        opened.known_until,
        config.sweeper,
        shutdown.clone(),
    ));

    let rpc_address = listener.local_address();
    let api_of_worker = api.clone();
    let serving = listener.serve(config.listener, shutdown.clone(), move || api_of_worker.clone())?;
    let mut http_address = None;
    let mut gateway_serving = None;
    if let Some((listener, parts)) = gateway {
        http_address = Some(listener.local_address());
        let router = gateway::router(parts.gateway, in_process::channel(api.clone()));
        gateway_serving = Some(listener.serve(parts.listener, shutdown.clone(), move || router.clone())?);
    }
    tracing::info!(
        event = "serving",
        grpc = %rpc_address,
        http = http_address.map(tracing::field::display),
        store = opened.place,
        "serving"
    );
    welcome::print(rpc_address, http_address, &opened.place);

    shutdown.draining().await;
    api.drain().await;
    let gateway_drained = async {
        match gateway_serving {
            Some(serving) => serving.drained().await,
            None => 0,
        }
    };
    let (cut_off, gateway_cut_off) = tokio::join!(serving.drained(), gateway_drained);
    opened.close().await?;
    tracing::info!(event = "stopped", cut_off = cut_off + gateway_cut_off, "stopped");
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
