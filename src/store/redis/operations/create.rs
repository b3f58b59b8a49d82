//! How a session comes to life.
//!
//! The session is stored first and indexed second. What a creation has acknowledged is therefore always in the index; what is in
//! the index and not stored is gone for good. If the creation fails in between, a session is left whose token nobody has: it can
//! only expire.
//!
//! The index changes in one script, and that is when the creation happens: the session takes its place, and those that it replaces
//! or evicts move to the set of displaced sessions, from which they are taken when they have ended, before the creation is
//! acknowledged. No other operation waits for that: one that reads the index, for a list, a revocation or another creation, reads
//! that set with it, and first ends what is in there. So a creation that stops half-way has either not happened, or the first
//! operation that sees the new session finishes it. Until then both the new session and the replaced one are counted, and a token
//! of the replaced one still proves it: no answer has said yet that it was replaced.

use super::Context;
use crate::{
    domain::{Revocation, Timestamp, TokenDigest, UserId},
    store::{
        Created, NewSession,
        redis::{
            connection::{failure, is_full},
            layout::{index_entry::IndexEntry, record::RecordKind},
            protocol::{IndexReply, LastRevocation},
            recovery::Resolution,
            state::Goal,
        },
    },
};
use futures_util::future::{join, try_join, try_join_all};
use redis::RedisResult;

pub(crate) async fn create(context: &Context, new: &NewSession, now: Timestamp) -> RedisResult<Created> {
    let live = &new.session.live;
    context.db.allow_lifetime(live.span.lifetime()).await?;
    let stored = store_under_epoch(context, new, now);
    let replaced = find_replaced(context, new.replaces.as_ref(), now);
    let (user_epoch, replaced) = try_join(stored, replaced).await?;
    let Some(user_epoch) = user_epoch else {
        return Ok(Created::EpochMoved);
    };
    let ended = match replaced {
        Replaced::Ended(revocation) => vec![revocation],
        Replaced::Live(_) | Replaced::None => Vec::new(),
    };
    let Some(displaced) = add_to_index(context, new, user_epoch, replaced.entry(), now).await? else {
        undo(context, new).await?;
        return Ok(Created::EpochMoved);
    };
    context
        .recovery
        .end_displaced(live.user_id, displaced, ended, now)
        .await?;
    Ok(Created::Yes)
}

/// Removes a session that nobody has been given the token of.
async fn undo(context: &Context, new: &NewSession) -> RedisResult<()> {
    try_join(
        context.db.undo_create(&new.digest),
        context.db.forget_owner(new.session.live.id),
    )
    .await
    .map(drop)
}

/// Stores the session, unless everyone's epoch has moved. Returns what the user's epoch must not exceed.
pub(crate) async fn store_under_epoch(
    context: &Context,
    new: &NewSession,
    now: Timestamp,
) -> RedisResult<Option<u64>> {
    // Tried a second time if its shard knows a later revocation. Either that is under way, and then the epoch has moved before this
    // second look; or a server that took over has lost the last sequences: with a fresh one, no user is locked out.
    for is_last in [false, true] {
        // The sequence is read before the epochs are compared: see `revoke`.
        let LastRevocation {
            sequence,
            everyone_epoch,
        } = context.db.last_revocation().await?;
        let Some(user_epoch) = new.epoch.count().checked_sub(everyone_epoch) else {
            return Ok(None);
        };
        let stored = context.db.store_session(new, sequence, now);
        let (stored, owned) = join(stored, context.db.store_owner(new, now)).await;
        let stored = stored.and_then(|is_stored| owned.map(|()| is_stored));
        context.db.note_creation(&stored);
        if stored.as_ref().is_err_and(is_full) {
            // There was room for one of the two only: nothing is to be left of it.
            undo(context, new).await?;
        }
        if stored? {
            return Ok(Some(user_epoch));
        }
        if !is_last {
            context.db.next_sequence(false).await?;
        }
    }
    Ok(None)
}

/// What a token that is to be replaced proves.
pub(crate) enum Replaced {
    /// There is none, or it never proved anything here.
    None,
    /// A living session.
    Live(IndexEntry),
    /// A session that has ended, perhaps in a creation that failed before it could publish that.
    Ended(Revocation),
}

impl Replaced {
    pub(crate) fn entry(&self) -> Option<IndexEntry> {
        match self {
            Self::Live(entry) => Some(*entry),
            Self::None | Self::Ended(_) => None,
        }
    }
}

pub(crate) async fn find_replaced(
    context: &Context,
    digest: Option<&TokenDigest>,
    now: Timestamp,
) -> RedisResult<Replaced> {
    let Some(digest) = digest else {
        return Ok(Replaced::None);
    };
    Ok(match context.recovery.resolve(Goal::Token, digest, now).await? {
        Resolution::Live(found) => Replaced::Live(IndexEntry {
            id: found.record.id(),
            digest: found.digest,
        }),
        Resolution::Gone(found) if found.record.kind() == RecordKind::Ended => {
            Replaced::Ended(Revocation::Session {
                session: found.record.id(),
                user: found.record.user(),
            })
        }
        Resolution::Gone(_) | Resolution::Missing => Replaced::None,
    })
}

/// Puts the session into the index, and returns all displaced sessions. `None` if the epoch has moved.
pub(crate) async fn add_to_index(
    context: &Context,
    new: &NewSession,
    user_epoch: u64,
    replaced: Option<IndexEntry>,
    now: Timestamp,
) -> RedisResult<Option<Vec<IndexEntry>>> {
    let user = new.session.live.user_id;
    let mut dead = None;
    // Twice at most: with the dead entries named, the script itself decides which sessions make room.
    for _ in 0..2 {
        let admission = context
            .db
            .add_to_index(new, user_epoch, replaced, dead.as_deref(), now);
        match admission.await? {
            IndexReply::EpochMoved => return Ok(None),
            IndexReply::Admitted { displaced } => return Ok(Some(displaced)),
            IndexReply::Full { entries } => dead = Some(find_dead(context, user, &entries, now).await?),
        }
    }
    Err(failure("an index that cannot decide"))
}

async fn find_dead(
    context: &Context,
    user: UserId,
    entries: &[IndexEntry],
    now: Timestamp,
) -> RedisResult<Vec<IndexEntry>> {
    let found = entries
        .iter()
        .map(|entry| context.recovery.resolve_entry(user, *entry, now));
    let found = try_join_all(found).await?;
    let dead = entries
        .iter()
        .zip(found)
        .filter(|(_, found)| !matches!(found, Resolution::Live(_)));
    Ok(dead.map(|(entry, _)| *entry).collect())
}
