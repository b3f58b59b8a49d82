//! The data directory: one process at a time, a schema that only moves forward.

use super::counter_rows;
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};
use std::{
    error::Error as StdError,
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// Every step of the schema, the first one first. A step that was released never changes.
const MIGRATIONS: [&str; 2] = [
    include_str!("migrations/0001_users_and_sessions.sql"),
    include_str!("migrations/0002_pending_changes.sql"),
];

/// The schema that this program writes.
const KNOWN_VERSION: u32 = MIGRATIONS.len() as u32;

/// Marks a SQLite file as ours: "sesd".
const APPLICATION_ID: i32 = 0x7365_7364;

/// How long one of our own connections waits for another.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a data directory cannot be opened, copied or put back.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory open.
    #[error("{} is in use by another process", data_dir.display())]
    Locked {
        /// The directory.
        data_dir: PathBuf,
    },
    /// A newer release wrote the file. It was not touched.
    #[error(
        "{} was written by a newer release (schema {found}, this one knows up to {known})",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's schema.
        found: u32,
        /// The newest schema that this release knows.
        known: u32,
    },
    /// The file is damaged, or not one of ours.
    #[error("{} is damaged or is no database of sessiond", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// There is data already where a backup should go, or be put back to.
    #[error("{} exists already", path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// The disk, or the permissions, do not allow it.
    #[error("{} cannot be used", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was refused.
        source: io::Error,
    },
}

/// Says of an I/O error which path it is about.
pub(super) fn io_error(path: &Path) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Tells damage from a disk that does not answer.
pub(super) fn database_error(path: &Path) -> impl Fn(Box<dyn StdError + Send + Sync>) -> OpenError {
    move |source| match source.downcast::<rusqlite::Error>() {
        Ok(error) if is_about_the_machine(&error) => OpenError::Io {
            path: path.to_owned(),
            source: io::Error::other(error),
        },
        Ok(error) => OpenError::Corrupt {
            path: path.to_owned(),
            source: error,
        },
        Err(source) => OpenError::Corrupt {
            path: path.to_owned(),
            source,
        },
    }
}

fn is_about_the_machine(error: &rusqlite::Error) -> bool {
    const MACHINE: [ErrorCode; 8] = [
        ErrorCode::CannotOpen,
        ErrorCode::DatabaseBusy,
        ErrorCode::DatabaseLocked,
        ErrorCode::DiskFull,
        ErrorCode::OutOfMemory,
        ErrorCode::PermissionDenied,
        ErrorCode::ReadOnly,
        ErrorCode::SystemIoFailure,
    ];
    error
        .sqlite_error_code()
        .is_some_and(|code| MACHINE.contains(&code))
}

/// A data directory that this process owns. The lock is the operating system's: it ends with the process, however that ends.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if need be, and locks it.
    ///
    /// # Errors
    /// [`OpenError::Locked`] at once if another process has it.
    pub(super) fn lock(path: &Path) -> Result<Self, OpenError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(io_error(path))?;
        let lock_path = path.join("sessiond.lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io_error(&lock_path))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked {
                data_dir: path.to_owned(),
            }),
            Err(error) => Err(io_error(&lock_path)(error.into())),
        }
    }

    /// Where the database is, or goes.
    pub(super) fn database(&self) -> PathBuf {
        database_in(&self.path)
    }

    /// Makes sure that files which were made or renamed in the directory stay so.
    pub(super) fn sync(&self) -> Result<(), OpenError> {
        sync_dir(&self.path)
    }

    /// Opens the database, made or brought up to this release's schema if need be.
    pub(super) fn open_database(&self) -> Result<Connection, OpenError> {
        let path = self.database();
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match created {
            Ok(_) => self.sync()?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error(&path)(error)),
        }
        version_of(&path)?;
        open_and_migrate(&path)
    }
}

/// Where a data directory has its database.
pub(super) fn database_in(data_dir: &Path) -> PathBuf {
    data_dir.join("sessiond.db")
}

/// Makes sure that the names in a directory are on disk.
pub(super) fn sync_dir(path: &Path) -> Result<(), OpenError> {
    let synced = File::open(path).and_then(|dir| dir.sync_all());
    synced.map_err(io_error(path))
}

/// The schema of a file, which is not touched; 0 for an empty one.
///
/// # Errors
/// [`OpenError::Newer`], [`OpenError::Corrupt`], [`OpenError::Io`].
pub(super) fn version_of(path: &Path) -> Result<u32, OpenError> {
    let look = || -> rusqlite::Result<(i32, i64, i64)> {
        let connection = Connection::open_with_flags(path, read_only())?;
        configure(&connection)?;
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get(0));
        let application = number("PRAGMA application_id")?;
        let tables = number("SELECT count(*) FROM sqlite_schema")?;
        Ok((
            i32::try_from(application).unwrap_or(0),
            number("PRAGMA user_version")?,
            tables,
        ))
    };
    let (application, version, tables) = look().map_err(|error| database_error(path)(error.into()))?;
    let found = u32::try_from(version).unwrap_or(u32::MAX);
    match application {
        0 if version == 0 && tables == 0 => Ok(0),
        APPLICATION_ID if found > KNOWN_VERSION => Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known: KNOWN_VERSION,
        }),
        APPLICATION_ID => Ok(found),
        _ => Err(database_error(path)("another program wrote it".into())),
    }
}

fn read_only() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Whether the log may be emptied is the writer's to decide: not after a write that failed.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(())
}

/// A connection that writes, to a file that was looked at.
pub(super) fn open_to_write(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    configure(&connection)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    // The log is emptied beside the writer, see checkpoint.rs.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // What was deleted is overwritten, so that no damage to a page can bring it back.
    connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, read_only())?;
    configure(&connection)?;
    Ok(connection)
}

/// Opens a file that was looked at, and brings its schema forward. Each step is whole or has not happened.
pub(super) fn open_and_migrate(path: &Path) -> Result<Connection, OpenError> {
    let open = || -> rusqlite::Result<Connection> {
        let mut connection = open_to_write(path)?;
        let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        for (step, sql) in (1..).zip(MIGRATIONS).skip(version as usize) {
            let transaction = connection.transaction()?;
            transaction.execute_batch(sql)?;
            if step == 1 {
                counter_rows::set_everyone(&transaction, 0)?;
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            }
            transaction.pragma_update(None, "user_version", step)?;
            transaction.commit()?;
        }
        Ok(connection)
    };
    open().map_err(|error| database_error(path)(error.into()))
}

/// Whether the file is whole as SQLite sees it: pages, trees, types, and the index of users. What rows hold, their sums tell.
pub(super) fn check_structure(connection: &Connection) -> Result<(), Box<dyn StdError + Send + Sync>> {
    for check in ["quick_check(1)", "integrity_check(users)"] {
        let found: String = connection.query_row(&format!("PRAGMA {check}"), [], |row| row.get(0))?;
        if found != "ok" {
            return Err(found.into());
        }
    }
    Ok(())
}
