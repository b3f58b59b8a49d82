//! Collects the values of file, environment and command line, and hands them out by setting.

use super::{
    arguments::Flags,
    mistake::{Mistake, Mistakes, Origin},
    reload::Snapshot,
    settings::{ALL, Setting, VARIABLE_PREFIX},
    value::Value,
};
use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    ops::Deref,
    path::{Path, PathBuf},
};
use toml::de::{DeTable, DeValue};

/// The environment variable that names the file, and the flag that does.
const FILE_VARIABLE: &str = "SESSIOND_CONFIG";

/// The value of a setting, and where it comes from.
pub(super) struct Given<T> {
    key: &'static str,
    origin: Origin,
    pub(super) value: T,
}

impl<T> Given<T> {
    /// Whether anyone has set it.
    #[cfg(feature = "server")]
    pub(super) fn is_set(&self) -> bool {
        self.origin != Origin::Default
    }
}

impl<T> Deref for Given<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Where the configuration of a process comes from, each time that it is read.
#[derive(Debug, Clone)]
pub struct Sources {
    flags: Flags,
    environment: Vec<(OsString, OsString)>,
}

impl Sources {
    /// These flags, this environment, and the file that one of them names.
    pub fn new(flags: Flags, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self {
            flags,
            environment: environment.into_iter().collect(),
        }
    }
}

/// Every value that was given, and every mistake found so far.
pub(super) struct Values {
    /// By key, the weightiest last: file, environment, command line.
    given: HashMap<&'static str, Vec<(Origin, String)>>,
    snapshot: Snapshot,
    mistakes: Vec<Mistake>,
}

impl Values {
    /// Collects. Flags outweigh the environment, the environment outweighs the file.
    pub(super) fn collect(Sources { flags, environment }: Sources) -> Self {
        let mut values = Self {
            given: HashMap::new(),
            snapshot: Snapshot::default(),
            mistakes: Vec::new(),
        };
        let mut file = None;
        let mut from_environment = Vec::new();
        for (name, value) in environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with(VARIABLE_PREFIX)) else {
                continue;
            };
            let origin = Origin::Environment(name.to_owned());
            let setting = ALL.iter().find(|setting| setting.variable() == name);
            match (setting, value.into_string()) {
                (_, Ok(path)) if name == FILE_VARIABLE => file = Some((origin, PathBuf::from(path))),
                (Some(setting), Ok(text)) => from_environment.push((setting.key, origin, text)),
                (Some(_), Err(_)) => values.report(origin, "is not valid UTF-8"),
                (None, _) if is_of_an_orchestrator(name) => {}
                (None, _) => values.report(origin, "no such setting"),
            }
        }
        if let Some(path) = flags.file {
            file = Some((Origin::Flag("--config".to_owned()), path));
        }
        if let Some((origin, path)) = file {
            values.read_file(origin, &path);
        }
        from_environment.sort_by_key(|(key, ..)| *key);
        for (key, origin, text) in from_environment {
            values.given.entry(key).or_default().push((origin, text));
        }
        for (key, origin, text) in flags.settings {
            values.given.entry(key).or_default().push((origin, text));
        }
        values.mistakes.extend(flags.mistakes);
        values
    }

    fn read_file(&mut self, named_by: Origin, path: &Path) {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.report(
                    named_by,
                    format!("names {}, which cannot be read: {error}", path.display()),
                );
                return;
            }
        };
        let line_of = |offset: usize| {
            let before = text.get(..offset).unwrap_or_default();
            Origin::File(path.to_owned(), before.matches('\n').count() + 1)
        };
        let (table, errors) = DeTable::parse_recoverable(&text);
        for error in errors {
            self.report(
                line_of(error.span().map_or(0, |span| span.start)),
                error.message(),
            );
        }
        for (key, value) in table.get_ref() {
            let origin = line_of(key.span().start);
            let Some(setting) = Setting::named(key.get_ref()) else {
                self.report(origin, format!("{}: no such setting", key.get_ref()));
                continue;
            };
            match text_of(value.get_ref()) {
                Some(text) => self.given.entry(setting.key).or_default().push((origin, text)),
                None => self.report(
                    origin,
                    format!("{}: must be a text, a whole number, true or false", setting.key),
                ),
            }
        }
    }

    /// The weightiest value of a setting that is right, else the default. Notes what is wrong with any: a wrong value is a mistake even
    /// where another outweighs it.
    pub(super) fn take<T: Value>(&mut self, key: &'static str, default: &str) -> Option<Given<T>> {
        let mut taken = None;
        for (origin, text) in self.given.remove(key).unwrap_or_default() {
            match T::parse(&text) {
                Ok(value) => {
                    taken = Some(Given { key, origin, value });
                    self.snapshot.note_text(key, text);
                }
                Err(reason) => self.reject_at(key, origin, &reason),
            }
        }
        if taken.is_some() {
            return taken;
        }
        self.snapshot.note_text(key, default.to_owned());
        let origin = Origin::Default;
        match T::parse(default) {
            Ok(value) => Some(Given { key, origin, value }),
            Err(reason) => {
                self.reject_at(key, origin, &reason);
                None
            }
        }
    }

    /// Notes what the file holds that a setting names.
    #[cfg(feature = "server")]
    pub(super) fn note_content<T>(&mut self, given: &Given<T>, content: &[u8]) {
        self.snapshot.note_content(given.key, content);
    }

    /// Notes that a value does not go with something else.
    pub(super) fn reject<T>(&mut self, given: &Given<T>, reason: &str) {
        self.reject_at(given.key, given.origin.clone(), reason);
    }

    /// A flag and a variable name their setting; a line of the file and a default do not.
    fn reject_at(&mut self, key: &str, origin: Origin, reason: &str) {
        let text = match origin {
            Origin::Flag(_) | Origin::Environment(_) => reason.to_owned(),
            Origin::Default | Origin::File(..) | Origin::CommandLine => format!("{key}: {reason}"),
        };
        self.report(origin, text);
    }

    fn report(&mut self, origin: Origin, text: impl Into<String>) {
        self.mistakes.push(Mistake {
            origin,
            text: text.into(),
        });
    }

    /// The configuration and what it was made of, if nothing was wrong.
    pub(super) fn finish<T>(mut self, config: Option<T>) -> Result<(T, Snapshot), Mistakes> {
        self.mistakes.sort_by(|a, b| a.origin.cmp(&b.origin));
        match config {
            Some(config) if self.mistakes.is_empty() => Ok((config, self.snapshot)),
            Some(_) | None => Err(Mistakes(self.mistakes)),
        }
    }
}

/// A value of the file as it would stand in the environment.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(is_so) => Some(is_so.to_string()),
        DeValue::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(|item| text_of(item.get_ref())).collect();
            items.map(|items| items.join(","))
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

/// Kubernetes describes every service of a namespace in variables, and one named "sessiond" would otherwise be all mistakes.
fn is_of_an_orchestrator(name: &str) -> bool {
    ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"]
        .iter()
        .any(|part| name.contains(part))
}
