//! Single numbers that must survive: users' epochs, everyone's, and how far the clock got.

use super::row_checksum::{Damaged, RowChecksum};
use crate::domain::{Timestamp, UserId};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::error::Error as StdError;

type Failed = Box<dyn StdError + Send + Sync>;

const EVERYONE: &str = "everyone_epoch";
const CLOCK: &str = "clock_high_water";

fn set(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    let sum = RowChecksum::of("marks").bytes(name.as_bytes()).int(value).sum();
    connection
        .prepare_cached("INSERT OR REPLACE INTO marks (name, value, sum) VALUES (?1, ?2, ?3)")?
        .execute(params![name, value, sum])?;
    Ok(())
}

fn get(connection: &Connection, name: &str) -> Result<Option<i64>, Failed> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let stored: Option<(i64, i64)> = connection
        .query_row("SELECT value, sum FROM marks WHERE name = ?1", [name], read)
        .optional()?;
    let Some((value, sum)) = stored else {
        return Ok(None);
    };
    RowChecksum::of("marks")
        .bytes(name.as_bytes())
        .int(value)
        .check("marks", sum)?;
    Ok(Some(value))
}

pub(super) fn set_everyone(connection: &Connection, count: u64) -> rusqlite::Result<()> {
    set(connection, EVERYONE, count.cast_signed())
}

/// Everyone's epoch; it is written at the making of the file, so that its absence is damage.
pub(super) fn everyone(connection: &Connection) -> Result<u64, Failed> {
    let count = get(connection, EVERYONE)?.ok_or(Damaged { table: "marks" })?;
    Ok(count.cast_unsigned())
}

pub(super) fn set_clock(connection: &Connection, reached: Timestamp) -> rusqlite::Result<()> {
    set(connection, CLOCK, reached.as_millis())
}

/// The latest instant that was written down.
pub(super) fn clock(connection: &Connection) -> Result<Option<Timestamp>, Failed> {
    Ok(get(connection, CLOCK)?.map(Timestamp::from_millis))
}

pub(super) fn set_epoch(connection: &Connection, user: UserId, count: u64) -> rusqlite::Result<()> {
    let count = count.cast_signed();
    let sum = RowChecksum::of("epochs").bytes(&user.to_bytes()).int(count).sum();
    connection
        .prepare_cached("INSERT OR REPLACE INTO epochs (user_id, count, sum) VALUES (?1, ?2, ?3)")?
        .execute(params![user.to_bytes(), count, sum])?;
    Ok(())
}

/// Reads every user's epoch that is not 0.
pub(super) fn scan_epochs(connection: &Connection, mut each: impl FnMut(UserId, u64)) -> Result<(), Failed> {
    const DAMAGED: Damaged = Damaged { table: "epochs" };
    let mut statement = connection.prepare("SELECT user_id, count, sum FROM epochs")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let user: &[u8] = row.get_ref(0)?.as_blob().map_err(|_| DAMAGED)?;
        let count: i64 = row.get(1)?;
        RowChecksum::of("epochs")
            .bytes(user)
            .int(count)
            .check("epochs", row.get(2)?)?;
        each(
            UserId::from_bytes(user.try_into().map_err(|_| DAMAGED)?),
            count.cast_unsigned(),
        );
    }
    Ok(())
}
