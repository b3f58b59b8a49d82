//! The service, with the gateway beside it, and the commands that look after users and sessions.

mod command_line;
mod commands;
mod in_process_transport;
mod metrics_registry;
mod serve;
mod service;
mod stores;
mod welcome;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use sessiond::{
    config::{self, Loaded, Parsed, ServiceConfig, Sources},
    error_chain::chain,
};
use std::{
    env,
    error::Error,
    io::{self, Write as _},
    process::ExitCode,
};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why the program ends: for the person who started it.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let (parsed, flags) = config::parse(&command_line::command(), env::args_os().collect());
    if let Parsed::Text(text) = parsed {
        let _ = io::stdout().write_all(text.as_bytes());
        return ExitCode::SUCCESS;
    }
    // What was not understood at all is among the mistakes.
    let sources = Sources::new(flags, env::vars_os());
    let (loaded, matches) = match (ServiceConfig::load(sources), parsed) {
        (Ok(loaded), Parsed::Matches(matches)) => (loaded, matches),
        (Ok(_), Parsed::Nothing | Parsed::Text(_)) => return ExitCode::from(2),
        (Err(mistakes), _) => {
            let _ = writeln!(io::stderr(), "sessiond: {mistakes}");
            return ExitCode::from(2);
        }
    };
    let outcome = Runtime::new().map_err(Failure::from).and_then(|runtime| {
        let outcome = runtime.block_on(run(loaded, &matches));
        // A disk that hangs must not keep the process: nothing that was acknowledged waits for it.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "sessiond: {}", chain(&*failure));
            ExitCode::FAILURE
        }
    }
}

async fn run(loaded: Loaded<ServiceConfig>, matches: &clap::ArgMatches) -> Result<(), Failure> {
    // No core dumps, and no other process of this user reads this one's memory: passwords and tokens pass through it (S-98).
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    match matches.subcommand() {
        None => serve::serve(loaded).await,
        Some((name, matches)) => commands::run(name, matches, loaded.config).await,
    }
}
