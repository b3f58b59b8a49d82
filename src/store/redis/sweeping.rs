//! Freeing the space of sessions that have expired, and finishing what was left undone.
//!
//! Redis itself forgets a session some minutes after its end; a sweep is sooner, counts, and also tidies what points to the session.

use super::{
    Shared,
    ending::{ids_of, millis},
    keys::SHARDS,
    link::failure,
    scripts,
};
use crate::domain::Timestamp;
use futures_util::future::try_join_all;
use redis::{RedisResult, Value};
use std::time::Duration;

/// How long a sweep keeps others from sweeping if its process dies in it.
const SWEEPING_TTL: Duration = Duration::from_secs(10);

/// Sessions of one shard that one script frees: Redis does nothing else meanwhile.
const AT_ONCE: u64 = 100;

impl Shared {
    /// Frees up to `limit` expired sessions; none while another process sweeps.
    pub(super) async fn sweep(&self, now: Timestamp, limit: u32) -> RedisResult<u64> {
        let holder = getrandom::u64().map_err(|_| failure("no randomness"))?;
        let mut hold = redis::cmd("SET");
        hold.arg(self.keys.sweeping())
            .arg(holder)
            .arg("NX")
            .arg("PX")
            .arg(millis(SWEEPING_TTL));
        if self.wire.write(&hold).await? == Value::Nil {
            return Ok(0);
        }
        let freed = self.sweep_shards(now, u64::from(limit)).await;
        let mut release = scripts::RELEASE.on(&[self.keys.sweeping()]);
        release.arg(holder);
        self.wire.write(&release).await?;
        freed
    }

    async fn sweep_shards(&self, now: Timestamp, limit: u64) -> RedisResult<u64> {
        let waiting = try_join_all((0..SHARDS).map(|shard| async move {
            let mut cmd = redis::cmd("ZCOUNT");
            cmd.arg(self.keys.living(shard)).arg("-inf").arg(now.as_millis());
            RedisResult::Ok(redis::from_redis_value::<u64>(self.wire.read(&cmd).await?)?)
        }));
        let waiting = waiting.await?;
        let counted = try_join_all((0..SHARDS).map(|shard| self.count_shard(shard, now)));
        let counted = counted.await?;
        let moving = counted.iter().flat_map(|there| &there.moving);
        try_join_all(moving.map(|from| self.settle_move(from, now))).await?;
        let mut freed = 0;
        for (shard, there) in counted.iter().enumerate() {
            // Whoever revoked everyone's sessions clears by itself, unless it dies.
            while there.everyones_mark > 0 && freed < limit {
                let at_once = AT_ONCE.min(limit - freed);
                let (cleared, freed_now) = self.clear_some(shard, there.everyones_mark, at_once).await?;
                freed += freed_now;
                if cleared == 0 {
                    break;
                }
            }
        }
        for (shard, mut waiting) in waiting.into_iter().enumerate() {
            while waiting > 0 && freed < limit {
                let swept = self.sweep_shard(shard, now, AT_ONCE.min(limit - freed)).await?;
                if swept == 0 {
                    break;
                }
                freed += swept;
                waiting = waiting.saturating_sub(swept);
            }
        }
        Ok(freed)
    }

    async fn sweep_shard(&self, shard: usize, now: Timestamp, limit: u64) -> RedisResult<u64> {
        let mut cmd = scripts::SWEEP.on(&[self.keys.living(shard)]);
        cmd.arg(self.keys.sessions_of(shard))
            .arg(now.as_millis())
            .arg(limit);
        let swept: Vec<(Vec<u8>, Vec<u8>)> = redis::from_redis_value(self.wire.write(&cmd).await?)?;
        let sessions = swept.iter().filter_map(|(_, record)| ids_of(record));
        try_join_all(sessions.map(|(user, id)| self.forget_one(user, id))).await?;
        Ok(swept.len() as u64)
    }
}
