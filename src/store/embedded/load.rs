//! From the file into memory, when the store opens.

use super::{
    counter_rows,
    open::{OpenError, check_structure, database_error, open_to_read},
    session_rows::{self, SessionRow},
};
use crate::{domain::Timestamp, store::session_table::TableWriter};
use rusqlite::Connection;
use std::{error::Error as StdError, ops::RangeInclusive, path::Path, sync::mpsc, thread};

type Failed = Box<dyn StdError + Send + Sync>;

/// Rows that go from the reading thread to the one that indexes them together.
const ROWS_AT_ONCE: usize = 512;

/// Rows that may be read before they are indexed.
const ROWS_AHEAD: usize = 8192;

/// What the file held.
pub(super) struct Loaded {
    pub(super) table: TableWriter,
    /// Rows whose sessions had ended, for the sweep. A range may span rows that are gone, but none that lives.
    pub(super) ended_rows: Vec<RangeInclusive<u64>>,
    /// The latest instant that any former process is known to have reached.
    pub(super) clock: Option<Timestamp>,
}

/// Reads everything once, in order, while another thread looks at the structure of the file.
pub(super) fn load(path: &Path) -> Result<Loaded, OpenError> {
    let open = || open_to_read(path).map_err(Failed::from);
    let (rows, read_rows) = mpsc::sync_channel(ROWS_AHEAD / ROWS_AT_ONCE);
    thread::scope(|scope| {
        let structure = scope.spawn(move || check_structure(&open()?));
        let scan = scope.spawn(move || scan(&open()?, &rows));
        let loaded = open().and_then(|connection| fill(&connection, &read_rows));
        // If the filling failed, this lets the scan end.
        drop(read_rows);
        let joined = |thread: thread::ScopedJoinHandle<'_, Result<(), Failed>>| {
            thread
                .join()
                .unwrap_or_else(|_| Err("a thread that read the file failed".into()))
        };
        let (scanned, structure) = (joined(scan), joined(structure));
        // A filling that failed has cut the scan off; one that was cut off by the scan has not failed.
        loaded
            .and_then(|loaded| scanned.and(structure).map(|()| loaded))
            .map_err(database_error(path))
    })
}

fn scan(connection: &Connection, rows: &mpsc::SyncSender<Vec<SessionRow>>) -> Result<(), Failed> {
    let mut batch = Vec::with_capacity(ROWS_AT_ONCE);
    let mut is_wanted = true;
    session_rows::scan(connection, |row| {
        batch.push(row);
        if batch.len() == ROWS_AT_ONCE {
            let full = std::mem::replace(&mut batch, Vec::with_capacity(ROWS_AT_ONCE));
            is_wanted = rows.send(full).is_ok();
        }
        match is_wanted {
            true => Ok(()),
            false => Err("the rows are not wanted".into()),
        }
    })?;
    rows.send(batch).map_err(|_| "the rows are not wanted".into())
}

fn fill(connection: &Connection, rows: &mpsc::Receiver<Vec<SessionRow>>) -> Result<Loaded, Failed> {
    let mut table = TableWriter::new();
    table.load_epoch(None, counter_rows::everyone(connection)?);
    counter_rows::scan_epochs(connection, |user, count| table.load_epoch(Some(user), count))?;
    let mut clock = counter_rows::clock(connection)?;
    let mut ended_rows: Vec<RangeInclusive<u64>> = Vec::new();
    let mut has_ended_before = false;
    for row in rows.iter().flatten() {
        let SessionRow {
            row,
            digest,
            live,
            epoch,
            old_token,
        } = row;
        clock = clock.max(Some(live.created_at().max(live.last_seen_at)));
        let has_ended = epoch < table.epoch(live.user_id);
        match ended_rows.last_mut() {
            Some(range) if has_ended && has_ended_before => *range = *range.start()..=row,
            Some(_) | None if has_ended => ended_rows.push(row..=row),
            Some(_) | None => table.load(&digest, &live, row, old_token)?,
        }
        table.load_last_row(row);
        has_ended_before = has_ended;
    }
    Ok(Loaded {
        table,
        ended_rows,
        clock,
    })
}
