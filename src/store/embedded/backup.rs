//! A copy of everything while the store runs, and the way back, on which no session is taken along.

use super::{
    EmbeddedStore, counter_rows, load,
    open::{
        DataDir, OpenError, database_error, database_in, io_error, open_and_migrate, open_to_read,
        open_to_write, sync_dir, version_of,
    },
    user_rows,
};
use rusqlite::Connection;
use std::{
    error::Error as StdError,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

type Failed = Box<dyn StdError + Send + Sync>;

/// What [`EmbeddedStore::restore`] does with data that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExistingData {
    /// Leaves it, and refuses.
    Keep,
    /// Puts the backup in its place. It is gone for good.
    Replace,
}

impl EmbeddedStore {
    /// Writes everything that is committed by now to a new file, readable by its owner only, while the store goes on. The file
    /// appears under its name when it is complete and synced.
    ///
    /// Blocks for as long as that takes: about a second for a million sessions.
    ///
    /// # Errors
    /// [`OpenError::Exists`] if there is such a file; [`OpenError::Io`], [`OpenError::Corrupt`].
    pub fn backup(&self, to: &Path) -> Result<(), OpenError> {
        backup_database(&self.data_dir.database(), to)
    }

    /// As [`backup`](Self::backup), of a data directory that another process may have open.
    ///
    /// # Errors
    /// As [`backup`](Self::backup); [`OpenError::Newer`].
    pub fn backup_of(data_dir: &Path, to: &Path) -> Result<(), OpenError> {
        let database = database_in(data_dir);
        version_of(&database)?;
        backup_database(&database, to)
    }
    /// Puts a backup into a data directory that no process uses. Users are as they were; sessions are not: a session that
    /// ended after the backup must stay ended, and the backup does not show which did. So everyone has to log in again.
    ///
    /// Every row is checked first, so a damaged backup replaces nothing. Blocks.
    ///
    /// # Errors
    /// [`OpenError::Locked`], [`OpenError::Exists`], [`OpenError::Newer`] (the backup is a newer release's),
    /// [`OpenError::Corrupt`], [`OpenError::Io`].
    pub fn restore(backup: &Path, data_dir: &Path, existing: ExistingData) -> Result<(), OpenError> {
        let data_dir = DataDir::lock(data_dir)?;
        let database = data_dir.database();
        match existing {
            ExistingData::Keep => refuse_existing(&database)?,
            ExistingData::Replace => {}
        }
        if version_of(backup)? == 0 {
            return Err(database_error(backup)("it is empty".into()));
        }
        let restored = with_suffix(&database, ".restoring");
        copy(backup, &restored)
            .and_then(|()| end_all_sessions(&restored))
            .and_then(|()| remove_log_of(&database))
            .and_then(|()| put(&restored, &database))
            .inspect_err(|_| drop(remove_log_files(&restored).map(|()| fs::remove_file(&restored))))
    }
}

fn backup_database(database: &Path, to: &Path) -> Result<(), OpenError> {
    refuse_existing(to)?;
    let partial = with_suffix(to, ".partial");
    copy(database, &partial)
        .and_then(|()| put(&partial, to))
        .inspect_err(|_| drop(fs::remove_file(&partial)))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn refuse_existing(path: &Path) -> Result<(), OpenError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(OpenError::Exists {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error(path)(error)),
    }
}

/// Copies what is committed in a database to a file, in the place of what an earlier attempt left there.
fn copy(from: &Path, to: &Path) -> Result<(), OpenError> {
    remove_log_files(to)?;
    // SQLite takes an empty file, and leaves it its mode.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(to)
        .map_err(io_error(to))?;
    let target = to.to_str().ok_or_else(|| {
        let not_utf8 = io::Error::new(io::ErrorKind::InvalidInput, "SQLite takes paths in UTF-8 only");
        io_error(to)(not_utf8)
    })?;
    let copied = open_to_read(from).and_then(|connection| connection.execute("VACUUM INTO ?1", [target]));
    copied
        .map(drop)
        .map_err(|error| database_error(from)(error.into()))
}

/// Gives a complete file its name, for good.
fn put(from: &Path, to: &Path) -> Result<(), OpenError> {
    File::open(from)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(from, to))
        .map_err(io_error(to))?;
    match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        Some(_) | None => sync_dir(Path::new(".")),
    }
}

/// Checks every row of a database that nobody uses, moves everyone's epoch, and leaves it as one file.
fn end_all_sessions(path: &Path) -> Result<(), OpenError> {
    let connection = open_and_migrate(path)?;
    load::load(path)?;
    let end = |connection: &Connection| -> Result<(), Failed> {
        user_rows::check(connection)?;
        counter_rows::set_everyone(connection, counter_rows::everyone(connection)? + 1)?;
        merge_log(connection)?;
        Ok(())
    };
    end(&connection).map_err(database_error(path))
}

/// Takes the log into the file and does away with it, until the file is opened to write again.
fn merge_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))
}

/// Does away with the log of a database that is about to be replaced: SQLite would take it for the log of the new one.
fn remove_log_of(path: &Path) -> Result<(), OpenError> {
    if version_of(path).is_ok_and(|version| version > 0) {
        // Should it fail, the file is damaged, or the log is: it goes either way.
        let _ = open_to_write(path).and_then(|connection| merge_log(&connection));
    }
    remove_log_files(path)
}

fn remove_log_files(path: &Path) -> Result<(), OpenError> {
    for suffix in ["-wal", "-shm"] {
        let log = with_suffix(path, suffix);
        match fs::remove_file(&log) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error(&log)(error)),
        }
    }
    Ok(())
}
