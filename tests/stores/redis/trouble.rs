//! A server that dies, hangs, forgets, or is behind a network that does.

use super::samples::{
    AT_ONCE, FAILED_WITHIN, PATIENCE, TIMEOUT, check, digest, lives, log_in, new_session, start, store_at,
    try_log_in, user_id, within,
};
use futures_util::future::join_all;
use sessiond::{
    domain::{Revocation, Timestamp},
    store::{NewSession, RevocationEvent, Rotation, SessionKey, SessionStore, StoreError, redis::RedisStore},
};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use testkit::{
    proxy::{Conduct, Proxy},
    redis::{RedisCluster, RedisServer},
};

/// One call of every kind, each of which must fail, and how long the slowest took.
async fn slowest_failure(store: &RedisStore, new: &NewSession, now: Timestamp) -> Duration {
    fn failed<T: std::fmt::Debug>(answer: Result<T, StoreError>) {
        answer.expect_err("a server that is away has no answer");
    }
    let live = new.session.live;
    let rotation = Rotation {
        from: new.digest,
        to: digest(),
        grace_until: now,
        authenticated_at: None,
    };
    let asked_at = Instant::now();
    tokio::join!(
        async { failed(check(store, &new.digest, now).await) },
        async { failed(store.get(&new.digest, now).await) },
        async { failed(store.epoch(live.user_id).await) },
        async { failed(store.create(new.clone(), now).await) },
        async { failed(store.rotate(rotation, now).await) },
        async { failed(store.destroy(SessionKey::Token(new.digest), now).await) },
        async { failed(store.destroy(SessionKey::Id(live.id), now).await) },
        async { failed(store.list(live.user_id, None, 10, now).await) },
        async { failed(store.revoke_user(live.user_id, None, now).await) },
        async { failed(store.revoke_everyone(now).await) },
        async { failed(store.sweep(now, 10).await) },
        async { failed(store.count(now).await) },
        async { failed(store.ping().await) },
    );
    asked_at.elapsed()
}

/// Waits until the store answers everything again, and checks that it answers right.
async fn recovers(store: &RedisStore) -> NewSession {
    let now = start();
    within(PATIENCE, "the store's recovery", async || {
        store.ping().await.ok()?;
        let new = try_log_in(store, user_id(), now).await.ok()?;
        let found = check(store, &new.digest, now).await.ok()?;
        assert_eq!(found, Some(new.session.live));
        Some(new)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_10_a_killed_server_is_an_error_at_once_and_the_store_recovers() {
    let mut server = RedisServer::start_durable();
    let store = store_at(&server.url()).await;
    let now = start();
    let new = log_in(&store, user_id(), now).await;
    for _ in 0..2 {
        server.kill();
        assert!(slowest_failure(&store, &new, now).await < FAILED_WITHIN);
        // Once the server is known to be away, no call waits for it.
        within(PATIENCE, "failing at once", async || {
            (slowest_failure(&store, &new, now).await < AT_ONCE).then_some(())
        })
        .await;
        server.run();
        recovers(&store).await;
        assert!(lives(&store, &new.digest, now).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_11_a_hung_server_is_an_error_and_no_late_reply_reaches_another() {
    let server = RedisServer::start();
    let store = Arc::new(store_at(&server.url()).await);
    let now = start();
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(log_in(&store, user_id(), now).await);
    }
    for _ in 0..2 {
        server.hang();
        let asked = sessions
            .iter()
            .cycle()
            .take(200)
            .map(|new| check(&store, &new.digest, now));
        let asked_at = Instant::now();
        for answer in join_all(asked).await {
            answer.expect_err("a server that hangs has no answer");
        }
        assert!(asked_at.elapsed() < FAILED_WITHIN);
        server.go_on();
        recovers(&store).await;
        for new in &sessions {
            let found = check(&store, &new.digest, now).await.unwrap();
            assert_eq!(found, Some(new.session.live));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_11_a_hung_node_of_a_cluster_is_an_error_in_time_and_the_others_go_on() {
    let cluster = RedisCluster::start_with(&["--save", "", "--cluster-require-full-coverage", "no"]);
    let store = store_at(&cluster.url()).await;
    let now = start();
    let mut sessions = Vec::new();
    for _ in 0..90 {
        sessions.push(log_in(&store, user_id(), now).await);
    }
    cluster.nodes[1].hang();
    let mut answered = 0;
    for _ in 0..3 {
        let asked_at = Instant::now();
        let answers = join_all(sessions.iter().map(|new| check(&store, &new.digest, now))).await;
        assert!(asked_at.elapsed() < FAILED_WITHIN, "{:?}", asked_at.elapsed());
        let known = answers
            .iter()
            .zip(&sessions)
            .filter(|(answer, new)| match answer {
                Ok(found) => {
                    assert_eq!(*found, Some(new.session.live));
                    true
                }
                Err(_) => false,
            });
        answered = known.count();
        assert!(answered < 80, "a third of the sessions is out of reach");
    }
    assert!(
        answered > 40,
        "only {answered} of 90 were answered by the other nodes"
    );
    store.ping().await.unwrap_err();
    cluster.nodes[1].go_on();
    recovers(&store).await;
    for new in &sessions {
        assert!(lives(&store, &new.digest, now).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_10_a_cluster_that_was_killed_comes_back_by_itself() {
    let mut cluster =
        RedisCluster::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    let store = store_at(&cluster.url()).await;
    let now = start();
    let new = log_in(&store, user_id(), now).await;
    cluster.nodes.iter_mut().for_each(RedisServer::kill);
    assert!(slowest_failure(&store, &new, now).await < TIMEOUT * 2);
    cluster.nodes.iter_mut().for_each(RedisServer::run);
    for node in &cluster.nodes {
        testkit::waiting::until("the Cluster to agree again", || {
            let info: String = node.try_ask(&["CLUSTER", "INFO"])?;
            info.contains("cluster_state:ok").then_some(())
        });
    }
    recovers(&store).await;
    assert!(lives(&store, &new.digest, now).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_12_callers_that_stop_waiting_leave_nobody_with_the_wrong_answer() {
    let server = RedisServer::start();
    let proxy = Proxy::to(SocketAddr::from(([127, 0, 0, 1], server.port)));
    let store = Arc::new(store_at(&format!("redis://{}", proxy.address())).await);
    let now = start();
    let mut sessions = Vec::new();
    for _ in 0..50 {
        sessions.push(log_in(&store, user_id(), now).await);
    }
    proxy.set(Conduct::Delay(Duration::from_millis(5)));
    let sessions = Arc::new(sessions);
    let callers = (0..64_usize).map(|caller| {
        let (store, sessions) = (Arc::clone(&store), Arc::clone(&sessions));
        tokio::spawn(async move {
            let mut answered = 0;
            for turn in 0..60 {
                let new = &sessions[(caller * 7 + turn) % sessions.len()];
                let patience = Duration::from_micros((caller * 613 + turn * 977) as u64 % 25_000);
                let asked = tokio::time::timeout(patience, check(&store, &new.digest, now));
                if let Ok(answer) = asked.await {
                    assert_eq!(answer.unwrap(), Some(new.session.live));
                    answered += 1;
                }
            }
            answered
        })
    });
    let answered: usize = join_all(callers.collect::<Vec<_>>())
        .await
        .into_iter()
        .map(Result::unwrap)
        .sum();
    assert!(
        (1..64 * 60).contains(&answered),
        "some of {answered} must be cut off, and some not"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_17_a_connection_that_nothing_comes_through_any_more_is_replaced() {
    let server = RedisServer::start();
    let proxy = Proxy::to(SocketAddr::from(([127, 0, 0, 1], server.port)));
    let store = store_at(&format!("redis://{}", proxy.address())).await;
    let now = start();
    let new = log_in(&store, user_id(), now).await;
    for conduct in [
        Conduct::HoldAll,
        Conduct::HoldReplies,
        Conduct::HoldRequests,
        Conduct::Refuse,
    ] {
        proxy.set(conduct);
        for _ in 0..2 {
            let took = slowest_failure(&store, &new, now).await;
            assert!(took < FAILED_WITHIN, "{took:?}");
        }
        proxy.set(Conduct::Pass);
        recovers(&store).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_10_a_server_that_is_away_is_not_stormed() {
    let mut server = RedisServer::start();
    let proxy = Proxy::to(SocketAddr::from(([127, 0, 0, 1], server.port)));
    let store = store_at(&format!("redis://{}", proxy.address())).await;
    let now = start();
    let new = log_in(&store, user_id(), now).await;
    server.kill();
    proxy.cut();
    let before = proxy.opened();
    let asked_at = Instant::now();
    while asked_at.elapsed() < Duration::from_secs(2) {
        let _ = join_all((0..50).map(|_| check(&store, &new.digest, now))).await;
    }
    // Three connections (two for requests, one for the log), each a few times in two seconds.
    let opened = proxy.opened() - before;
    assert!(opened < 40, "{opened} connections in two seconds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_15_a_server_that_writes_before_it_answers_loses_and_revives_nothing() {
    let mut server = RedisServer::start_durable();
    let store = Arc::new(store_at(&server.url()).await);
    let now = start();
    for _ in 0..5 {
        let callers = (0..8).map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                // What was acknowledged, until the server died in the middle of something.
                let (mut living, mut dead) = (Vec::new(), Vec::new());
                loop {
                    let Ok(new) = try_log_in(&store, user_id(), now).await else {
                        return (living, dead);
                    };
                    if living.len() % 2 == 0 {
                        living.push(new.digest);
                        continue;
                    }
                    match store.destroy(SessionKey::Token(new.digest), now).await {
                        Ok(destroyed) => {
                            assert!(destroyed.is_some());
                            dead.push(new.digest);
                            living.push(log_in_or(&store, now).await.unwrap_or(living[0]));
                        }
                        Err(_) => return (living, dead),
                    }
                }
            })
        });
        let callers: Vec<_> = callers.collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.kill();
        let acknowledged = join_all(callers).await;
        server.run();
        recovers(&store).await;
        for (living, dead) in acknowledged.into_iter().map(Result::unwrap) {
            assert!(!living.is_empty() && !dead.is_empty());
            for digest in living {
                assert!(
                    lives(&store, &digest, now).await,
                    "an acknowledged session is lost"
                );
            }
            for digest in dead {
                assert!(
                    !lives(&store, &digest, now).await,
                    "a destroyed session lives again"
                );
            }
        }
    }
}

async fn log_in_or(store: &RedisStore, now: Timestamp) -> Option<sessiond::domain::TokenDigest> {
    Some(try_log_in(store, user_id(), now).await.ok()?.digest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_the_log_forget_when_the_server_starts_again() {
    let mut server = RedisServer::start_durable();
    let store = store_at(&server.url()).await;
    let now = start();
    let log = store.revocations();
    let mut reader = log.read(Some(log.head()));
    server.kill();
    server.run();
    let told = tokio::time::timeout(PATIENCE, reader.next(10)).await.unwrap();
    assert_eq!(told[0].1, RevocationEvent::Forget);
    let new = recovers(&store).await;
    store
        .destroy(SessionKey::Token(new.digest), now)
        .await
        .unwrap()
        .unwrap();
    let expected = Revocation::Session {
        session: new.session.live.id,
        user: new.session.live.user_id,
    };
    loop {
        let told = tokio::time::timeout(PATIENCE, reader.next(1)).await.unwrap();
        if told[0].1 == RevocationEvent::Revoked(expected) {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_read_is_not_said_to_be_complete() {
    let server = RedisServer::start();
    let store = store_at(&server.url()).await;
    let log = store.revocations();
    within(PATIENCE, "a first confirmation", async || {
        (log.complete_until() != i64::MIN).then_some(())
    })
    .await;
    server.hang();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let known = log.complete_until();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(log.complete_until(), known);
    server.go_on();
    within(PATIENCE, "a log that is complete further on", async || {
        (log.complete_until() > known).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_entries_are_gone_is_not_skipped_in_silence() {
    let server = RedisServer::start();
    let proxy = Proxy::to(SocketAddr::from(([127, 0, 0, 1], server.port)));
    let (near, far) = (
        store_at(&server.url()).await,
        store_at(&format!("redis://{}", proxy.address())).await,
    );
    let mut reader = far.revocations().read(Some(far.revocations().head()));
    proxy.set(Conduct::Refuse);
    let now = start();
    for _ in 0..3 {
        let new = log_in(&near, user_id(), now).await;
        near.destroy(SessionKey::Token(new.digest), now)
            .await
            .unwrap()
            .unwrap();
    }
    server.ask::<u64>(&["XTRIM", "sessiond:{log}stream", "MAXLEN", "1"]);
    proxy.set(Conduct::Pass);
    let told = tokio::time::timeout(PATIENCE, reader.next(10)).await.unwrap();
    assert_eq!(told[0].1, RevocationEvent::Forget);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_the_server_has_forgotten_are_loaded_again() {
    let server = RedisServer::start();
    let store = store_at(&server.url()).await;
    let now = start();
    let new = log_in(&store, user_id(), now).await;
    server.ask::<()>(&["SCRIPT", "FLUSH"]);
    let next = new_session(&store, user_id(), now).await.unwrap();
    store.create(next.clone(), now).await.unwrap();
    assert!(lives(&store, &next.digest, now).await);
    assert!(lives(&store, &new.digest, now).await);
}
