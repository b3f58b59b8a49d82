//! Reads the configuration again while the program runs, and tells what has changed.

use super::{
    mistake::Mistakes,
    settings::{ALL, CommandLine, Setting, Settings},
    sources::{Sources, Values},
};
#[cfg(feature = "server")]
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use tokio::{signal::unix::Signal, task::spawn_blocking};

/// The text of each setting, and a digest of the file that it names, if what stands in that matters.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    texts: HashMap<&'static str, String>,
    contents: HashMap<&'static str, [u8; 32]>,
}

impl Snapshot {
    pub(super) fn note_text(&mut self, key: &'static str, text: String) {
        self.texts.insert(key, text);
    }

    #[cfg(feature = "server")]
    pub(super) fn note_content(&mut self, key: &'static str, content: &[u8]) {
        self.contents.insert(key, Sha256::digest(content).into());
    }

    fn differs_from(&self, other: &Self, key: &str) -> bool {
        (self.texts.get(key), self.contents.get(key)) != (other.texts.get(key), other.contents.get(key))
    }

    /// Takes over what another one says of a setting.
    fn take_over(&mut self, other: &Self, key: &'static str) {
        if let Some(text) = other.texts.get(key) {
            self.texts.insert(key, text.clone());
        }
        match other.contents.get(key) {
            Some(content) => self.contents.insert(key, *content),
            None => self.contents.remove(key),
        };
    }
}

/// A configuration, and how to read it again.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The configuration.
    pub config: T,
    /// Reads it again.
    pub reloader: Reloader<T>,
}

/// Reads the configuration of a running program again.
#[derive(Debug)]
pub struct Reloader<T> {
    sources: Sources,
    command_line: CommandLine,
    build: fn(&Settings, &mut Values) -> T,
    in_force: Snapshot,
}

impl<T> Loaded<T> {
    pub(super) fn new(
        sources: Sources,
        command_line: CommandLine,
        build: fn(&Settings, &mut Values) -> T,
    ) -> Result<Self, Mistakes> {
        let (config, in_force) = read(sources.clone(), build)?;
        Ok(Self {
            config,
            reloader: Reloader {
                sources,
                command_line,
                build,
                in_force,
            },
        })
    }
}

fn read<T>(sources: Sources, build: fn(&Settings, &mut Values) -> T) -> Result<(T, Snapshot), Mistakes> {
    let mut values = Values::collect(sources);
    let config = Settings::take(&mut values).map(|settings| build(&settings, &mut values));
    values.finish(config)
}

impl<T: Send + 'static> Reloader<T> {
    /// Reads the configuration again at each of these signals. If it has a mistake, everything stays as it is. Otherwise `apply`
    /// takes over the settings that are reloaded ([`Setting::is_reloaded`]), and the log says which of the others wait for a restart.
    pub async fn follow(mut self, mut signals: Signal, mut apply: impl FnMut(T)) {
        while signals.recv().await.is_some() {
            let (sources, build) = (self.sources.clone(), self.build);
            // A file may be on a slow disk, or be a pipe.
            match spawn_blocking(move || read(sources, build)).await {
                Ok(Ok((config, snapshot))) => {
                    apply(config);
                    self.report(&snapshot);
                }
                Ok(Err(mistakes)) => {
                    for mistake in mistakes.as_slice() {
                        tracing::error!(
                            event = "reload_refused",
                            %mistake,
                            "the configuration has a mistake: everything stays as it is"
                        );
                    }
                }
                Err(panic) => {
                    tracing::error!(event = "reload_refused", %panic, "the configuration cannot be read")
                }
            }
        }
    }

    fn report(&mut self, snapshot: &Snapshot) {
        let is_changed = |setting: &&Setting| {
            setting.taken_by.contains(&self.command_line) && self.in_force.differs_from(snapshot, setting.key)
        };
        let (applied, waiting): (Vec<_>, Vec<_>) = ALL
            .iter()
            .filter(is_changed)
            .partition(|setting| setting.is_reloaded);
        for Setting { key, .. } in waiting {
            tracing::warn!(
                event = "restart_needed",
                setting = key,
                "a setting has changed and takes effect with the next start"
            );
        }
        let applied: Vec<_> = applied.iter().map(|setting| setting.key).collect();
        tracing::info!(
            event = "reloaded",
            applied = applied.join(","),
            "the configuration was read again"
        );
        for key in applied {
            self.in_force.take_over(snapshot, key);
        }
    }
}
