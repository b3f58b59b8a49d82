//! How sessions end: one by its token or id, all of a user's, everyone's.
//!
//! One session ends in its own shard: its record becomes a tombstone, which outlives the operation for a minute. So an operation
//! that failed half-way, after the end and before the publication, finds out on the next attempt what to publish.
//!
//! All sessions of a user end by a mark in every shard, which a check reads together with the session. Nothing has to be found for
//! that, so nothing can be missed: neither a session that is just being created or rotated, nor one that the index has lost. The
//! order of a revocation is what makes it safe:
//!
//! 1. The user's epoch moves, so that a creation whose epoch was read before it is refused.
//! 2. The revocation gets its sequence, greater than all before. A creation reads the last sequence, which the session is created
//!    after, and reads the epoch *after* that: what is created after this sequence or a later one has seen the epoch move.
//! 3. Every shard gets the sequence as its mark; by then whatever was created before it is dead, and the revocation may be
//!    acknowledged.
//! 4. The records are ended one by one. That only frees space and counts.
//!
//! If it fails in between, some shards may know the mark and others not. No answer shows it: an operation that meets a session
//! which a mark has ended brings the mark to all shards, publishes it, and ends the records, before it answers. So a revocation
//! that stops half-way has either not happened, or the first operation that sees one of its ends finishes it. (A log-in may be
//! refused before, because the epoch has moved.) A new attempt takes a greater sequence, and marks only ever grow; sessions created
//! since are created after a sequence that no mark of the failed attempt exceeds.
//!
//! A user's marks expire after the longest lifetime of any session and an hour: the sessions that they ended have long been gone.
//! The sequences cannot be given out again, because they follow the server's time. The user's epoch, a plain count, expires with
//! them; only a log-in that took longer than that could mistake the new count for the old one.

use super::Context;
use crate::{
    domain::{Revocation, SessionId, Timestamp, TokenDigest, UserId},
    store::{
        SessionKey,
        redis::{
            layout::marks::SequencedRevocation,
            protocol::{EndCondition, EndReply, EndedSession, new_attempt},
        },
    },
};
use redis::RedisResult;

/// Ends one session.
pub(crate) async fn destroy(
    context: &Context,
    key: SessionKey,
    now: Timestamp,
) -> RedisResult<Option<(SessionId, UserId)>> {
    let attempt = new_attempt()?;
    let ended = match key {
        SessionKey::Token(digest) => end_by_token(context, &digest, attempt, now).await?,
        SessionKey::Id(id) => match context.db.find_by_id(id).await? {
            Some(entry) => {
                let condition = EndCondition::Session(id);
                context
                    .recovery
                    .end_following(entry.digest, condition, attempt, now)
                    .await?
            }
            None => None,
        },
    };
    let Some(ended) = ended else {
        return Ok(None);
    };
    if let Some(revocation) = ended.revoked_by {
        context.recovery.finish_revocation(revocation, now).await?;
    }
    context.db.publish(&[ended.revocation()]).await?;
    context.db.forget_session(ended.user, ended.id).await?;
    Ok(ended.live.map(|live| (live.id, live.user_id)))
}

/// Ends the session that a token proves, also as an old token in its grace.
async fn end_by_token(
    context: &Context,
    digest: &TokenDigest,
    attempt: u64,
    now: Timestamp,
) -> RedisResult<Option<EndedSession>> {
    let (session, user, works_until, to) =
        match context.db.end(digest, EndCondition::Any, attempt, now).await? {
            EndReply::NotFound => return Ok(None),
            EndReply::Ended(ended) => return Ok(Some(ended)),
            EndReply::Moved {
                session,
                user,
                works_until,
                to,
            } => (session, user, works_until, to),
        };
    if now < works_until {
        let condition = EndCondition::Session(session);
        if let EndReply::Ended(ended) = context.db.end(&to, condition, attempt, now).await? {
            return Ok(Some(ended));
        }
    }
    // The grace is over, or a second rotation has ended it: that is published before the caller is answered.
    let ended = Revocation::Session { session, user };
    context.recovery.publish_once(digest, ended).await?;
    Ok(None)
}

/// Ends all of a user's sessions but one. Returns how many living sessions that ended.
pub(crate) async fn revoke_user(
    context: &Context,
    user: UserId,
    except: Option<SessionId>,
    now: Timestamp,
) -> RedisResult<u64> {
    let except = match except {
        Some(id) if is_live(context, user, id, now).await? => Some(id),
        Some(_) | None => None,
    };
    context.db.bump_epoch(user).await?;
    let sequence = context.db.next_sequence(false).await?;
    let revocation = SequencedRevocation::User {
        user,
        sequence,
        except,
    };
    context.recovery.carry_through(revocation, now).await
}

async fn is_live(context: &Context, user: UserId, id: SessionId, now: Timestamp) -> RedisResult<bool> {
    let entries = context.recovery.index_of(user, now).await?;
    let Some(entry) = entries.into_iter().find(|entry| entry.id == id) else {
        return Ok(false);
    };
    let found = context.recovery.resolve_entry(user, entry, now).await?;
    Ok(found.live().is_some())
}

/// Ends everyone's sessions. Returns how many living sessions that ended, and under which sequence.
pub(crate) async fn revoke_everyone(context: &Context, now: Timestamp) -> RedisResult<(u64, u64)> {
    let sequence = context.db.next_sequence(true).await?;
    let revocation = SequencedRevocation::Everyone { sequence };
    let ended = context.recovery.carry_through(revocation, now).await?;
    Ok((ended, sequence))
}
