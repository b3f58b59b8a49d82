//! A server that dies, hangs, or keeps somebody waiting.

use super::samples::{
    AT_ONCE, FAILED_WITHIN, PATIENCE, check, client, database, log_in, new_session, start, store_on, user_id,
    within,
};
use futures_util::future::join_all;
use sessiond::{
    domain::Timestamp,
    store::{NewSession, PostgresStore, SessionKey, SessionStore, StoreError, UserStore},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use testkit::postgres::PostgresServer;

/// One call of every kind, each of which must fail, and how long the slowest took.
async fn slowest_failure(store: &PostgresStore, new: &NewSession, now: Timestamp) -> Duration {
    fn failed<T: std::fmt::Debug>(answer: Result<T, StoreError>) {
        answer.expect_err("a server that is away has no answer");
    }
    let live = new.session.live;
    let asked_at = Instant::now();
    tokio::join!(
        async { failed(check(store, &new.digest, now).await) },
        async { failed(store.get(&new.digest, now).await) },
        async { failed(store.epoch(live.user_id).await) },
        async { failed(store.create(new_session(user_id(), now, 600), now).await) },
        async { failed(store.destroy(SessionKey::Id(live.id), now).await) },
        async { failed(SessionStore::list(store, live.user_id, None, 10, now).await) },
        async { failed(store.revoke_user(live.user_id, None, now).await) },
        async { failed(store.by_id(live.user_id).await) },
        async { failed(UserStore::delete(store, live.user_id).await) },
        async { failed(UserStore::ping(store).await) },
    );
    asked_at.elapsed()
}

/// Waits until both kinds of connections answer again, and checks that they answer right.
async fn recovers(store: &PostgresStore, new: &NewSession, now: Timestamp) -> Duration {
    let asked_at = Instant::now();
    within(PATIENCE, "the store's recovery", async || {
        let found = check(store, &new.digest, now).await.ok()?;
        assert_eq!(found, Some(new.session.live));
        store.get(&new.digest, now).await.ok()?;
        SessionStore::count(store, now).await.ok()?;
        Some(())
    })
    .await;
    let took = asked_at.elapsed();
    log_in(store, now, 600).await;
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn f_10_a_killed_server_is_an_error_at_once_and_the_store_recovers() {
    let server = PostgresServer::start();
    let (store, _) = store_on(&server).await;
    let now = start();
    let new = log_in(&store, now, 600).await;
    for _ in 0..2 {
        server.kill();
        // The connections notice by themselves; from then on no call waits.
        within(PATIENCE, "noticing", async || {
            let asked_at = Instant::now();
            slowest_failure(&store, &new, now).await;
            (asked_at.elapsed() < AT_ONCE).then_some(())
        })
        .await;
        server.start_again();
        recovers(&store, &new, now).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f_11_a_hung_server_is_an_error_in_time_and_the_store_recovers() {
    let server = PostgresServer::start();
    let (store, url) = store_on(&server).await;
    let now = start();
    let new = log_in(&store, now, 600).await;
    server.pause();
    let took = slowest_failure(&store, &new, now).await;
    assert!(took < FAILED_WITHIN, "{took:?}");
    let confirmed_at = store.revocations().complete_until();
    let took = slowest_failure(&store, &new, now).await;
    assert!(took < FAILED_WITHIN, "{took:?}");
    // What the log holds is not taken for complete meanwhile.
    assert_eq!(store.revocations().complete_until(), confirmed_at);
    server.resume();
    // The statements whose callers gave up may still have run: the session may have been ended by one of them.
    let again = within(PATIENCE, "the first log-in", async || {
        let mut new = new_session(user_id(), now, 600);
        new.epoch = store.epoch(new.session.live.user_id).await.ok()?;
        store.create(new.clone(), now).await.ok()?;
        Some(new)
    });
    let again = again.await;
    recovers(&store, &again, now).await;
    within(PATIENCE, "a current log", async || {
        (store.revocations().complete_until() > confirmed_at).then_some(())
    })
    .await;
    let connections = server.sql(
        "postgres",
        &format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'sessiond'",
            database(&url)
        ),
    );
    assert!(
        connections.parse::<u32>().unwrap() <= 13,
        "{connections} connections"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn f_12_callers_that_stop_waiting_leave_every_answer_to_whom_it_belongs() {
    let (store, _) = store_on(PostgresServer::shared()).await;
    let store = Arc::new(store);
    let now = start();
    let mut sessions = Vec::new();
    for _ in 0..16 {
        sessions.push(log_in(&store, now, 600).await);
    }
    let sessions = Arc::new(sessions);
    let callers = (0..32_usize).map(|caller| {
        let (store, sessions) = (Arc::clone(&store), Arc::clone(&sessions));
        tokio::spawn(async move {
            let (mut answered, mut cut) = (0_u32, 0_u32);
            // Finds by itself how long an answer takes here: about half of the calls are cut off, at every point.
            let mut longest = 500.0_f64;
            for turn in 0_usize.. {
                if answered >= 300 && cut >= 300 {
                    break;
                }
                let new = &sessions[(caller * 7 + turn) % sessions.len()];
                let patience = Duration::from_secs_f64(longest * ((turn * 17) % 97) as f64 / 97e6);
                let asked = async {
                    match turn % 8 {
                        0 => Ok(store.get(&new.digest, now).await?.map(|got| got.live)),
                        _ => check(&store, &new.digest, now).await,
                    }
                };
                match tokio::time::timeout(patience, asked).await {
                    Ok(answer) => {
                        assert_eq!(answer.unwrap(), Some(new.session.live), "somebody else's answer");
                        answered += 1;
                        longest = (longest * 0.97).max(1.0);
                    }
                    Err(_) => {
                        cut += 1;
                        longest = (longest * 1.03).min(1e6);
                    }
                }
            }
        })
    });
    for outcome in join_all(callers.collect::<Vec<_>>()).await {
        outcome.unwrap();
    }
    for new in sessions.iter() {
        assert_eq!(
            check(&store, &new.digest, now).await.unwrap(),
            Some(new.session.live)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f_12_a_connection_with_an_unread_reply_is_lent_to_nobody() {
    let (store, url) = store_on(PostgresServer::shared()).await;
    let now = start();
    let held = log_in(&store, now, 600).await;
    let other = log_in(&store, now, 600).await;
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
    // The caller of this one has given up, and its answer comes when the server gives up waiting for the lock.
    let abandoned = store.destroy(SessionKey::Id(id), now);
    tokio::time::timeout(Duration::from_millis(100), abandoned)
        .await
        .unwrap_err();
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let observer = client(&url).await;
    let is_under_way = async || observer.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 1;
    assert!(is_under_way().await);
    // More calls, one after the other, than there are connections: one of them would stand behind that answer.
    for _ in 0..20 {
        assert!(store.get(&other.digest, now).await.unwrap().is_some());
    }
    assert!(
        is_under_way().await,
        "some call has waited for the answer to another"
    );
    transaction.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_waits_too_long_fails_alone() {
    let (store, url) = store_on(PostgresServer::shared()).await;
    let now = start();
    let held = log_in(&store, now, 600).await;
    let other = log_in(&store, now, 600).await;
    let mut holder = client(&url).await;
    let transaction = holder.transaction().await.unwrap();
    let id = held.session.live.id;
    let held_rows = transaction
        .execute(
            "SELECT 1 FROM sessiond.sessions WHERE id = $1 FOR UPDATE",
            &[id.as_uuid()],
        )
        .await
        .unwrap();
    assert_eq!(held_rows, 1);

    let asked_at = Instant::now();
    let destroying = store.destroy(SessionKey::Id(id), now);
    let checking = async {
        // A check waits for no lock, and neither does anything else of other sessions.
        for _ in 0..50 {
            assert!(check(&store, &held.digest, now).await.unwrap().is_some());
            assert!(store.get(&other.digest, now).await.unwrap().is_some());
        }
    };
    let (destroyed, ()) = tokio::join!(destroying, checking);
    let refused = destroyed.unwrap_err();
    assert!(asked_at.elapsed() < FAILED_WITHIN);
    let cause = std::error::Error::source(&refused).unwrap().to_string();
    assert!(cause.contains("lock timeout"), "{cause}");
    transaction.rollback().await.unwrap();
    assert_eq!(
        store.destroy(SessionKey::Id(id), now).await.unwrap(),
        Some((id, held.session.live.user_id))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_more_callers_than_connections_all_get_their_turn() {
    let (store, _) = store_on(PostgresServer::shared()).await;
    let store = Arc::new(store);
    let now = start();
    let callers = (0..300).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { log_in(&store, now, 600).await.digest })
    });
    for digest in join_all(callers.collect::<Vec<_>>()).await {
        assert!(check(&store, &digest.unwrap(), now).await.unwrap().is_some());
    }
}
