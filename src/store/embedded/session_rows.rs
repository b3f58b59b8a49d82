//! Sessions as rows.

use super::row_checksum::{Damaged, RowChecksum};
use crate::{
    domain::{
        Attributes, AuthMethod, Client, LiveSession, Session, SessionId, SessionSpan, Timestamp, TokenDigest,
        UserId,
    },
    store::session_table::ROWS_END,
};
use rusqlite::{Connection, OptionalExtension as _, Row, params, types::ValueRef};
use std::{collections::BTreeMap, error::Error as StdError};

const TABLE: &str = "sessions";

/// What of a row is kept in memory, and the epoch that decides whether it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SessionRow {
    pub(super) row: u64,
    pub(super) digest: TokenDigest,
    pub(super) live: LiveSession,
    /// The epoch that the session was created in, or that it was spared by.
    pub(super) epoch: u64,
    /// The token before, and until when it proves the session.
    pub(super) old_token: Option<(TokenDigest, Timestamp)>,
}

/// The columns that are read only when a whole session is wanted.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Details {
    client: Client,
    attributes: Attributes,
}

impl Details {
    pub(super) fn of(session: Session) -> Self {
        Self {
            client: session.client,
            attributes: session.attributes,
        }
    }

    pub(super) fn with(self, live: LiveSession) -> Session {
        Session {
            live,
            client: self.client,
            attributes: self.attributes,
        }
    }
}

const INDEX_COLUMNS: &str = "row, digest, id, user_id, epoch, last_seen_at, authenticated_at, auth_method, \
                             lifetime_secs, idle_timeout_secs, old_digest, old_until, sum";

impl SessionRow {
    fn auth_method(&self) -> i64 {
        match self.live.auth_method {
            AuthMethod::Password => 0,
            AuthMethod::Caller => 1,
        }
    }

    /// `last_seen_at` is a term of its own, so that it can be replaced without knowing the rest.
    fn sum(&self) -> i64 {
        let live = &self.live;
        let (old_digest, old_until) = self.old_token.unzip();
        let checksum = RowChecksum::of(TABLE)
            .word(self.row)
            .bytes(self.digest.as_bytes())
            .bytes(&live.id.to_bytes())
            .bytes(&live.user_id.to_bytes())
            .word(self.epoch)
            .int(live.authenticated_at.as_millis())
            .int(self.auth_method())
            .word(u64::from(live.span.lifetime_secs()))
            .word(u64::from(live.span.idle_timeout_secs()))
            .optional(old_digest.as_ref().map(|digest| digest.as_bytes().as_slice()))
            .optional_int(old_until.map(Timestamp::as_millis));
        checksum.sum() ^ live.last_seen_at.as_millis()
    }

    fn decode(row: &Row<'_>) -> Result<Self, Box<dyn StdError + Send + Sync>> {
        const DAMAGED: Damaged = Damaged { table: TABLE };
        let old_digest = optional_bytes(row.get_ref(10)?)?.map(TokenDigest::from_bytes);
        let old_until = row.get::<_, Option<i64>>(11)?.map(Timestamp::from_millis);
        let decoded = Self {
            row: u64::try_from(row.get::<_, i64>(0)?).map_err(|_| DAMAGED)?,
            digest: TokenDigest::from_bytes(bytes(row.get_ref(1)?)?),
            live: LiveSession {
                id: SessionId::from_bytes(bytes(row.get_ref(2)?)?),
                user_id: UserId::from_bytes(bytes(row.get_ref(3)?)?),
                last_seen_at: Timestamp::from_millis(row.get(5)?),
                authenticated_at: Timestamp::from_millis(row.get(6)?),
                auth_method: match row.get(7)? {
                    0 => AuthMethod::Password,
                    1 => AuthMethod::Caller,
                    _ => return Err(DAMAGED.into()),
                },
                span: SessionSpan::from_secs(
                    u32::try_from(row.get::<_, i64>(8)?).map_err(|_| DAMAGED)?,
                    u32::try_from(row.get::<_, i64>(9)?).map_err(|_| DAMAGED)?,
                ),
                grace_ends_at: None,
            },
            epoch: u64::try_from(row.get::<_, i64>(4)?).map_err(|_| DAMAGED)?,
            old_token: old_digest.zip(old_until),
        };
        let is_whole = decoded.sum() == row.get::<_, i64>(12)?
            && (1..ROWS_END).contains(&decoded.row)
            && old_digest.is_some() == old_until.is_some();
        is_whole.then_some(decoded).ok_or(DAMAGED.into())
    }
}

fn bytes<const N: usize>(value: ValueRef<'_>) -> Result<[u8; N], Damaged> {
    value
        .as_blob()
        .ok()
        .and_then(|blob| blob.try_into().ok())
        .ok_or(Damaged { table: TABLE })
}

fn optional_bytes<const N: usize>(value: ValueRef<'_>) -> Result<Option<[u8; N]>, Damaged> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Text(_) | ValueRef::Blob(_) => {
            bytes(value).map(Some)
        }
    }
}

/// A number as SQLite keeps it. Row numbers and epochs stay far below the sign.
fn int(number: u64) -> i64 {
    number.cast_signed()
}

pub(super) fn insert(connection: &Connection, row: &SessionRow, details: &Details) -> rusqlite::Result<()> {
    let live = &row.live;
    let (old_digest, old_until) = row.old_token.unzip();
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let client = &details.client;
    let attributes = details.attributes.entries();
    let attributes = (!attributes.is_empty()).then(|| serde_json::json!(attributes).to_string());
    let details_sum = (*details != Details::default()).then(|| details_sum(row.row, details));
    connection
        .prepare_cached(
            "INSERT INTO sessions (row, digest, id, user_id, epoch, last_seen_at, authenticated_at, auth_method, \
             lifetime_secs, idle_timeout_secs, old_digest, old_until, sum, client_ip, user_agent, label, attributes, \
             details_sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        )?
        .execute(params![
            int(row.row),
            row.digest.as_bytes(),
            live.id.to_bytes(),
            live.user_id.to_bytes(),
            int(row.epoch),
            live.last_seen_at.as_millis(),
            live.authenticated_at.as_millis(),
            row.auth_method(),
            live.span.lifetime_secs(),
            live.span.idle_timeout_secs(),
            old_digest.map(|digest| *digest.as_bytes()),
            old_until.map(Timestamp::as_millis),
            row.sum(),
            text(client.ip()),
            text(client.user_agent()),
            text(client.label()),
            attributes,
            details_sum,
        ])?;
    Ok(())
}

/// Changes what of a row is kept in memory, by `change`.
///
/// # Errors
/// Also if there is no such row, or if it is damaged.
pub(super) fn change(
    connection: &Connection,
    row: u64,
    change: impl FnOnce(&mut SessionRow),
) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let sql = format!("SELECT {INDEX_COLUMNS} FROM sessions WHERE row = ?1");
    let mut changed = connection
        .prepare_cached(&sql)?
        .query_row([int(row)], |row| Ok(SessionRow::decode(row)))??;
    change(&mut changed);
    let (old_digest, old_until) = changed.old_token.unzip();
    connection
        .prepare_cached(
            "UPDATE sessions SET digest = ?2, epoch = ?3, last_seen_at = ?4, authenticated_at = ?5, old_digest = ?6, \
             old_until = ?7, sum = ?8 WHERE row = ?1",
        )?
        .execute(params![
            int(row),
            changed.digest.as_bytes(),
            int(changed.epoch),
            changed.live.last_seen_at.as_millis(),
            changed.live.authenticated_at.as_millis(),
            old_digest.map(|digest| *digest.as_bytes()),
            old_until.map(Timestamp::as_millis),
            changed.sum(),
        ])?;
    Ok(())
}

/// Notes when a session was last seen. A row that is gone stays gone.
pub(super) fn set_last_seen(connection: &Connection, row: u64, at: Timestamp) -> rusqlite::Result<()> {
    // SQLite has no exclusive or; this is one, of the old instant, the new one and the sum.
    connection
        .prepare_cached(
            "UPDATE sessions SET last_seen_at = ?2, \
             sum = (sum | ((last_seen_at | ?2) - (last_seen_at & ?2))) \
                 - (sum & ((last_seen_at | ?2) - (last_seen_at & ?2))) \
             WHERE row = ?1",
        )?
        .execute(params![int(row), at.as_millis()])?;
    Ok(())
}

pub(super) fn delete(connection: &Connection, row: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM sessions WHERE row = ?1")?
        .execute([int(row)])?;
    Ok(())
}

/// Deletes up to `limit` rows from a range, the first ones; says how many.
pub(super) fn delete_range(
    connection: &Connection,
    rows: &std::ops::RangeInclusive<u64>,
    limit: usize,
) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM sessions WHERE row IN \
             (SELECT row FROM sessions WHERE row BETWEEN ?1 AND ?2 ORDER BY row LIMIT ?3)",
        )?
        .execute(params![int(*rows.start()), int(*rows.end()), int(limit as u64)])
}

/// Reads every row in order, without the details.
///
/// # Errors
/// Those of `each`, and if a row is damaged.
pub(super) fn scan(
    connection: &Connection,
    mut each: impl FnMut(SessionRow) -> Result<(), Box<dyn StdError + Send + Sync>>,
) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let mut statement = connection.prepare(&format!("SELECT {INDEX_COLUMNS} FROM sessions ORDER BY row"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        each(SessionRow::decode(row)?)?;
    }
    Ok(())
}

/// What of a row is not kept in memory; `None` if there is no such row.
///
/// # Errors
/// Also if the row is damaged.
pub(super) fn details(
    connection: &Connection,
    row: u64,
) -> Result<Option<Details>, Box<dyn StdError + Send + Sync>> {
    const DAMAGED: Damaged = Damaged { table: TABLE };
    type Columns = [Option<String>; 4];
    let mut statement = connection.prepare_cached(
        "SELECT client_ip, user_agent, label, attributes, details_sum FROM sessions WHERE row = ?1",
    )?;
    let read = |row: &Row<'_>| -> rusqlite::Result<(Columns, Option<i64>)> {
        Ok(([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?], row.get(4)?))
    };
    let Some(([ip, user_agent, label, attributes], sum)) =
        statement.query_row([int(row)], read).optional()?
    else {
        return Ok(None);
    };
    let entries: BTreeMap<String, String> = match attributes {
        None => BTreeMap::new(),
        Some(json) => {
            let serde_json::Value::Object(object) = serde_json::from_str(&json)? else {
                return Err(DAMAGED.into());
            };
            let text = |value| match value {
                serde_json::Value::String(text) => Ok(text),
                serde_json::Value::Null
                | serde_json::Value::Bool(_)
                | serde_json::Value::Number(_)
                | serde_json::Value::Array(_)
                | serde_json::Value::Object(_) => Err(DAMAGED),
            };
            object
                .into_iter()
                .map(|(key, value)| Ok((key, text(value)?)))
                .collect::<Result<_, Damaged>>()?
        }
    };
    let details = Details {
        client: Client::from_stored(
            ip.unwrap_or_default(),
            user_agent.unwrap_or_default(),
            label.unwrap_or_default(),
        ),
        attributes: Attributes::from_stored(entries),
    };
    let expected = (details != Details::default()).then(|| details_sum(row, &details));
    (expected == sum).then_some(Some(details)).ok_or(DAMAGED.into())
}

fn details_sum(row: u64, details: &Details) -> i64 {
    let client = &details.client;
    let checksum = RowChecksum::of(TABLE)
        .word(row)
        .bytes(client.ip().as_bytes())
        .bytes(client.user_agent().as_bytes())
        .bytes(client.label().as_bytes());
    let entries = details.attributes.entries();
    entries
        .iter()
        .fold(checksum, |checksum, (key, value)| {
            checksum.bytes(key.as_bytes()).bytes(value.as_bytes())
        })
        .sum()
}
