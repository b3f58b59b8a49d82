//! How replies are read.

use crate::{
    domain::{SessionId, UserId},
    store::redis::{
        connection::failure,
        layout::{index_entry::IndexEntry, marks::RevocationMarks, record::SessionRecord},
        state::Snapshot,
    },
};
use redis::{RedisResult, Value};

/// A record and the two marks that concern it, as a check reads them; `None` if there is no record.
pub(super) fn snapshot([record, everyone, user]: [Value; 3]) -> RedisResult<Option<Snapshot>> {
    if let Value::BulkString(record) = record {
        existing_snapshot(record, everyone, user).map(Some)
    } else if record == Value::Nil {
        Ok(None)
    } else {
        Err(failure("a reply of another form"))
    }
}

pub(super) fn existing_snapshot(bytes: Vec<u8>, everyone: Value, user: Value) -> RedisResult<Snapshot> {
    let mark = |value: Value| {
        let Value::BulkString(mark) = value else {
            return None;
        };
        Some(mark)
    };
    let marks = RevocationMarks::from_stored(mark(everyone).as_deref(), mark(user).as_deref());
    Ok(Snapshot {
        record: record(bytes)?,
        marks: marks.ok_or_else(|| failure("a mark that this version does not know"))?,
    })
}

pub(super) fn record(bytes: Vec<u8>) -> RedisResult<SessionRecord> {
    SessionRecord::from_stored(bytes).ok_or_else(|| failure("a record that this version does not know"))
}

pub(super) fn index_entries(reply: Value) -> RedisResult<Vec<IndexEntry>> {
    let entries: Vec<Vec<u8>> = redis::from_redis_value(reply)?;
    entries
        .iter()
        .map(|bytes| IndexEntry::from_stored(bytes).ok_or_else(|| failure("an index entry of another form")))
        .collect()
}

/// Whose session it was, and which, from the beginning of its record. `None` if Redis had forgotten it already.
pub(super) fn ids_of(record: &[u8]) -> Option<(UserId, SessionId)> {
    let (_, ids) = record.split_first()?;
    let (id, user) = ids.split_first_chunk::<16>()?;
    let user = UserId::from_bytes(user.try_into().ok()?);
    Some((user, SessionId::from_bytes(*id)))
}
