//! Freeing sessions that have ended, and completing changes that no operation has met.

use super::Context;
use crate::{
    domain::{SessionId, Timestamp, UserId},
    store::redis::{
        protocol::{Database, new_attempt},
        state::ShardView,
    },
};
use futures_util::future::try_join_all;
use redis::RedisResult;

/// Expired sessions of one shard that one script frees: Redis does nothing else meanwhile.
const FREED_AT_ONCE: u64 = 100;

/// As [`FREED_AT_ONCE`], of those that were revoked.
const REVOKED_FREED_AT_ONCE: u64 = 64;

/// Frees up to `limit` sessions; none while another process sweeps.
pub(crate) async fn sweep(context: &Context, now: Timestamp, limit: u32) -> RedisResult<u64> {
    let holder = new_attempt()?;
    if !context.db.lock_sweep(holder).await? {
        return Ok(0);
    }
    let freed = sweep_shards(context, now, u64::from(limit)).await;
    context.db.unlock_sweep(holder).await?;
    freed
}

async fn sweep_shards(context: &Context, now: Timestamp, limit: u64) -> RedisResult<u64> {
    let Context { db, recovery } = context;
    let expired = try_join_all(Database::shards().map(|shard| db.count_expired(shard, now))).await?;
    let shards = recovery.read_shards(now).await?;
    let moves = shards.iter().flat_map(|shard| &shard.unsettled_moves);
    recovery
        .finish_moves(&moves.copied().collect::<Vec<_>>(), now)
        .await?;
    let mut freed = free_revoked(db, &shards, limit).await?;
    for (shard, mut expired) in expired.into_iter().enumerate() {
        while expired > 0 && freed < limit {
            let at_once = FREED_AT_ONCE.min(limit - freed);
            let (freed_now, sessions) = db.free_expired(shard, at_once, now).await?;
            forget(db, sessions).await?;
            if freed_now == 0 {
                break;
            }
            freed += freed_now;
            expired = expired.saturating_sub(freed_now);
        }
    }
    Ok(freed)
}

/// Frees what the last revocation of everyone's sessions has ended. The process that revoked them does so by itself, unless it
/// dies.
async fn free_revoked(db: &Database, shards: &[ShardView], limit: u64) -> RedisResult<u64> {
    let mut freed = 0;
    for (shard, there) in shards.iter().enumerate() {
        while there.everyone_mark > 0 && freed < limit {
            let at_once = FREED_AT_ONCE.min(limit - freed);
            let (dealt_with, sessions) = db.free_revoked(shard, there.everyone_mark, at_once).await?;
            freed += sessions.len() as u64;
            forget(db, sessions).await?;
            if dealt_with == 0 {
                break;
            }
        }
    }
    Ok(freed)
}

/// Frees all that a revocation of everyone's sessions has ended, shard by shard and a few at a time.
pub(crate) async fn free_all_revoked(db: &Database, sequence: u64) -> RedisResult<()> {
    for shard in Database::shards() {
        loop {
            let (dealt_with, sessions) = db.free_revoked(shard, sequence, REVOKED_FREED_AT_ONCE).await?;
            forget(db, sessions).await?;
            if dealt_with == 0 {
                break;
            }
        }
    }
    Ok(())
}

async fn forget(db: &Database, sessions: Vec<(UserId, SessionId)>) -> RedisResult<()> {
    let forgotten = sessions.into_iter().map(|(user, id)| db.forget_session(user, id));
    try_join_all(forgotten).await.map(drop)
}
