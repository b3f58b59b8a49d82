//! Sessions in Redis or Valkey: one server, a primary named by Sentinels, or a Cluster, with the same keys and scripts for all.
//!
//! Users live elsewhere. A check is one round trip; the token's digest alone says in which slot. What the other verbs do in which
//! order, and why nothing can come between, is told in [`creating`], [`rotating`] and [`ending`]; the keys are listed in [`keys`].
//!
//! Tried with Redis 7.0; nothing newer than 6.2 is used. A user with an ACL needs `~<prefix>*`, `+@read +@write +@scripting
//! +@connection +info +role +wait +time`, and for a Cluster `+cluster`; without `+config|get` the store works and says that it does
//! not know what the server keeps.

mod asking;
mod config;
mod creating;
#[cfg(test)]
mod cut_off;
mod durability;
mod ending;
mod finding;
mod keys;
mod link;
mod record;
mod rotating;
mod scripts;
mod sweeping;
mod telling;
mod touching;
mod wire;

pub use config::{InvalidRedisUrl, RedisConfig};
pub use durability::Durability;

use super::{
    Created, Epoch, Lookup, NewSession, Operation, RevocationLog, Rotation, ScanCursor, ScanPage, SessionKey,
    SessionStore, StoreError,
};
use crate::domain::{LiveSession, Session, SessionId, Timestamp, TokenDigest, UserId};
use asking::Asking;
use async_trait::async_trait;
use config::Server;
use finding::Guesses;
use futures_util::future::try_join;
use keys::Keyspace;
use link::failure;
use redis::{RedisError, RedisResult};
use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use telling::{Follower, Told};
use tokio::{sync::Semaphore, task::JoinHandle, time::timeout};
use touching::Touches;
use wire::Wire;

/// How much longer Redis keeps a session than it lives.
const MARGIN: Duration = Duration::from_secs(5 * 60);

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Why a Redis cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The prefix would not be one in every key.
    #[error("the key prefix must be at most 64 characters out of a-z A-Z 0-9 . _ : / -")]
    Prefix,
    /// It cannot be reached, does not answer, or refuses.
    #[error("Redis cannot be reached")]
    Unreachable(#[source] RedisError),
    /// It may drop sessions when its memory is full.
    #[error(
        "Redis may drop sessions when its memory is full (maxmemory-policy {0}); set it to noeviction, or accept eviction"
    )]
    Eviction(String),
}

/// Sessions in Redis.
pub struct RedisStore {
    shared: Arc<Shared>,
    log: RevocationLog,
    durability: Durability,
    tasks: [JoinHandle<()>; 2],
}

/// What the verbs share with the tasks behind them.
struct Shared {
    keys: Arc<Keyspace>,
    wire: Arc<Wire>,
    asking: Asking,
    guesses: Guesses,
    told: Told,
    /// For whoever finishes a revocation that it has come across: one at a time, because many come across the same.
    finishing: Semaphore,
    touches: Touches,
    longest_lifetime_secs: AtomicU64,
    timeout: Duration,
}

impl RedisStore {
    /// Connects, and finds out what the server promises.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(config: RedisConfig) -> Result<Self, ConnectError> {
        if !config.has_valid_prefix() {
            return Err(ConnectError::Prefix);
        }
        let wire = Arc::new(Wire::open(&config).await.map_err(ConnectError::Unreachable)?);
        let durability = Durability::of(&wire, &config).await?;
        let keys = Arc::new(Keyspace::new(&config.prefix));
        let asking = match config.server {
            Server::Cluster(_) => Asking::of_cluster(&wire, &keys, config.connections).await,
            Server::Single(_) | Server::Sentinels { .. } => {
                Asking::of_server(&wire, &keys, config.connections)
            }
        };
        let shared = Arc::new(Shared {
            keys: Arc::clone(&keys),
            wire,
            asking,
            guesses: Guesses::none(),
            told: Told::nothing(),
            finishing: Semaphore::new(1),
            touches: Touches::default(),
            longest_lifetime_secs: AtomicU64::new(0),
            timeout: config.timeout,
        });
        let start = async {
            let mut follower = Follower::open(&config, &keys).await?;
            let head = follower.head().await?;
            RedisResult::Ok((follower, RevocationLog::following(head)))
        };
        let (follower, log) = start.await.map_err(ConnectError::Unreachable)?;
        let tasks = [
            tokio::spawn(follower.follow(log.clone())),
            tokio::spawn(Arc::clone(&shared).write_touches()),
        ];
        Ok(Self {
            shared,
            log,
            durability,
            tasks,
        })
    }

    /// What the server keeps, as it was found at the start.
    #[must_use]
    pub fn durability(&self) -> &Durability {
        &self.durability
    }

    /// Carries a verb out to its end, or to the time limit, whether or not the caller goes on waiting.
    async fn carry_out<T: Send + 'static>(
        &self,
        operation: Operation,
        work: impl Future<Output = RedisResult<T>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let limit = self.shared.timeout;
        let task = tokio::spawn(async move { timeout(limit, work).await });
        match task.await {
            Ok(done) => said(
                operation,
                done.unwrap_or_else(|_| Err(failure("no answer in time"))),
            ),
            Err(stopped) => Err(StoreError::new(operation, stopped)),
        }
    }

    /// Waits for a question's answer, within the time limit.
    async fn answer<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, StoreError> {
        let answer = timeout(self.shared.timeout, work).await;
        said(
            operation,
            answer.unwrap_or_else(|_| Err(failure("no answer in time"))),
        )
    }
}

fn said<T>(operation: Operation, result: RedisResult<T>) -> Result<T, StoreError> {
    result.map_err(|error| StoreError::new(operation, error))
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn longest_lifetime(&self) -> Duration {
        Duration::from_secs(self.longest_lifetime_secs.load(Ordering::Relaxed))
    }

    fn note_longest_lifetime(&self, secs: u64) {
        self.longest_lifetime_secs.fetch_max(secs, Ordering::Relaxed);
    }

    /// Makes known, before the first session with such a lifetime, that marks have to be kept so long. It is never taken back: a
    /// configuration that becomes shorter does not shorten the sessions that there are.
    async fn allow_lifetime(&self, lifetime: Duration) -> RedisResult<()> {
        if lifetime <= self.longest_lifetime() {
            return Ok(());
        }
        let mut cmd = scripts::LENGTHEN.on(&[self.keys.longest_lifetime()]);
        cmd.arg(lifetime.as_secs());
        let longest = redis::from_redis_value(self.wire.write(&cmd).await?)?;
        self.note_longest_lifetime(longest);
        Ok(())
    }

    async fn epoch(&self, user: UserId) -> RedisResult<Epoch> {
        let count = async |key: String| {
            let mut cmd = redis::cmd("GET");
            cmd.arg(key);
            RedisResult::Ok(redis::from_redis_value::<Option<u64>>(self.wire.read(&cmd).await?)?.unwrap_or(0))
        };
        let (users, everyones) = try_join(
            count(self.keys.users_epoch(user)),
            count(self.keys.everyones_epoch()),
        )
        .await?;
        Ok(Epoch::from_count(users.saturating_add(everyones)))
    }

    async fn get(&self, digest: &TokenDigest, now: Timestamp) -> RedisResult<Option<Session>> {
        let Some((_, seen)) = self.find(digest, now).await? else {
            return Ok(None);
        };
        let session = seen.record.session();
        let mut session = session.ok_or_else(|| failure("a session of another form"))?;
        session.live.grace_ends_at = seen.grace_ends_at;
        Ok(Some(session))
    }
}

#[async_trait]
impl SessionStore for RedisStore {
    fn check<'a>(&'a self, digest: &'a TokenDigest, now: Timestamp) -> Lookup<'a, Option<LiveSession>> {
        // Every connection limits the time of its requests: the hot verb needs no timer.
        Lookup::Pending(Box::pin(async move {
            let found = said(Operation::Check, self.shared.find(digest, now).await)?;
            Ok(found.and_then(|(_, seen)| seen.living(now)))
        }))
    }

    fn touch(&self, session: &LiveSession, digest: &TokenDigest, at: Timestamp) {
        self.shared.touches.note(session.id, digest, at);
    }

    async fn get(&self, digest: &TokenDigest, now: Timestamp) -> Result<Option<Session>, StoreError> {
        self.answer(Operation::Get, self.shared.get(digest, now)).await
    }

    async fn epoch(&self, user: UserId) -> Result<Epoch, StoreError> {
        self.answer(Operation::ReadEpoch, self.shared.epoch(user)).await
    }

    async fn create(&self, new: NewSession, now: Timestamp) -> Result<Created, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.carry_out(Operation::Create, async move { shared.create(&new, now).await })
            .await
    }

    async fn rotate(&self, rotation: Rotation, now: Timestamp) -> Result<Option<Session>, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.carry_out(
            Operation::Rotate,
            async move { shared.rotate(&rotation, now).await },
        )
        .await
    }

    async fn destroy(
        &self,
        key: SessionKey,
        now: Timestamp,
    ) -> Result<Option<(SessionId, UserId)>, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.carry_out(Operation::Destroy, async move { shared.destroy(key, now).await })
            .await
    }

    async fn list(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreError> {
        self.answer(
            Operation::ListSessions,
            self.shared.list(user, before, limit, now),
        )
        .await
    }

    async fn revoke_user(
        &self,
        user: UserId,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.carry_out(Operation::RevokeUser, async move {
            shared.revoke_user(user, except, now).await
        })
        .await
    }

    async fn revoke_everyone(&self, now: Timestamp) -> Result<u64, StoreError> {
        let shared = Arc::clone(&self.shared);
        let revoking = async move { shared.revoke_everyone(now).await };
        let (ended, number) = self.carry_out(Operation::RevokeEveryone, revoking).await?;
        // Only space: it may take its time, and Redis forgets by itself what this does not reach.
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            if let Err(error) = shared.clear(number).await {
                tracing::warn!(%error, "ended sessions stay in Redis until they expire");
            }
        });
        Ok(ended)
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.carry_out(Operation::Sweep, async move { shared.sweep(now, limit).await })
            .await
    }

    async fn scan(&self, from: ScanCursor, now: Timestamp) -> Result<ScanPage, StoreError> {
        self.answer(Operation::Scan, self.shared.scan(from, now)).await
    }

    async fn count(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.answer(Operation::CountSessions, self.shared.count(now))
            .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let ping = redis::cmd("PING");
        let asked = self.shared.wire.read_primaries(&ping);
        self.answer(Operation::Ping, asked).await.map(drop)
    }

    fn revocations(&self) -> &RevocationLog {
        &self.log
    }

    fn close_thread_connections(&self) {
        self.shared.asking.close_threads();
        self.shared.wire.close_threads();
    }
}
