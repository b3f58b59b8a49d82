//! Rows as the server gives them, and what they stand for.

use super::server_error::ServerError;
use crate::{
    domain::{
        Attributes, AuthMethod, ChangeId, Client, Email, LiveSession, Names, PasswordHash, Revocation, Roles,
        Session, SessionId, SessionSpan, Timestamp, TokenDigest, User, UserId,
    },
    store::{PendingChange, UserChange, UserRecord},
};
use tokio_postgres::Row;
use uuid::Uuid;

const PASSWORD: i16 = 1;
const CALLER: i16 = 2;

const SET_PASSWORD: i16 = 1;
const DISABLE: i16 = 2;
const DELETE: i16 = 3;

/// How an authentication method is stored.
pub(super) fn auth_method_code(method: AuthMethod) -> i16 {
    match method {
        AuthMethod::Password => PASSWORD,
        AuthMethod::Caller => CALLER,
    }
}

fn instant(row: &Row, column: usize) -> Result<Timestamp, ServerError> {
    Ok(Timestamp::from_millis(row.try_get(column)?))
}

fn user_id(row: &Row, column: usize) -> Result<UserId, ServerError> {
    Ok(UserId::from_bytes(row.try_get::<_, Uuid>(column)?.into_bytes()))
}

fn session_id(row: &Row, column: usize) -> Result<SessionId, ServerError> {
    Ok(SessionId::from_bytes(
        row.try_get::<_, Uuid>(column)?.into_bytes(),
    ))
}

/// A number that is never negative.
pub(super) fn number(row: &Row, column: usize) -> Result<u64, ServerError> {
    u64::try_from(row.try_get::<_, i64>(column)?).map_err(|_| ServerError::Unreadable("number"))
}

fn seconds(row: &Row, column: usize) -> Result<u32, ServerError> {
    u32::try_from(row.try_get::<_, i64>(column)?).map_err(|_| ServerError::Unreadable("time-out"))
}

/// What a session's token is known by.
pub(super) fn digest(row: &Row) -> Result<TokenDigest, ServerError> {
    let bytes: &[u8] = row.try_get(0)?;
    let digest = bytes.try_into().map_err(|_| ServerError::Unreadable("digest"))?;
    Ok(TokenDigest::from_bytes(digest))
}

/// What a check needs of a session, from the first columns of its row.
pub(super) fn live(row: &Row) -> Result<LiveSession, ServerError> {
    Ok(LiveSession {
        id: session_id(row, 0)?,
        user_id: user_id(row, 1)?,
        last_seen_at: instant(row, 2)?,
        authenticated_at: instant(row, 3)?,
        auth_method: match row.try_get::<_, i16>(4)? {
            PASSWORD => AuthMethod::Password,
            CALLER => AuthMethod::Caller,
            _ => return Err(ServerError::Unreadable("authentication method")),
        },
        span: SessionSpan::from_secs(seconds(row, 5)?, seconds(row, 6)?),
        grace_ends_at: None,
    })
}

/// As [`live`], with the number of the question that it answers behind those columns.
pub(super) fn live_and_number(row: &Row) -> Result<(usize, LiveSession), ServerError> {
    let number = usize::try_from(number(row, 7)?).map_err(|_| ServerError::Unreadable("number"))?;
    Ok((number, live(row)?))
}

/// As [`live`], with the end of the old token's grace behind those columns.
pub(super) fn live_by_old_token(row: &Row) -> Result<LiveSession, ServerError> {
    Ok(LiveSession {
        grace_ends_at: Some(instant(row, 7)?),
        ..live(row)?
    })
}

/// As [`session`], with the end of the token's grace behind those columns, if it is an old one.
pub(super) fn session_by_any_token(row: &Row) -> Result<Session, ServerError> {
    let mut found = session(row)?;
    found.live.grace_ends_at = row.try_get::<_, Option<i64>>(11)?.map(Timestamp::from_millis);
    Ok(found)
}

/// A whole session.
pub(super) fn session(row: &Row) -> Result<Session, ServerError> {
    let attributes = serde_json::from_str(row.try_get(10)?);
    Ok(Session {
        live: live(row)?,
        client: Client::from_stored(row.try_get(7)?, row.try_get(8)?, row.try_get(9)?),
        attributes: Attributes::from_stored(attributes.map_err(|_| ServerError::Unreadable("attribute"))?),
    })
}

/// The session that ended, and whose it was.
pub(super) fn ended(row: &Row) -> Result<(SessionId, UserId), ServerError> {
    Ok((session_id(row, 0)?, user_id(row, 1)?))
}

/// A user without the password hash.
pub(super) fn user(row: &Row) -> Result<User, ServerError> {
    Ok(User {
        id: user_id(row, 0)?,
        email: Email::from_stored(row.try_get(1)?, row.try_get(2)?),
        names: Names::from_stored(row.try_get(3)?, row.try_get(4)?),
        roles: Roles::from_stored(row.try_get(5)?),
        created_at: instant(row, 6)?,
        updated_at: instant(row, 7)?,
        disabled_at: row.try_get::<_, Option<i64>>(8)?.map(Timestamp::from_millis),
        version: number(row, 9)?,
    })
}

/// A user with the password hash and what is pending.
pub(super) fn user_record(row: &Row) -> Result<UserRecord, ServerError> {
    Ok(UserRecord {
        user: user(row)?,
        password_hash: row
            .try_get::<_, Option<String>>(10)?
            .map(PasswordHash::from_stored),
        pending: match row.try_get::<_, Option<Uuid>>(11)? {
            Some(_) => Some(pending_change(row, 11)?),
            None => None,
        },
    })
}

/// A pending change, from this column of its row on.
fn pending_change(row: &Row, first: usize) -> Result<PendingChange, ServerError> {
    let id = row.try_get::<_, Uuid>(first)?.into_bytes();
    let change = match row.try_get::<_, i16>(first + 1)? {
        SET_PASSWORD => UserChange::SetPassword(PasswordHash::from_stored(row.try_get(first + 3)?)),
        DISABLE => UserChange::Disable(instant(row, first + 2)?),
        DELETE => UserChange::Delete,
        _ => return Err(ServerError::Unreadable("pending change")),
    };
    Ok(PendingChange {
        id: ChangeId::from_bytes(id),
        change,
    })
}

/// A pending change with its user.
pub(super) fn users_pending_change(row: &Row) -> Result<(UserId, PendingChange), ServerError> {
    Ok((user_id(row, 0)?, pending_change(row, 1)?))
}

/// How a change is stored: its kind, its instant and its password hash.
pub(super) fn change_columns(change: &UserChange) -> (i16, Option<i64>, Option<&str>) {
    match change {
        UserChange::SetPassword(hash) => (SET_PASSWORD, None, Some(hash.expose())),
        UserChange::Disable(at) => (DISABLE, Some(at.as_millis()), None),
        UserChange::Delete => (DELETE, None, None),
    }
}

/// An entry of the log of revocations, with its number.
pub(super) fn revocation(row: &Row) -> Result<(u64, Revocation), ServerError> {
    let has = |column| row.try_get::<_, Option<Uuid>>(column).map(|id| id.is_some());
    let is_one = row.try_get(1)?;
    let revocation = match (is_one, has(2)?, has(3)?) {
        (true, true, true) => Revocation::Session {
            session: session_id(row, 2)?,
            user: user_id(row, 3)?,
        },
        (false, true, true) => Revocation::User {
            user: user_id(row, 3)?,
            except: Some(session_id(row, 2)?),
        },
        (false, false, true) => Revocation::User {
            user: user_id(row, 3)?,
            except: None,
        },
        (false, false, false) => Revocation::Everyone,
        (true, false, _) | (_, true, false) => return Err(ServerError::Unreadable("revocation")),
    };
    Ok((number(row, 0)?, revocation))
}
