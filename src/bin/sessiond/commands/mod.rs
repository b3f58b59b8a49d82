//! The commands beside serving. Each is a client of the contract, in this process or of a running one.

mod backup;
mod check_emails;
mod copy;
mod health;
mod output;
mod password;
mod sessions;
mod target;
mod users;

use crate::{Failure, stores};
use clap::ArgMatches;
use output::Output;
use sessiond::{config::ServiceConfig, telemetry};
use std::io::{self, Write as _};
use target::Target;
use tonic::Status;
use tonic_types::StatusExt as _;

pub(crate) async fn run(name: &str, matches: &ArgMatches, config: ServiceConfig) -> Result<(), Failure> {
    // People read what a command says; only what goes wrong is worth a line of log.
    let _log = telemetry::start(&telemetry::Options {
        filter: "warn".parse()?,
        format: telemetry::Format::Human,
    })?;
    match (name, matches.subcommand()) {
        ("users", Some((subcommand, matches))) => {
            let target = Target::resolve(matches, config).await?;
            let outcome = users::run(subcommand, matches, target.channel(), Output::new(matches)).await;
            let closed = target.close().await;
            outcome.and(closed)
        }
        ("sessions", Some((subcommand, matches))) => {
            let target = Target::resolve(matches, config).await?;
            let outcome = sessions::run(subcommand, matches, target.channel(), Output::new(matches)).await;
            let closed = target.close().await;
            outcome.and(closed)
        }
        ("healthcheck", _) => health::check(matches, &config).await,
        ("migrate", _) => {
            let place = stores::migrate(&config.stores).await?;
            writeln!(io::stdout(), "The schema is up to date {place}")?;
            Ok(())
        }
        ("copy", _) => copy::run(matches).await,
        ("backup", _) => backup::backup(matches, &config.stores).await,
        ("restore", _) => backup::restore(matches, &config.stores).await,
        _ => Err(format!("there is no command {name}").into()),
    }
}

/// What a failed call means to the person at the terminal.
fn refusal(status: &Status) -> Failure {
    let violations: Vec<_> = status
        .get_details_bad_request()
        .map(|bad| bad.field_violations)
        .unwrap_or_default()
        .into_iter()
        .map(|violation| format!("{} {}", violation.field, violation.description))
        .collect();
    match violations.is_empty() {
        true => output::escape_control_characters(status.message()).into(),
        false => output::escape_control_characters(&violations.join("; ")).into(),
    }
}
