//! What happens between a URL and a store.

use super::samples::{FAILED_WITHIN, check, client, config, database, log_in, start, store_on};
use futures_util::future::join_all;
use sessiond::store::{PostgresConnectError, PostgresStore, SessionStore as _, UserStore};
use std::time::Instant;
use testkit::postgres::{LOCKED_ACCOUNT, PostgresServer};

#[tokio::test(flavor = "multi_thread")]
async fn ten_processes_that_start_at_once_migrate_once() {
    let server = PostgresServer::shared();
    let url = server.new_database();
    let starting = (0..10).map(|_| tokio::spawn(PostgresStore::connect(config(&url))));
    let stores = join_all(starting.collect::<Vec<_>>()).await;
    let stores: Vec<_> = stores.into_iter().map(|store| store.unwrap().unwrap()).collect();
    assert_eq!(
        server.sql(database(&url), "SELECT count(*) FROM sessiond.schema_history"),
        "2"
    );
    let now = start();
    let new = log_in(&stores[0], now, 600).await;
    for store in &stores {
        assert_eq!(
            check(store, &new.digest, now).await.unwrap(),
            Some(new.session.live)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f_23_a_newer_schema_is_refused_and_left_as_it_is() {
    let server = PostgresServer::shared();
    let (store, url) = store_on(server).await;
    drop(store);
    server.sql(
        database(&url),
        "INSERT INTO sessiond.schema_history SELECT 9999, 'later', applied_on, checksum FROM sessiond.schema_history \
         WHERE version = 1",
    );
    let refused = PostgresStore::connect(config(&url)).await.unwrap_err();
    assert!(
        matches!(refused, PostgresConnectError::SchemaTooNew { found: 9999, .. }),
        "{refused:?}"
    );
    assert!(PostgresStore::migrate(&config(&url)).await.is_err());
    assert_eq!(
        server.sql(database(&url), "SELECT count(*) FROM sessiond.schema_history"),
        "3"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn f_22_a_process_serves_while_a_newer_release_adds_to_the_schema() {
    let server = PostgresServer::shared();
    let (store, url) = store_on(server).await;
    let now = start();
    let before = log_in(&store, now, 600).await;
    server.sql(
        database(&url),
        "INSERT INTO sessiond.schema_history SELECT 9999, 'later', applied_on, checksum FROM sessiond.schema_history
         WHERE version = 1;
         ALTER TABLE sessiond.sessions ADD COLUMN later text NOT NULL DEFAULT '';
         ALTER TABLE sessiond.users ADD COLUMN later text",
    );
    let after = log_in(&store, now, 600).await;
    for new in [before, after] {
        assert_eq!(
            store.get(&new.digest, now).await.unwrap(),
            Some(new.session.clone())
        );
        let rotation = sessiond::store::Rotation {
            from: new.digest,
            to: super::samples::new_session(new.session.live.user_id, now, 600).digest,
            grace_until: now,
            authenticated_at: None,
        };
        assert_eq!(
            store.rotate(rotation, now).await.unwrap(),
            Some(new.session.clone())
        );
        assert_eq!(
            store
                .revoke_user(new.session.live.user_id, None, now)
                .await
                .unwrap(),
            1
        );
    }
    assert_eq!(UserStore::list(&store, None, 10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_may_only_use_the_schema_is_enough() {
    let server = PostgresServer::shared();
    let (store, url) = store_on(server).await;
    drop(store);
    let role = format!("user_of_{}", database(&url));
    server.sql(
        database(&url),
        &format!(
            "CREATE ROLE {role} LOGIN;
             GRANT USAGE ON SCHEMA sessiond TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sessiond TO {role}"
        ),
    );
    let store = PostgresStore::connect(config(&server.url(&role, database(&url))))
        .await
        .unwrap();
    let now = start();
    let new = log_in(&store, now, 600).await;
    assert_eq!(
        store
            .revoke_user(new.session.live.user_id, None, now)
            .await
            .unwrap(),
        1
    );
    assert_eq!(store.sweep(now, 10).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_an_error_at_the_start() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    let url = format!("postgres://u:secret@127.0.0.1:{port}/x");
    // The listener never accepts: the kernel completes the handshake, and nothing follows.
    let asked_at = Instant::now();
    let hung = PostgresStore::connect(config(&url)).await.unwrap_err();
    assert!(matches!(hung, PostgresConnectError::Unanswered), "{hung:?}");
    assert!(asked_at.elapsed() < FAILED_WITHIN);
    drop(nobody);
    let refused = PostgresStore::connect(config(&url)).await.unwrap_err();
    assert!(matches!(refused, PostgresConnectError::Server(_)), "{refused:?}");
    assert!(!format!("{refused:?} {hung:?}").contains("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_proved_and_never_shown() {
    let server = PostgresServer::shared();
    let url = server.new_database();
    let (account, _) = LOCKED_ACCOUNT;
    let with = |password: &str| {
        let url = server.url(&format!("{account}:{password}"), database(&url));
        PostgresStore::connect(config(&url))
    };
    with("p%26ss%20w%C3%B6rd").await.unwrap();
    let refused = with("guessed").await.unwrap_err();
    let said = format!("{refused} {refused:?}");
    assert!(!said.contains("guessed"), "{said}");
    assert!(said.contains("password authentication failed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f_16_a_server_that_cannot_be_written_to_is_not_used() {
    let server = PostgresServer::shared();
    let (store, url) = store_on(server).await;
    drop(store);
    let name = database(&url);
    server.sql(
        "postgres",
        &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"),
    );
    let refused = PostgresStore::connect(config(&url)).await.unwrap_err();
    assert!(matches!(refused, PostgresConnectError::Server(_)), "{refused:?}");
    // The test can talk to it: it is there, and it is the store that does not want it.
    client(&url).await.query_one("SELECT 1", &[]).await.unwrap();
}
