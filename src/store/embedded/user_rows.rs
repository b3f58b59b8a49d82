//! Users as rows.

use super::{
    pending_rows,
    row_checksum::{Damaged, RowChecksum},
};
use crate::{
    domain::{Email, EmailKey, Names, PasswordHash, Roles, Timestamp, User, UserId},
    store::UserRecord,
};
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};
use std::error::Error as StdError;

const TABLE: &str = "users";

const COLUMNS: &str = "id, email, email_key, first_name, last_name, roles, created_at, updated_at, disabled_at, \
                       version, password_hash, sum";

type Failed = Box<dyn StdError + Send + Sync>;

fn sum(record: &UserRecord) -> i64 {
    let user = &record.user;
    let checksum = RowChecksum::of(TABLE)
        .bytes(&user.id.to_bytes())
        .bytes(user.email.as_str().as_bytes())
        .bytes(user.email.key().as_str().as_bytes())
        .bytes(user.names.first().as_bytes())
        .bytes(user.names.last().as_bytes())
        .int(user.created_at.as_millis())
        .int(user.updated_at.as_millis())
        .optional_int(user.disabled_at.map(Timestamp::as_millis))
        .word(user.version)
        .optional(record.password_hash.as_ref().map(|hash| hash.expose().as_bytes()));
    let roles = user.roles.as_slice().iter();
    roles
        .fold(checksum, |checksum, role| checksum.bytes(role.as_bytes()))
        .sum()
}

fn decode(row: &Row<'_>) -> Result<UserRecord, Failed> {
    const DAMAGED: Damaged = Damaged { table: TABLE };
    let id: &[u8] = row.get_ref(0)?.as_blob().map_err(|_| DAMAGED)?;
    let roles: serde_json::Value = serde_json::from_str(&row.get::<_, String>(5)?)?;
    let roles: Option<Vec<String>> = roles.as_array().and_then(|roles| {
        roles
            .iter()
            .map(|role| role.as_str().map(str::to_owned))
            .collect()
    });
    let record = UserRecord {
        user: User {
            id: UserId::from_bytes(id.try_into().map_err(|_| DAMAGED)?),
            email: Email::from_stored(row.get(1)?, row.get(2)?),
            names: Names::from_stored(row.get(3)?, row.get(4)?),
            roles: Roles::from_stored(roles.ok_or(DAMAGED)?),
            created_at: Timestamp::from_millis(row.get(6)?),
            updated_at: Timestamp::from_millis(row.get(7)?),
            disabled_at: row.get::<_, Option<i64>>(8)?.map(Timestamp::from_millis),
            version: u64::try_from(row.get::<_, i64>(9)?).map_err(|_| DAMAGED)?,
        },
        password_hash: row.get::<_, Option<String>>(10)?.map(PasswordHash::from_stored),
        pending: None,
    };
    (sum(&record) == row.get::<_, i64>(11)?)
        .then_some(record)
        .ok_or(DAMAGED.into())
}

fn find(connection: &Connection, condition: &str, params: impl Params) -> Result<Option<UserRecord>, Failed> {
    let sql = format!("SELECT {COLUMNS} FROM users WHERE {condition}");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement
        .query_row(params, |row| Ok(decode(row)))
        .optional()?
        .transpose()?;
    match found {
        Some(record) => Ok(Some(UserRecord {
            pending: pending_rows::of_user(connection, record.user.id)?,
            ..record
        })),
        None => Ok(None),
    }
}

/// # Errors
/// Also if the row is damaged; so for all that read.
pub(super) fn by_id(connection: &Connection, id: UserId) -> Result<Option<UserRecord>, Failed> {
    find(connection, "id = ?1", [id.to_bytes()])
}

pub(super) fn by_email(connection: &Connection, key: &EmailKey) -> Result<Option<UserRecord>, Failed> {
    find(connection, "email_key = ?1", [key.as_str()])
}

pub(super) fn list(connection: &Connection, after: Option<UserId>, limit: u32) -> Result<Vec<User>, Failed> {
    // Less than any UUID of version 7.
    let after = after.map_or([0; 16], UserId::to_bytes);
    let sql = format!("SELECT {COLUMNS} FROM users WHERE id > ?1 ORDER BY id LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![after, limit])?;
    let mut users = Vec::new();
    while let Some(row) = rows.next()? {
        users.push(decode(row)?.user);
    }
    Ok(users)
}

/// Reads every row.
pub(super) fn check(connection: &Connection) -> Result<(), Failed> {
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM users"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        decode(row)?;
    }
    pending_rows::list(connection, u32::MAX).map(drop)
}

pub(super) fn count(connection: &Connection) -> Result<u64, Failed> {
    let count: i64 = connection.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?;
    Ok(u64::try_from(count)?)
}

/// Whether another user than `id` has this email.
pub(super) fn is_email_taken(connection: &Connection, key: &EmailKey, id: UserId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM users WHERE email_key = ?1 AND id <> ?2")?
        .exists(params![key.as_str(), id.to_bytes()])
}

/// Stores a user, in the place of the one with this id if there is one; what is pending for them stays as it is.
pub(super) fn put(connection: &Connection, record: &UserRecord) -> rusqlite::Result<()> {
    let user = &record.user;
    connection
        .prepare_cached(
            "INSERT INTO users (id, email, email_key, first_name, last_name, roles, created_at, updated_at, \
             disabled_at, version, password_hash, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
             ON CONFLICT (id) DO UPDATE SET email = ?2, email_key = ?3, first_name = ?4, last_name = ?5, roles = ?6, \
             created_at = ?7, updated_at = ?8, disabled_at = ?9, version = ?10, password_hash = ?11, sum = ?12",
        )?
        .execute(params![
            user.id.to_bytes(),
            user.email.as_str(),
            user.email.key().as_str(),
            user.names.first(),
            user.names.last(),
            serde_json::json!(user.roles.as_slice()).to_string(),
            user.created_at.as_millis(),
            user.updated_at.as_millis(),
            user.disabled_at.map(Timestamp::as_millis),
            user.version.cast_signed(),
            record.password_hash.as_ref().map(PasswordHash::expose),
            sum(record),
        ])?;
    Ok(())
}

/// Deletes a user and what is pending for them. Says whether there was such a user.
pub(super) fn delete(connection: &Connection, id: UserId) -> rusqlite::Result<bool> {
    pending_rows::delete(connection, id)?;
    let deleted = connection
        .prepare_cached("DELETE FROM users WHERE id = ?1")?
        .execute([id.to_bytes()])?;
    Ok(deleted == 1)
}
