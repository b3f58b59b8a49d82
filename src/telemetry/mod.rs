//! Logs: one line for each event, for people on a terminal and for machines otherwise.
//!
//! A log line cannot be forged by what is logged, cannot hold what other people's code would say below `info`, and is dropped
//! and counted rather than waited for.

mod json;
mod sink;

use json::JsonLine;
use sink::FlushGuard;

use std::{
    io::{self, IsTerminal as _},
    str::FromStr,
};
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::{FilterExt as _, LevelFilter, filter_fn},
    fmt::{self, time::SystemTime},
    layer::SubscriberExt as _,
    reload,
};

/// How the program logs.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What is logged.
    pub filter: Filter,
    /// For whom.
    pub format: Format,
}

/// For whom a log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people if it goes to a terminal, for machines otherwise.
    #[default]
    Auto,
    /// For people.
    Human,
    /// For machines: one JSON object a line.
    Json,
}

/// What is logged: levels by module, in the notation of `tracing_subscriber::EnvFilter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(String);

impl Default for Filter {
    /// Everything from `info` up.
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for Filter {
    type Err = InvalidFilter;

    fn from_str(text: &str) -> Result<Self, InvalidFilter> {
        // Stricter than the notation, in which a misspelled level is the name of a module.
        let names_levels = text.split(',').all(|directive| {
            let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
            !level.is_empty() && LevelFilter::from_str(level).is_ok()
        });
        match names_levels && EnvFilter::builder().parse(text).is_ok() {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidFilter),
        }
    }
}

/// The text is no filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a level (error, warn, info, debug, trace) or levels by module such as info,sessiond::grpc=debug"
)]
pub struct InvalidFilter;

/// The log of the process. Writes out the last lines when it is dropped, and waits a second for that at most.
pub struct Log {
    filter: FilterHandle,
    flush_guard: FlushGuard,
}

impl Log {
    /// Changes what is logged.
    #[must_use]
    pub fn filter(&self) -> FilterHandle {
        self.filter.clone()
    }

    /// Tells, whenever it is asked, how many lines were dropped since the start.
    pub fn dropped_lines(&self) -> impl Fn() -> u64 + Send + Sync + 'static + use<> {
        self.flush_guard.dropped_lines()
    }
}

/// Changes what is logged.
#[derive(Debug, Clone)]
pub struct FilterHandle(reload::Handle<EnvFilter, Registry>);

impl FilterHandle {
    /// From now on this is logged.
    pub fn set(&self, filter: &Filter) {
        // It fails only if nothing is logged any more.
        let _ = self.0.reload(filter.directives());
    }
}

impl Filter {
    fn directives(&self) -> EnvFilter {
        // The text was parsed before.
        EnvFilter::builder().parse_lossy(&self.0)
    }
}

/// Starts logging to standard error, for the whole process.
///
/// # Errors
/// If the log's thread cannot be started, or if the process logs already.
pub fn start(options: &Options) -> io::Result<Log> {
    let is_for_people = match options.format {
        Format::Auto => io::stderr().is_terminal(),
        Format::Human => true,
        Format::Json => false,
    };
    let (sink, flush_guard) = sink::start(io::stderr())?;
    let (filter, handle) = reload::Layer::new(options.filter.directives());
    let filter = filter.and(filter_fn(is_harmless));
    let lines = match is_for_people {
        // Without colours, which the sink would take for an attempt to forge a line.
        true => fmt::layer().with_ansi(false).with_writer(sink).boxed(),
        false => fmt::layer()
            .json()
            .event_format(JsonLine::<SystemTime>::default())
            .with_writer(sink)
            .boxed(),
    };
    let subscriber = Registry::default().with(lines.with_filter(filter));
    tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)?;
    log_panics();
    Ok(Log {
        filter: FilterHandle(handle),
        flush_guard,
    })
}

/// Whether an event may be logged at all. Below `info`, HTTP and database libraries print what passes through them (S-89).
fn is_harmless(event: &Metadata<'_>) -> bool {
    *event.level() <= Level::INFO || is_ours(event.target())
}

fn is_ours(target: &str) -> bool {
    target == "sessiond" || target == "sessiond_gateway" || target.starts_with("sessiond::")
}

/// A panic is logged where it happened, and with its text only if that stands in the source: a formatted one may hold anything.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload().downcast_ref::<&'static str>().copied();
        let location = panic.location().map(ToString::to_string);
        tracing::error!(
            event = "panic",
            location = location.unwrap_or_default(),
            "panicked: {}",
            text.unwrap_or("(text withheld)")
        );
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_89_only_our_own_events_are_logged_below_info() {
        assert!(is_ours("sessiond::grpc::call"));
        assert!(is_ours("sessiond"));
        for target in [
            "h2::codec",
            "hyper",
            "tokio_postgres::query",
            "sessiond_evil",
            "redis",
        ] {
            assert!(!is_ours(target), "{target}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in ["", "loud", "sessiond=loud", "a=b=c", "inof"] {
            assert_eq!(text.parse::<Filter>(), Err(InvalidFilter), "{text}");
        }
        assert!("info,sessiond::grpc=debug".parse::<Filter>().is_ok());
    }
}
