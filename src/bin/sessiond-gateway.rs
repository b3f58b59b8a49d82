//! The HTTP gateway as a process of its own: an ordinary client of a `sessiond` elsewhere.

use clap::Command;
use mimalloc::MiMalloc;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use sessiond::{
    config::{self, GatewayProgramConfig, Loaded, Parsed, Sources, settings::CommandLine},
    error_chain::chain,
    gateway,
    listener::{Listener, fit_to_descriptors},
    shutdown, telemetry,
};
use std::{
    env,
    error::Error,
    io::{self, Write as _},
    process::ExitCode,
};
use tokio::signal::unix::{SignalKind, signal};
use zeroizing_alloc::ZeroAlloc;

/// Wipes whatever is freed: passwords come and go through buffers of the network's libraries, which do not (S-98).
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const EXAMPLES: &str = "\
Examples:
  sessiond-gateway --upstream http://127.0.0.1:50051
  sessiond-gateway --config /etc/sessiond.toml --public-origin https://login.example.org";

fn main() -> ExitCode {
    let command = Command::new("sessiond-gateway")
        .version(env!("CARGO_PKG_VERSION"))
        .about("The HTTP gateway of sessiond: cookies and REST in, gRPC out.")
        .after_help(EXAMPLES);
    let command = config::with_settings(command, CommandLine::Gateway);
    let (parsed, flags) = config::parse(&command, env::args_os().collect());
    if let Parsed::Text(text) = parsed {
        let _ = io::stdout().write_all(text.as_bytes());
        return ExitCode::SUCCESS;
    }
    let outcome = match GatewayProgramConfig::load(Sources::new(flags, env::vars_os())) {
        Ok(loaded) => run(loaded),
        Err(mistakes) => {
            let _ = writeln!(io::stderr(), "sessiond-gateway: {mistakes}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "sessiond-gateway: {}", chain(&*failure));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(loaded: Loaded<GatewayProgramConfig>) -> Result<(), Box<dyn Error>> {
    let Loaded { mut config, reloader } = loaded;
    // First of all: without it, the signal would end the process.
    let hangups = signal(SignalKind::hangup())?;
    // No core dumps, and no other process of this user reads this one's memory: passwords and tokens pass through it (S-98).
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let log = telemetry::start(&config.telemetry)?;
    let filter = log.filter();
    tokio::spawn(reloader.follow(hangups, move |config| filter.set(&config.telemetry.filter)));
    let (trigger, mut shutdown) = shutdown::channel();
    trigger.follow_signals()?;
    fit_to_descriptors(&mut [&mut config.parts.listener]);

    let address = config.parts.address;
    let listener = Listener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let address = listener.local_address();
    let router = gateway::router(
        config.parts.gateway,
        gateway::connect(config.upstream.endpoint()?),
    );
    let serving = listener.serve(config.parts.listener, shutdown.clone(), move || router.clone())?;
    tracing::info!(event = "serving", http = %address, upstream = %config.upstream, "serving");

    shutdown.draining().await;
    let cut_off = serving.drained().await;
    tracing::info!(event = "stopped", cut_off, "stopped");
    Ok(())
}
