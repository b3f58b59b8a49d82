//! Sweeping beside everything else.

use super::samples::{PATIENCE, check, client, database, log_in, start, store_on, within};
use sessiond::store::SessionStore;
use std::time::Duration;
use testkit::postgres::PostgresServer;

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_waits_for_nobody() {
    let (store, url) = store_on(PostgresServer::shared()).await;
    let now = start();
    let held = log_in(&store, now, 60).await;
    for _ in 0..5 {
        log_in(&store, now, 60).await;
    }
    let mut holder = client(&url).await;
    let transaction = holder.transaction().await.unwrap();
    let id = held.session.live.id;
    transaction
        .execute(
            "SELECT 1 FROM sessiond.sessions WHERE id = $1 FOR UPDATE",
            &[id.as_uuid()],
        )
        .await
        .unwrap();
    let later = now.after(Duration::from_secs(60));
    assert_eq!(store.sweep(later, 100).await.unwrap(), 5);
    transaction.rollback().await.unwrap();
    assert_eq!(store.sweep(later, 100).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_at_a_time_sweeps() {
    let server = PostgresServer::shared();
    let (store, url) = store_on(server).await;
    let now = start();
    log_in(&store, now, 60).await;
    let mut other = client(&url).await;
    let sweeping = other.transaction().await.unwrap();
    sweeping
        .execute("SELECT pg_advisory_xact_lock(8315178135962050929)", &[])
        .await
        .unwrap();
    let later = now.after(Duration::from_secs(60));
    assert_eq!(store.sweep(later, 100).await.unwrap(), 0);
    sweeping.rollback().await.unwrap();
    assert_eq!(store.sweep(later, 100).await.unwrap(), 1);
    assert_eq!(
        server.sql(database(&url), "SELECT count(*) FROM sessiond.sessions"),
        "0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_everyones_revocation_ended_is_freed_when_it_would_have_expired() {
    let server = PostgresServer::shared();
    let (store, url) = store_on(server).await;
    let now = start();
    for _ in 0..3 {
        log_in(&store, now, 60).await;
    }
    assert_eq!(store.revoke_everyone(now).await.unwrap(), 3);
    let kept = log_in(&store, now, 600).await;
    assert_eq!(
        store
            .sweep(now.after(Duration::from_secs(60)), 100)
            .await
            .unwrap(),
        3
    );
    assert_eq!(
        server.sql(database(&url), "SELECT count(*) FROM sessiond.sessions"),
        "1"
    );
    assert!(check(&store, &kept.digest, now).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_touched_is_looked_at_again_when_it_may_have_ended() {
    let server = PostgresServer::shared();
    let (store, url) = store_on(server).await;
    let now = start();
    let new = log_in(&store, now, 60).await;
    let after = |secs| now.after(Duration::from_secs(secs));
    store.touch(&new.session.live, &new.digest, after(40));
    within(PATIENCE, "the touch", async || {
        let live = check(&store, &new.digest, after(40)).await.unwrap()?;
        (live.last_seen_at == after(40)).then_some(())
    })
    .await;
    assert_eq!(store.sweep(after(60), 100).await.unwrap(), 0);
    assert!(check(&store, &new.digest, after(99)).await.unwrap().is_some());
    assert_eq!(store.sweep(after(100), 100).await.unwrap(), 1);
    assert_eq!(
        server.sql(database(&url), "SELECT count(*) FROM sessiond.sessions"),
        "0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_live_on_do_not_hide_those_that_have_ended() {
    let (store, _) = store_on(PostgresServer::shared()).await;
    let now = start();
    let after = |secs| now.after(Duration::from_secs(secs));
    let mut touched = Vec::new();
    for _ in 0..4 {
        touched.push(log_in(&store, now, 60).await);
    }
    log_in(&store, after(10), 60).await;
    for new in &touched {
        store.touch(&new.session.live, &new.digest, after(40));
        within(PATIENCE, "the touch", async || {
            let live = check(&store, &new.digest, after(40)).await.unwrap()?;
            (live.last_seen_at == after(40)).then_some(())
        })
        .await;
    }
    // The four are first in turn, and one is looked at in a step.
    assert_eq!(store.sweep(after(75), 1).await.unwrap(), 1);
    assert_eq!(SessionStore::count(&store, after(75)).await.unwrap(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_keeps_its_end_only() {
    let server = PostgresServer::shared();
    let (store, url) = store_on(server).await;
    server.sql(
        database(&url),
        "BEGIN; UPDATE sessiond.revocation_log SET sequence = 270000;
         INSERT INTO sessiond.revocations SELECT n, false FROM generate_series(1, 270000) n; COMMIT",
    );
    for _ in 0..3 {
        store.sweep(start(), 100).await.unwrap();
    }
    let ends = server.sql(
        database(&url),
        "SELECT min(sequence), max(sequence) FROM sessiond.revocations",
    );
    assert_eq!(ends, "7857|270000");
}
