//! Stores on the tests' server, and sessions to put into them.

use sessiond::{
    domain::{LiveSession, SessionSpan, Timestamp, TokenDigest, UserId},
    store::{
        Created, Epoch, NewSession, PostgresConfig, PostgresStore, PostgresUrl, SessionStore, StoreError,
    },
};
use std::time::Duration;
use testkit::postgres::PostgresServer;
pub(crate) use testkit::{
    postgres::database,
    samples::{start, user_id},
    waiting::{PATIENCE, within},
};

/// How soon many calls at once have failed where the server is silent: each waits for the store's time limits, all at the same time,
/// on a machine with other things to do.
pub(crate) const FAILED_WITHIN: Duration = Duration::from_secs(8);

/// Sooner than whoever waits for the store's time limits.
pub(crate) const AT_ONCE: Duration = Duration::from_millis(500);

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

pub(crate) fn new_session(user: UserId, at: Timestamp, idle_timeout_secs: u32) -> NewSession {
    let mut new = testkit::samples::bare_session(user, Epoch::from_count(0), at);
    new.session.live.span = SessionSpan::from_secs(3600, idle_timeout_secs);
    new
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
