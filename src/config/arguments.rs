//! Settings as flags, and every mistake of a command line at once.

use super::{
    mistake::{Mistake, Origin},
    settings::{ALL, CommandLine, Setting},
    value::SWITCH,
};
use clap::{
    Arg, ArgMatches, Command,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use std::{ffi::OsString, path::PathBuf};

/// What a command line says about settings.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    pub(super) settings: Vec<(&'static str, Origin, String)>,
    pub(super) file: Option<PathBuf>,
    pub(super) mistakes: Vec<Mistake>,
}

/// Gives a command the flag `--config` and one for each of the settings that this command line takes.
#[must_use]
pub fn with_settings(command: Command, command_line: CommandLine) -> Command {
    let file = Arg::new(FILE)
        .long(FILE)
        .value_name("FILE")
        .help("Read settings from this TOML file [env: SESSIOND_CONFIG]")
        .help_heading(HEADING);
    let settings = ALL
        .iter()
        .filter(|setting| setting.taken_by.contains(&command_line));
    command.arg(file).args(settings.map(|setting| {
        let default = match setting.default {
            "" => "none",
            text => text,
        };
        let help = format!(
            "{} [env: {}] [default: {default}]",
            setting.help,
            setting.variable()
        );
        let flag = Arg::new(setting.key)
            .long(setting.flag())
            .value_name(setting.kind)
            .help(help)
            .help_heading(HEADING);
        match setting.kind {
            SWITCH => flag
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true"),
            _ => flag,
        }
    }))
}

/// The flag that names the configuration file.
const FILE: &str = "config";

const HEADING: &str = "Settings (flags outweigh the environment, the environment outweighs the file)";

/// What became of a command line.
#[derive(Debug)]
pub enum Parsed {
    /// It was understood as far as `Flags` do not say otherwise.
    Matches(ArgMatches),
    /// It could not be understood at all; the mistakes are in `Flags`.
    Nothing,
    /// It asks for help or the version: this text.
    Text(String),
}

/// Takes a command line apart. Unknown arguments are all noted, not the first one only.
#[must_use]
pub fn parse(command: &Command, arguments: Vec<OsString>) -> (Parsed, Flags) {
    let mut arguments = with_joined_switches(arguments);
    let mut flags = Flags::default();
    loop {
        let error = match command.clone().try_get_matches_from(&arguments) {
            Ok(matches) => {
                collect(command, &matches, &mut flags);
                return (Parsed::Matches(matches), flags);
            }
            Err(error) => error,
        };
        if !error.use_stderr() {
            return (Parsed::Text(error.render().to_string()), flags);
        }
        flags.mistakes.push(Mistake {
            origin: Origin::CommandLine,
            text: sentence(&error),
        });
        if !without_unknown(&error, &mut arguments) {
            return (Parsed::Nothing, flags);
        }
    }
}

/// `--gateway false` as `--gateway=false`: a switch may stand without a value, so that a word behind it could be a command.
fn with_joined_switches(arguments: Vec<OsString>) -> Vec<OsString> {
    let switches = ALL.iter().filter(|setting| setting.kind == SWITCH);
    let switches: Vec<String> = switches.map(|switch| format!("--{}", switch.flag())).collect();
    let mut joined: Vec<OsString> = Vec::with_capacity(arguments.len());
    for argument in arguments {
        match joined.last_mut() {
            Some(last)
                if (argument == "true" || argument == "false")
                    && switches.iter().any(|switch| *last == **switch) =>
            {
                last.push("=");
                last.push(argument);
            }
            Some(_) | None => joined.push(argument),
        }
    }
    joined
}

/// The settings that the (sub)command was given.
fn collect(command: &Command, matches: &ArgMatches, flags: &mut Flags) {
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        let is_given = matches.value_source(id) == Some(ValueSource::CommandLine);
        if argument.get_help_heading() != Some(HEADING) || !is_given {
            continue;
        }
        let Ok(Some(text)) = matches.try_get_one::<String>(id) else {
            continue;
        };
        if id == FILE {
            flags.file = Some(PathBuf::from(text));
        } else if let Some(setting) = Setting::named(id) {
            let origin = Origin::Flag(format!("--{}", setting.flag()));
            flags.settings.push((setting.key, origin, text.clone()));
        }
    }
    if let Some((name, matches)) = matches.subcommand()
        && let Some(command) = command.find_subcommand(name)
    {
        collect(command, matches, flags);
    }
}

/// What clap says, without its colours, its label and its hints about usage.
fn sentence(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    match text.lines().find_map(|line| line.trim().strip_prefix("tip: ")) {
        Some(tip) => format!("{first} ({tip})"),
        None => first.to_owned(),
    }
}

/// Takes the unknown argument out, with what looks like its value. `false` if that is not what was wrong.
fn without_unknown(error: &clap::Error, arguments: &mut Vec<OsString>) -> bool {
    let unknown = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(unknown))) => unknown,
        _ => return false,
    };
    let is_it = |argument: &OsString| {
        argument.to_str().is_some_and(|text| {
            text == unknown || text.split_once('=').is_some_and(|(flag, _)| flag == unknown)
        })
    };
    let Some(at) = arguments.iter().skip(1).position(is_it).map(|at| at + 1) else {
        return false;
    };
    let removed = arguments.remove(at);
    let is_flag_alone = removed
        .to_str()
        .is_some_and(|text| text.starts_with("--") && !text.contains('='));
    let has_value = arguments
        .get(at)
        .and_then(|next| next.to_str())
        .is_some_and(|next| !next.starts_with('-'));
    if is_flag_alone && has_value {
        arguments.remove(at);
    }
    true
}
