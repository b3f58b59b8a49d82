//! Stores on a test's server, and sessions to put into them.

use sessiond::{
    domain::{LiveSession, Timestamp, TokenDigest, UserId},
    store::{
        Created, NewSession, SessionStore, StoreError,
        redis::{RedisConfig, RedisStore},
    },
};
use std::time::Duration;
pub(crate) use testkit::{
    samples::{digest, start, user_id},
    waiting::{PATIENCE, within},
};

/// As long as an operation may wait for the server in these tests.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// How soon many operations at once have failed where the server is silent: each waits for [`TIMEOUT`], all at the same time, on a
/// machine with other things to do.
pub(crate) const FAILED_WITHIN: Duration = Duration::from_secs(8);

/// Sooner than whoever waits for [`TIMEOUT`].
pub(crate) const AT_ONCE: Duration = Duration::from_millis(500);

pub(crate) fn config(url: &str) -> RedisConfig {
    let mut config = RedisConfig::new(url).unwrap();
    config.timeout = TIMEOUT;
    config
}

pub(crate) async fn store_at(url: &str) -> RedisStore {
    RedisStore::connect(config(url)).await.unwrap()
}

/// A session of `user` as of `at`, which lives for an hour and ten minutes without a check.
pub(crate) async fn new_session(
    store: &RedisStore,
    user: UserId,
    at: Timestamp,
) -> Result<NewSession, StoreError> {
    Ok(testkit::samples::bare_session(user, store.epoch(user).await?, at))
}

pub(crate) async fn try_log_in(
    store: &RedisStore,
    user: UserId,
    at: Timestamp,
) -> Result<NewSession, StoreError> {
    let new = new_session(store, user, at).await?;
    assert_eq!(store.create(new.clone(), at).await?, Created::Yes);
    Ok(new)
}

pub(crate) async fn log_in(store: &RedisStore, user: UserId, at: Timestamp) -> NewSession {
    try_log_in(store, user, at).await.unwrap()
}

pub(crate) async fn check(
    store: &RedisStore,
    digest: &TokenDigest,
    now: Timestamp,
) -> Result<Option<LiveSession>, StoreError> {
    store.check(digest, now).wait().await
}

pub(crate) async fn lives(store: &RedisStore, digest: &TokenDigest, now: Timestamp) -> bool {
    check(store, digest, now).await.unwrap().is_some()
}
