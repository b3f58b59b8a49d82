//! Stores on a test's server, and sessions to put into them.

use sessiond::{
    domain::{
        Attributes, AuthMethod, Client, LiveSession, RandomTokens, Session, SessionId, SessionSpan,
        Timestamp, TokenDigest, TokenSource as _, UserId,
    },
    store::{
        Created, NewSession, SessionStore, StoreError,
        redis::{RedisConfig, RedisStore},
    },
};
use std::time::{Duration, Instant, SystemTime};

/// As long as an operation may take in these tests.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) fn config(url: &str) -> RedisConfig {
    let mut config = RedisConfig::new(url).unwrap();
    config.timeout = TIMEOUT;
    config
}

pub(crate) async fn store_at(url: &str) -> RedisStore {
    RedisStore::connect(config(url)).await.unwrap()
}

pub(crate) fn start() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::default().after(since_1970)
}

pub(crate) fn user_id() -> UserId {
    UserId::new(start(), RandomTokens.id_bits().unwrap())
}

pub(crate) fn digest() -> TokenDigest {
    RandomTokens.session_token().unwrap().digest()
}

/// A session of `user` as of `at`, which lives for an hour and ten minutes without a check.
pub(crate) async fn new_session(
    store: &RedisStore,
    user: UserId,
    at: Timestamp,
) -> Result<NewSession, StoreError> {
    Ok(NewSession {
        digest: digest(),
        session: Session {
            live: LiveSession {
                id: SessionId::new(at, RandomTokens.id_bits().unwrap()),
                user_id: user,
                last_seen_at: at,
                authenticated_at: at,
                auth_method: AuthMethod::Password,
                span: SessionSpan::from_secs(3600, 600),
                grace_ends_at: None,
            },
            client: Client::default(),
            attributes: Attributes::default(),
        },
        epoch: store.epoch(user).await?,
        replaces: None,
        max_per_user: 100,
    })
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

/// Asks again until the answer is there, and says how long that took.
///
/// # Panics
/// If it takes longer than `bound`.
pub(crate) async fn within<T>(
    bound: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> (T, Duration) {
    let asked_at = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return (answer, asked_at.elapsed());
        }
        assert!(asked_at.elapsed() < bound, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
