//! Pending changes of users as rows.

use super::row_checksum::{Damaged, RowChecksum};
use crate::{
    domain::{ChangeId, PasswordHash, Timestamp, UserId},
    store::{PendingChange, UserChange},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::error::Error as StdError;

const TABLE: &str = "pending_changes";

const COLUMNS: &str = "user_id, change_id, kind, effective_at, new_password_hash, sum";

const SET_PASSWORD: i64 = 1;
const DISABLE: i64 = 2;
const DELETE: i64 = 3;

type Failed = Box<dyn StdError + Send + Sync>;

/// A change as it is stored: its kind, its instant and its password hash.
fn columns(change: &UserChange) -> (i64, Option<i64>, Option<&str>) {
    match change {
        UserChange::SetPassword(hash) => (SET_PASSWORD, None, Some(hash.expose())),
        UserChange::Disable(at) => (DISABLE, Some(at.as_millis()), None),
        UserChange::Delete => (DELETE, None, None),
    }
}

fn sum(user: UserId, pending: &PendingChange) -> i64 {
    let (kind, effective_at, hash) = columns(&pending.change);
    RowChecksum::of(TABLE)
        .bytes(&user.to_bytes())
        .bytes(&pending.id.to_bytes())
        .int(kind)
        .optional_int(effective_at)
        .optional(hash.map(str::as_bytes))
        .sum()
}

fn decode(row: &Row<'_>) -> Result<(UserId, PendingChange), Failed> {
    const DAMAGED: Damaged = Damaged { table: TABLE };
    let bytes = |column| -> Result<[u8; 16], Failed> {
        let bytes: &[u8] = row.get_ref(column)?.as_blob().map_err(|_| DAMAGED)?;
        Ok(bytes.try_into().map_err(|_| DAMAGED)?)
    };
    let effective_at: Option<i64> = row.get(3)?;
    let hash: Option<String> = row.get(4)?;
    let change = match (row.get(2)?, effective_at, hash) {
        (SET_PASSWORD, None, Some(hash)) => UserChange::SetPassword(PasswordHash::from_stored(hash)),
        (DISABLE, Some(at), None) => UserChange::Disable(Timestamp::from_millis(at)),
        (DELETE, None, None) => UserChange::Delete,
        _ => return Err(DAMAGED.into()),
    };
    let user = UserId::from_bytes(bytes(0)?);
    let id = ChangeId::from_bytes(bytes(1)?);
    let pending = PendingChange { id, change };
    (sum(user, &pending) == row.get::<_, i64>(5)?)
        .then_some((user, pending))
        .ok_or(DAMAGED.into())
}

/// What is pending for this user.
///
/// # Errors
/// Also if the row is damaged; so for all that read.
pub(super) fn of_user(connection: &Connection, user: UserId) -> Result<Option<PendingChange>, Failed> {
    let sql = format!("SELECT {COLUMNS} FROM pending_changes WHERE user_id = ?1");
    let found = connection
        .prepare_cached(&sql)?
        .query_row([user.to_bytes()], |row| Ok(decode(row)))
        .optional()?
        .transpose()?;
    Ok(found.map(|(_, pending)| pending))
}

/// Up to `limit` of those of all users.
pub(super) fn list(connection: &Connection, limit: u32) -> Result<Vec<(UserId, PendingChange)>, Failed> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM pending_changes LIMIT ?1"))?;
    let mut rows = statement.query([limit])?;
    let mut pending = Vec::new();
    while let Some(row) = rows.next()? {
        pending.push(decode(row)?);
    }
    Ok(pending)
}

/// Records what is pending for a user for whom nothing is.
pub(super) fn insert(connection: &Connection, user: UserId, pending: &PendingChange) -> rusqlite::Result<()> {
    let (kind, effective_at, hash) = columns(&pending.change);
    connection
        .prepare_cached(
            "INSERT INTO pending_changes (user_id, change_id, kind, effective_at, new_password_hash, sum) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            user.to_bytes(),
            pending.id.to_bytes(),
            kind,
            effective_at,
            hash,
            sum(user, pending),
        ])?;
    Ok(())
}

/// Forgets what is pending for this user.
pub(super) fn delete(connection: &Connection, user: UserId) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM pending_changes WHERE user_id = ?1")?
        .execute([user.to_bytes()])?;
    Ok(())
}
