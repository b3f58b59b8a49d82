//! Touches that are long on their way.

use super::samples::{PATIENCE, check, client, log_in, start, store_on, within};
use sessiond::{domain::LiveSession, store::SessionStore as _};
use std::time::{Duration, Instant};
use testkit::postgres::PostgresServer;

#[tokio::test(flavor = "multi_thread")]
async fn s_10_a_touch_that_the_server_gets_to_too_late_does_nothing() {
    let (store, url) = store_on(PostgresServer::shared()).await;
    let now = start();
    let new = log_in(&store, now, 600).await;
    let other = log_in(&store, now, 600).await;
    let seen_at = now.after(Duration::from_secs(100));

    // The statement waits for a lock for longer than it may take.
    let mut holder = client(&url).await;
    let transaction = holder.transaction().await.unwrap();
    let id = new.session.live.id;
    transaction
        .execute(
            "SELECT 1 FROM sessiond.sessions WHERE id = $1 FOR UPDATE",
            &[id.as_uuid()],
        )
        .await
        .unwrap();
    store.touch(&new.session.live, &new.digest, seen_at);
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%seen%'";
    let observer = client(&url).await;
    within(PATIENCE, "the touch at the lock", async || {
        let row = observer.query_one(waiting, &[]).await.unwrap();
        (row.get::<_, i64>(0) == 1).then_some(())
    })
    .await;
    let held_since = Instant::now();
    within(PATIENCE, "time", async || {
        (held_since.elapsed() > Duration::from_millis(550)).then_some(())
    })
    .await;
    transaction.rollback().await.unwrap();

    // A later touch of another session is written after it.
    within(PATIENCE, "the other touch", async || {
        store.touch(&other.session.live, &other.digest, seen_at);
        let live = check(&store, &other.digest, seen_at).await.unwrap()?;
        (live.last_seen_at == seen_at).then_some(())
    })
    .await;
    let live = check(&store, &new.digest, seen_at).await.unwrap();
    assert_eq!(live, Some(new.session.live), "the late touch counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn s_08_a_session_that_expired_while_its_touch_was_gathered_stays_dead() {
    let (store, _) = store_on(PostgresServer::shared()).await;
    let now = start();
    let new = log_in(&store, now, 2).await;
    let other = log_in(&store, now, 600).await;
    // One millisecond before its end: by the time this is written, the session has ended.
    let end = new.session.live.valid_until();
    store.touch(
        &new.session.live,
        &new.digest,
        end.before(Duration::from_millis(1)),
    );
    let seen_at = now.after(Duration::from_secs(100));
    store.touch(&other.session.live, &other.digest, seen_at);
    within(PATIENCE, "the other touch", async || {
        let live = check(&store, &other.digest, seen_at).await.unwrap()?;
        (live.last_seen_at == seen_at).then_some(())
    })
    .await;
    assert_eq!(check(&store, &new.digest, end).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn touches_survive_a_short_absence_of_the_server() {
    let server = PostgresServer::start();
    let (store, _) = store_on(&server).await;
    let now = start();
    let new = log_in(&store, now, 600).await;
    let seen_at = now.after(Duration::from_secs(100));
    server.kill();
    store.touch(&new.session.live, &new.digest, seen_at);
    server.start_again();
    within(PATIENCE, "the touch", async || {
        let live = check(&store, &new.digest, seen_at).await.ok()??;
        assert_eq!(
            LiveSession {
                last_seen_at: now,
                ..live
            },
            new.session.live
        );
        (live.last_seen_at == seen_at).then_some(())
    })
    .await;
}
