//! Empties SQLite's log into the file, beside the writer, so that no commit waits for it.

use super::{open::open_to_write, state::SharedState};
use rusqlite::Connection;
use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often the log is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Pages in the log that are worth emptying it: 16 MiB.
const WORTHWHILE_PAGES: i64 = 4096;

/// Pages that the writer can finish off itself in a few milliseconds.
const FEW_PAGES: i64 = 512;

/// Rounds in which the log is emptied, against a writer that goes on filling it.
const ROUNDS: usize = 4;

/// A thread that empties the log until this is dropped.
#[derive(Debug)]
pub(super) struct Checkpointer {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Pages in the log that are not in the file yet.
#[derive(Debug, Clone, Copy)]
struct Backlog(i64);

impl Checkpointer {
    pub(super) fn start(path: PathBuf, state: Arc<SharedState>) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let run = move || {
            let mut connection = None;
            while stopped.recv_timeout(LOOK_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                if state.is_broken() {
                    continue;
                }
                let result = match connection.take() {
                    Some(opened) => Ok(opened),
                    None => open_to_write(&path),
                };
                let looked = result.and_then(|opened| {
                    empty(&opened, &state)?;
                    Ok(opened)
                });
                match looked {
                    Ok(opened) => connection = Some(opened),
                    Err(error) => state.note_failure("emptying the log", &error),
                }
            }
        };
        let thread = thread::Builder::new().name("checkpoint".to_owned()).spawn(run)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Empties the log as far as it got, again while that is worthwhile. SQLite starts it anew only when not one page is left: the last
/// ones, which a busy writer keeps adding, are the writer's own to finish.
fn empty(connection: &Connection, state: &SharedState) -> rusqlite::Result<()> {
    if checkpoint(connection, "noop")?.0 < WORTHWHILE_PAGES {
        return Ok(());
    }
    for _ in 0..ROUNDS {
        checkpoint(connection, "passive")?;
        // What came meanwhile.
        if checkpoint(connection, "noop")?.0 <= FEW_PAGES {
            break;
        }
    }
    state.wants_checkpoint.store(true, Ordering::Release);
    Ok(())
}

/// Empties what is left of the log. For the writer, between two commits.
pub(super) fn finish(connection: &Connection) -> rusqlite::Result<()> {
    checkpoint(connection, "passive").map(drop)
}

/// Empties the log to the end and cuts it off. For the writer, when it is the last one.
pub(super) fn truncate(connection: &Connection) -> rusqlite::Result<()> {
    checkpoint(connection, "truncate").map(drop)
}

fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Backlog> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let (logged, in_file) = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], read)?;
    Ok(Backlog(logged.saturating_sub(in_file).max(0)))
}
