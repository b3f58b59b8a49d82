//! `sessiond backup` and `sessiond restore`, for the embedded store.

use crate::Failure;
use clap::ArgMatches;
use sessiond::{
    config::{StoresConfig, UserStoreConfig},
    store::{EmbeddedStore, ExistingData},
};
use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};
use tokio::task::spawn_blocking;

/// Copies the data directory's database to a file, while a service uses it or not.
pub(super) async fn backup(matches: &ArgMatches, stores: &StoresConfig) -> Result<(), Failure> {
    let data_dir = data_dir_of(stores)?.to_owned();
    let file = file_of(matches);
    let path = file.display().to_string();
    spawn_blocking(move || EmbeddedStore::backup_of(&data_dir, &file)).await??;
    writeln!(io::stdout(), "Everything is in {path}")?;
    Ok(())
}

/// Puts a backup into a data directory that no service uses.
pub(super) async fn restore(matches: &ArgMatches, stores: &StoresConfig) -> Result<(), Failure> {
    let data_dir = data_dir_of(stores)?.to_owned();
    let file = file_of(matches);
    let path = data_dir.display().to_string();
    let existing = match matches.get_flag("replace") {
        true => ExistingData::Replace,
        false => ExistingData::Keep,
    };
    spawn_blocking(move || EmbeddedStore::restore(&file, &data_dir, existing)).await??;
    writeln!(
        io::stdout(),
        "The backup is in {path}. Sessions have ended with it: everyone logs in again."
    )?;
    Ok(())
}

fn data_dir_of(stores: &StoresConfig) -> Result<&Path, Failure> {
    match &stores.users {
        UserStoreConfig::Embedded(data_dir) => Ok(data_dir),
        UserStoreConfig::Memory | UserStoreConfig::Postgres(_) => Err(
            "only the embedded store is backed up this way; PostgreSQL and Redis have tools of their own"
                .into(),
        ),
    }
}

fn file_of(matches: &ArgMatches) -> PathBuf {
    matches
        .get_one::<String>("file")
        .map(PathBuf::from)
        .unwrap_or_default()
}
