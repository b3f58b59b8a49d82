//! Connections that read, lent out one call at a time. Readers never wait for the writer, nor it for them.

use super::open::open_to_read;
use crate::store::{Operation, StoreError};
use parking_lot::Mutex;
use rusqlite::Connection;
use std::{error::Error as StdError, path::PathBuf};

/// Connections that are kept open when nobody uses them.
const KEPT: usize = 8;

#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn of(path: PathBuf) -> Self {
        Self {
            path,
            idle: Mutex::default(),
        }
    }

    /// Reads, on this thread: a few microseconds for a row, which is less than handing it to another would take.
    pub(super) fn read<T>(
        &self,
        operation: Operation,
        read: impl FnOnce(&Connection) -> Result<T, Box<dyn StdError + Send + Sync>>,
    ) -> Result<T, StoreError> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_to_read(&self.path).map_err(|error| StoreError::new(operation, error))?,
        };
        let answer = read(&connection).map_err(|error| StoreError::new(operation, error))?;
        // One that failed is not used again.
        let mut idle = self.idle.lock();
        if idle.len() < KEPT {
            idle.push(connection);
        }
        Ok(answer)
    }
}
