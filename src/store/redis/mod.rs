//! Sessions in Redis or Valkey: one server, a primary named by Sentinels, or a Cluster, with the same keys and scripts for all.
//! Users live elsewhere.
//!
//! # What is in one slot
//!
//! A Cluster runs a command or script in one slot, and in nothing else is one atomic. Sessions are spread over 48 shards by their
//! token's digest. All keys of a shard are in one slot: the records, the index of live sessions by expiry, and the revocation marks
//! ([`layout::keys`]). So a check is one round trip, and what it reads is true of one instant. A user's index and epoch are in
//! another slot, and so are the clock and the log of revocations.
//!
//! # What takes steps
//!
//! Whatever concerns more than one slot: a creation (record, index, what it displaces), a rotation (the new token's digest is in
//! another shard), a revocation of all of a user's or of everyone's sessions (a mark in every shard), an end of one session
//! (record, log, index). Each has *one* step, one script, with which it has happened. The steps before it are visible to no
//! operation; the steps after it are owed, and what is owed can be read from what is stored: a forwarding note, a record that is
//! arriving, a tombstone, a displaced session, a mark that some shards have and others do not. The steps are in
//! [`operations::create`], [`operations::rotate`] and [`operations::revoke`].
//!
//! # Who finishes
//!
//! The operation that meets it, before it answers. [`state`] is pure: given a record, its marks and the time, a session lives, is
//! gone, or needs one more step. [`recovery`] carries the step out, and asks again. Every step may be taken by several at once,
//! twice, and late. So an operation whose process dies has either not happened, or is finished by the first operation that sees any
//! of it; what none sees, a sweep finishes.
//!
//! # Where things are
//!
//! [`layout`] says which bytes stand under which keys. [`protocol`] has the scripts, and a typed call for each. [`connection`]
//! keeps connections open and batches checks. Imports lead from [`operations`] to [`recovery`] to [`state`] and [`protocol`], and
//! from there to [`connection`] and [`layout`].
//!
//! Tested with Redis 7.0; nothing newer than 6.2 is used. The rights that a user with an ACL needs are in docs/operations.md, and the
//! store contract is tested with them; each is tried at the start.

mod config;
mod connection;
#[cfg(test)]
mod crash_tests;
mod durability;
mod layout;
mod operations;
mod protocol;
mod recovery;
mod state;

pub use config::{InvalidRedisUrl, RedisConfig};
pub use durability::Durability;

use super::{
    Created, Epoch, Lookup, NewSession, Operation, RevocationLog, Rotation, ScanCursor, ScanPage, SessionKey,
    SessionStore, StoreError, log_follower,
};
use crate::{
    domain::{LiveSession, Session, SessionId, Timestamp, TokenDigest, UserId},
    error_chain::chain,
};
use async_trait::async_trait;
use config::Server;
use connection::{check_batcher::CheckBatcher, failure, is_forbidden, is_full, pool::ConnectionPool};
use layout::keys::Keyspace;
use operations::{
    Context, create, read,
    revocation_log::Follower,
    revoke, rotate, sweep,
    touch::{Touches, write_touches},
};
use protocol::Database;
use recovery::Recovery;
use redis::{RedisError, RedisResult};
use std::{fmt, future::Future, sync::Arc, time::Duration};
use tokio::{task::JoinHandle, time::timeout};

/// Why a Redis cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The prefix would not be one in every key.
    #[error("the key prefix must be at most 64 characters out of a-z A-Z 0-9 . _ : / -")]
    Prefix,
    /// It cannot be reached, or does not answer as it should.
    #[error("Redis at {server} cannot be reached")]
    Unreachable {
        /// The addresses of the configuration.
        server: String,
        /// Why.
        source: RedisError,
    },
    /// It was reached, and does not let this user in.
    #[error("Redis at {server} does not allow this user what is needed")]
    Forbidden {
        /// The addresses of the configuration.
        server: String,
        /// What it said.
        source: RedisError,
    },
    /// It was reached, and does not allow some commands.
    #[error(
        "Redis at {server} does not allow this user to run {commands}; see the ACL in docs/operations.md"
    )]
    MissingRights {
        /// The addresses of the configuration.
        server: String,
        /// The commands, with commas.
        commands: String,
    },
    /// It may drop sessions when its memory is full.
    #[error(
        "Redis may drop sessions when its memory is full (maxmemory-policy {0}); set it to noeviction, or accept eviction"
    )]
    Eviction(String),
}

impl ConnectError {
    fn of(config: &RedisConfig, source: RedisError) -> Self {
        let server = config.server.to_string();
        match is_forbidden(&source) {
            true => Self::Forbidden { server, source },
            false => Self::Unreachable { server, source },
        }
    }
}

/// Sessions in Redis.
pub struct RedisStore {
    context: Context,
    touches: Arc<Touches>,
    log: RevocationLog,
    durability: Durability,
    timeout: Duration,
    tasks: [JoinHandle<()>; 2],
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
        let pool = ConnectionPool::open(&config).await;
        let pool = Arc::new(pool.map_err(|error| ConnectError::of(&config, error))?);
        let durability = Durability::of(&pool, &config).await?;
        let keys = Arc::new(Keyspace::new(&config.prefix));
        let checks = match config.server {
            Server::Cluster(_) => CheckBatcher::of_cluster(&pool, &keys, config.connections).await,
            Server::Single(_) | Server::Sentinels { .. } => {
                CheckBatcher::of_server(&pool, &keys, config.connections)
            }
        };
        let db = Arc::new(Database::new(Arc::clone(&keys), pool, checks));
        let missing = db.missing_rights(config.strict_replicas.is_some()).await;
        let missing = missing.map_err(|error| ConnectError::of(&config, error))?;
        if !missing.is_empty() {
            return Err(ConnectError::MissingRights {
                server: config.server.to_string(),
                commands: missing.into_iter().collect::<Vec<_>>().join(", "),
            });
        }
        let start = async {
            let mut follower = Follower::open(&config, &keys).await?;
            let head = follower.head().await?;
            RedisResult::Ok((follower, RevocationLog::following(head)))
        };
        let (follower, log) = start.await.map_err(|error| ConnectError::of(&config, error))?;
        let recovery = Arc::new(Recovery::new(Arc::clone(&db), config.timeout));
        let context = Context { db, recovery };
        let touches = Arc::new(Touches::default());
        let tasks = [
            tokio::spawn(log_follower::follow(follower, log.clone())),
            tokio::spawn(write_touches(context.clone(), Arc::clone(&touches))),
        ];
        Ok(Self {
            context,
            touches,
            log,
            durability,
            timeout: config.timeout,
            tasks,
        })
    }

    /// What the server keeps, as it was found at the start.
    #[must_use]
    pub fn durability(&self) -> &Durability {
        &self.durability
    }

    /// Carries an operation out to its end, or to the time limit, whether or not the caller goes on waiting.
    async fn carry_out<T: Send + 'static, F: Future<Output = RedisResult<T>> + Send + 'static>(
        &self,
        operation: Operation,
        work: impl FnOnce(Context) -> F,
    ) -> Result<T, StoreError> {
        let task = tokio::spawn(timeout(self.timeout, work(self.context.clone())));
        match task.await {
            Ok(done) => result(
                operation,
                done.unwrap_or_else(|_| Err(failure("no answer in time"))),
            ),
            Err(stopped) => Err(StoreError::new(operation, stopped)),
        }
    }

    /// Waits for an answer, within the time limit.
    async fn answer<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, StoreError> {
        let answer = timeout(self.timeout, work).await;
        result(
            operation,
            answer.unwrap_or_else(|_| Err(failure("no answer in time"))),
        )
    }
}

fn result<T>(operation: Operation, result: RedisResult<T>) -> Result<T, StoreError> {
    result.map_err(|error| match is_full(&error) {
        true => StoreError::full(operation, error),
        false => StoreError::new(operation, error),
    })
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

#[async_trait]
impl SessionStore for RedisStore {
    fn check(&self, digest: &TokenDigest, now: Timestamp) -> Lookup<Option<LiveSession>> {
        // Every connection limits the time of its requests: the hot operation needs no timer.
        let (context, digest) = (self.context.clone(), *digest);
        Lookup::Pending(Box::pin(async move {
            result(Operation::Check, read::check(&context, &digest, now).await)
        }))
    }

    fn touch(&self, session: &LiveSession, digest: &TokenDigest, at: Timestamp) {
        self.touches.note(session.id, digest, at);
    }

    async fn get(&self, digest: &TokenDigest, now: Timestamp) -> Result<Option<Session>, StoreError> {
        self.answer(Operation::Get, read::get(&self.context, digest, now))
            .await
    }

    async fn epoch(&self, user: UserId) -> Result<Epoch, StoreError> {
        self.answer(Operation::ReadEpoch, self.context.db.epoch(user))
            .await
    }

    async fn create(&self, new: NewSession, now: Timestamp) -> Result<Created, StoreError> {
        self.carry_out(Operation::Create, async move |context| {
            create::create(&context, &new, now).await
        })
        .await
    }

    async fn rotate(&self, rotation: Rotation, now: Timestamp) -> Result<Option<Session>, StoreError> {
        self.carry_out(Operation::Rotate, async move |context| {
            rotate::rotate(&context, &rotation, now).await
        })
        .await
    }

    async fn destroy(
        &self,
        key: SessionKey,
        now: Timestamp,
    ) -> Result<Option<(SessionId, UserId)>, StoreError> {
        self.carry_out(Operation::Destroy, async move |context| {
            revoke::destroy(&context, key, now).await
        })
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
            read::list(&self.context, user, before, limit, now),
        )
        .await
    }

    async fn revoke_user(
        &self,
        user: UserId,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.carry_out(Operation::RevokeUser, async move |context| {
            revoke::revoke_user(&context, user, except, now).await
        })
        .await
    }

    async fn revoke_everyone(&self, now: Timestamp) -> Result<u64, StoreError> {
        let revoking = async move |context| revoke::revoke_everyone(&context, now).await;
        let (ended, sequence) = self.carry_out(Operation::RevokeEveryone, revoking).await?;
        // Only space: it may take its time, and Redis forgets by itself what this does not reach.
        let db = Arc::clone(&self.context.db);
        tokio::spawn(async move {
            if let Err(error) = sweep::free_all_revoked(&db, sequence).await {
                tracing::warn!(cause = %chain(&error), "ended sessions stay in Redis until they expire");
            }
        });
        Ok(ended)
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.carry_out(Operation::Sweep, async move |context| {
            sweep::sweep(&context, now, limit).await
        })
        .await
    }

    async fn scan(&self, from: ScanCursor, now: Timestamp) -> Result<ScanPage, StoreError> {
        self.answer(Operation::Scan, read::scan(&self.context, from, now))
            .await
    }

    async fn count(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.answer(Operation::CountSessions, self.context.recovery.count(now))
            .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.answer(Operation::Ping, self.context.db.ping()).await
    }

    fn is_full(&self) -> bool {
        self.context.db.is_full()
    }

    fn revocations(&self) -> &RevocationLog {
        &self.log
    }

    fn close_thread_connections(&self) {
        self.context.db.close_threads();
    }
}
