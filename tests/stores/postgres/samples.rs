//! Stores on the tests' server, and sessions to put into them.

use sessiond::{
    domain::{
        Attributes, AuthMethod, Client, LiveSession, RandomTokens, Session, SessionId, SessionSpan,
        Timestamp, TokenDigest, TokenSource as _, UserId,
    },
    store::{Created, NewSession, PostgresConfig, PostgresStore, PostgresUrl, SessionStore, StoreError},
};
use std::time::{Duration, Instant, SystemTime};
use testkit::postgres::PostgresServer;
pub(crate) use testkit::postgres::database;

pub(crate) fn config(url: &str) -> PostgresConfig {
    PostgresConfig::new(PostgresUrl::new(url.to_owned()))
}

/// A store in a database of its own on `server`, and the database's URL.
pub(crate) async fn store_on(server: &PostgresServer) -> (PostgresStore, String) {
    let url = server.new_database();
    (PostgresStore::connect(config(&url)).await.unwrap(), url)
}

/// A connection of the test's own, for what no store does. It lasts as long as what is returned.
pub(crate) async fn client(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub(crate) fn start() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::default().after(since_1970)
}

pub(crate) fn user_id() -> UserId {
    UserId::new(start(), RandomTokens.id_bits().unwrap())
}

pub(crate) fn new_session(user: UserId, at: Timestamp, idle_timeout_secs: u32) -> NewSession {
    NewSession {
        digest: RandomTokens.session_token().unwrap().digest(),
        session: Session {
            live: LiveSession {
                id: SessionId::new(at, RandomTokens.id_bits().unwrap()),
                user_id: user,
                last_seen_at: at,
                authenticated_at: at,
                auth_method: AuthMethod::Password,
                span: SessionSpan::from_secs(3600, idle_timeout_secs),
                grace_ends_at: None,
            },
            client: Client::default(),
            attributes: Attributes::default(),
        },
        epoch: sessiond::store::Epoch::from_count(0),
        replaces: None,
        max_per_user: 100,
    }
}

/// Creates a session of a new user.
pub(crate) async fn log_in(store: &PostgresStore, at: Timestamp, idle_timeout_secs: u32) -> NewSession {
    let mut new = new_session(user_id(), at, idle_timeout_secs);
    new.epoch = store.epoch(new.session.live.user_id).await.unwrap();
    assert_eq!(store.create(new.clone(), at).await.unwrap(), Created::Yes);
    new
}

pub(crate) async fn check(
    store: &PostgresStore,
    digest: &TokenDigest,
    now: Timestamp,
) -> Result<Option<LiveSession>, StoreError> {
    store.check(digest, now).wait().await
}

/// Asks again until the answer is there, and says how long that took.
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
        assert!(asked_at.elapsed() < bound, "{what}: not within {bound:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
