//! What this store asks Redis: one typed call for each script or command, one round trip each, and nothing that follows from the
//! answer.
//!
//! Every call is atomic and may be repeated. Those that change something wait for replicas where the configuration asks for
//! it, unless their doc says otherwise.

mod index;
mod replies;
mod revocations;
pub(super) mod scripts;
mod sessions;
mod user_hints;

pub(super) use index::IndexReply;
pub(super) use revocations::{LastRevocation, new_log, read_head};
pub(super) use sessions::{EndCondition, EndReply, EndedSession, Touched};

use super::{
    connection::{check_batcher::CheckBatcher, failure, is_forbidden, is_full, pool::ConnectionPool},
    layout::keys::Keyspace,
};
use futures_util::future::{join, join_all, try_join_all};
use redis::RedisResult;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use user_hints::UserHints;

/// One deployment's sessions in Redis.
pub(super) struct Database {
    keys: Arc<Keyspace>,
    pool: Arc<ConnectionPool>,
    checks: CheckBatcher,
    user_hints: UserHints,
    longest_lifetime_secs: AtomicU64,
    is_full: AtomicBool,
}

impl Database {
    pub(super) fn new(keys: Arc<Keyspace>, pool: Arc<ConnectionPool>, checks: CheckBatcher) -> Self {
        Self {
            keys,
            pool,
            checks,
            user_hints: UserHints::none(),
            longest_lifetime_secs: AtomicU64::new(0),
            is_full: AtomicBool::new(false),
        }
    }

    /// Asks every primary whether it is there, and finds out whether there is room for more.
    pub(super) async fn ping(&self) -> RedisResult<()> {
        let ping = redis::cmd("PING");
        let probes = self.checks.shard_of_each_node().into_iter().map(async |shard| {
            let mut cmd = redis::cmd("SETRANGE");
            cmd.arg(self.keys.room_probe(shard)).arg(0).arg("");
            self.pool.read(&cmd).await
        });
        let (answer, probed) = join(self.pool.read_primaries(&ping), join_all(probes)).await;
        let is_full = |probed: &RedisResult<_>| probed.as_ref().is_err_and(is_full);
        self.is_full.store(probed.iter().any(is_full), Ordering::Relaxed);
        answer.map(drop)
    }

    /// The commands that every operation needs and that some primary does not let this user run. `WAIT` where changes wait for
    /// replicas is tried as well.
    pub(super) async fn missing_rights(&self, is_strict: bool) -> RedisResult<BTreeSet<String>> {
        let tried = self.checks.shard_of_each_node().into_iter().map(async |shard| {
            let cmd = scripts::FIND_MISSING_RIGHTS.on(&[self.keys.room_probe(shard)]);
            RedisResult::Ok(redis::from_redis_value::<Vec<String>>(
                self.pool.read(&cmd).await?,
            )?)
        });
        let mut missing: BTreeSet<_> = try_join_all(tried).await?.into_iter().flatten().collect();
        if is_strict {
            let mut cmd = redis::cmd("WAIT");
            cmd.arg(0).arg(1);
            if self
                .pool
                .read_primaries(&cmd)
                .await
                .is_err_and(|error| is_forbidden(&error))
            {
                missing.insert("WAIT".to_owned());
            }
        }
        Ok(missing)
    }

    /// Whether the memory was full, as of the last ping or creation.
    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Notes whether there was room for a session.
    pub(super) fn note_creation<T>(&self, creation: &RedisResult<T>) {
        if creation.as_ref().is_err_and(is_full) {
            self.is_full.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn close_threads(&self) {
        self.checks.close_threads();
        self.pool.close_threads();
    }

    /// The longest lifetime of any session that this process knows of.
    fn longest_lifetime(&self) -> Duration {
        Duration::from_secs(self.longest_lifetime_secs.load(Ordering::Relaxed))
    }

    fn note_longest_lifetime(&self, secs: u64) {
        self.longest_lifetime_secs.fetch_max(secs, Ordering::Relaxed);
    }

    /// Makes known, before the first session with such a lifetime, that marks have to be kept so long. It is never taken back: a
    /// configuration that becomes shorter does not shorten the sessions that there are.
    pub(super) async fn allow_lifetime(&self, lifetime: Duration) -> RedisResult<()> {
        if lifetime <= self.longest_lifetime() {
            return Ok(());
        }
        let mut cmd = scripts::EXTEND_LIFETIME.on(&[self.keys.longest_lifetime()]);
        cmd.arg(lifetime.as_secs());
        let longest = redis::from_redis_value(self.pool.write(&cmd).await?)?;
        self.note_longest_lifetime(longest);
        Ok(())
    }

    /// For crash tests, which look at what stands in Redis.
    #[cfg(test)]
    pub(super) fn parts(&self) -> (&Keyspace, &ConnectionPool) {
        (&self.keys, &self.pool)
    }
}

/// A number that tells one attempt to end sessions from all others.
pub(super) fn new_attempt() -> RedisResult<u64> {
    getrandom::u64().map_err(|_| failure("no randomness"))
}
