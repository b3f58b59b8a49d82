//! Reading sessions: by token, by user, all of them, and how many there are.

use super::Context;
use crate::{
    domain::{LiveSession, Session, SessionId, Timestamp, TokenDigest, UserId},
    error_chain::chain,
    store::{
        ScanCursor, ScanPage,
        redis::{
            connection::failure,
            layout::{index_entry::IndexEntry, keys::SHARDS},
            recovery::Resolution,
            state::Goal,
        },
    },
};
use futures_util::future::try_join_all;
use redis::RedisResult;

/// How much of a scan's cursor is the server's own within one shard: more than a set of any size needs.
const CURSOR_BITS: u32 = 56;

/// How often a list is read again because the index changed meanwhile, before it is good enough.
const LIST_READS: usize = 8;

pub(crate) async fn check(
    context: &Context,
    digest: &TokenDigest,
    now: Timestamp,
) -> RedisResult<Option<LiveSession>> {
    let found = context.recovery.resolve(Goal::Token, digest, now).await?;
    Ok(found.live().map(|found| found.live))
}

pub(crate) async fn get(
    context: &Context,
    digest: &TokenDigest,
    now: Timestamp,
) -> RedisResult<Option<Session>> {
    let found = context.recovery.resolve(Goal::Token, digest, now).await?;
    found.live().map(|found| found.session()).transpose()
}

pub(crate) async fn list(
    context: &Context,
    user: UserId,
    before: Option<SessionId>,
    limit: u32,
    now: Timestamp,
) -> RedisResult<Vec<Session>> {
    let mut entries = context.recovery.index_of(user, now).await?;
    let mut reads = 0;
    loop {
        let sessions = live_sessions(context, user, &entries, before, limit, now).await?;
        reads += 1;
        // A creation changes the index before it ends what it replaces: while the index stays the same, both sides of that are
        // seen, or neither.
        let again = context.recovery.index_of(user, now).await?;
        if again == entries || reads == LIST_READS {
            return Ok(sessions);
        }
        entries = again;
    }
}

async fn live_sessions(
    context: &Context,
    user: UserId,
    entries: &[IndexEntry],
    before: Option<SessionId>,
    limit: u32,
    now: Timestamp,
) -> RedisResult<Vec<Session>> {
    let limit = limit as usize;
    let wanted: Vec<_> = entries
        .iter()
        .rev()
        .filter(|entry| before.is_none_or(|before| entry.id < before))
        .collect();
    let mut sessions = Vec::new();
    let mut missing = Vec::new();
    for page in wanted.chunks(limit.clamp(16, 256)) {
        if sessions.len() >= limit {
            break;
        }
        let found = page
            .iter()
            .map(|entry| context.recovery.resolve_entry(user, **entry, now));
        for (entry, found) in page.iter().zip(try_join_all(found).await?) {
            match found {
                Resolution::Live(found) => sessions.push(found.session()?),
                Resolution::Gone(_) => {}
                Resolution::Missing => missing.push(**entry),
            }
        }
    }
    sessions.truncate(limit);
    // A session is stored before it is indexed, so what is missing will not come. A removal that fails does no harm: the next
    // operation that meets the entries tries again.
    if !missing.is_empty()
        && let Err(error) = context.db.remove_from_index(user, &missing).await
    {
        tracing::debug!(cause = %chain(&error), "could not tidy the index of a user's sessions");
    }
    Ok(sessions)
}

/// The living sessions of one shard, a few at a time. The cursor is the shard and, within it, the server's own.
pub(crate) async fn scan(context: &Context, from: ScanCursor, now: Timestamp) -> RedisResult<ScanPage> {
    let from = from.number();
    let (shard, cursor) = (from >> CURSOR_BITS, from & ((1 << CURSOR_BITS) - 1));
    let Some(at) = usize::try_from(shard).ok().filter(|shard| *shard < SHARDS) else {
        return Err(failure("a scan from a cursor that there is not"));
    };
    let (digests, next) = context.db.scan_shard(at, cursor, now).await?;
    if next >> CURSOR_BITS != 0 {
        return Err(failure("a cursor that is too large"));
    }
    let next = match next {
        0 => (at + 1 < SHARDS).then(|| ScanCursor::from((shard + 1) << CURSOR_BITS)),
        next => Some(ScanCursor::from(shard << CURSOR_BITS | next)),
    };
    Ok(ScanPage { digests, next })
}
