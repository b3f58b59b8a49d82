//! Checks from threads with a runtime of their own, as the service has them: each such thread has a connection of its own.

use super::samples::{
    AT_ONCE, FAILED_WITHIN, PATIENCE, check, database, log_in, new_session, start, store_on, user_id, within,
};
use futures_util::future::join_all;
use sessiond::store::{NewSession, PostgresStore, Rotation, SessionKey, SessionStore};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use testkit::postgres::PostgresServer;
use tokio::runtime::{Builder, Handle};

/// Runs on a thread with a runtime of its own, and says what came of it.
async fn on_a_worker<T: Send + 'static>(work: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let worker = move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work())
    };
    tokio::task::spawn_blocking(worker).await.unwrap()
}

async fn some_sessions(store: &PostgresStore, count: usize) -> Arc<Vec<NewSession>> {
    let mut sessions = Vec::new();
    for _ in 0..count {
        sessions.push(log_in(store, start(), 600).await);
    }
    Arc::new(sessions)
}

fn connections(server: &PostgresServer, url: &str) -> usize {
    let counted = server.sql(
        "postgres",
        &format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'sessiond'",
            database(url)
        ),
    );
    counted.parse().unwrap()
}

async fn find(store: &PostgresStore, sessions: &[NewSession]) -> Option<()> {
    for new in sessions {
        let found = check(store, &new.digest, start()).await.ok()?;
        assert_eq!(found, Some(new.session.live));
    }
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_with_its_own_runtime_has_one_connection_until_it_is_closed() {
    let server = PostgresServer::shared();
    let (store, url) = store_on(server).await;
    let store = Arc::new(store);
    let sessions = some_sessions(&store, 10).await;
    let before = connections(server, &url);
    let (checked, of) = (Arc::clone(&store), url.clone());
    on_a_worker(async move || {
        let more = within(PATIENCE, "a connection of its own", async || {
            find(&checked, &sessions).await.unwrap();
            let more = connections(server, &of) - before;
            (more > 0).then_some(more)
        });
        assert_eq!(more.await, 1);
        checked.close_thread_connections();
        within(PATIENCE, "an end of all tasks", async || {
            (Handle::current().metrics().num_alive_tasks() == 0).then_some(())
        })
        .await;
        find(&checked, &sessions).await.unwrap();
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    })
    .await;
    within(PATIENCE, "one connection less", async || {
        (connections(server, &url) == before).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_10_f_11_a_dead_or_hung_server_is_an_error_on_a_threads_connection() {
    let server = PostgresServer::start();
    let (store, url) = store_on(&server).await;
    let store = Arc::new(store);
    let sessions = some_sessions(&store, 10).await;
    let shared = connections(&server, &url);
    on_a_worker(async move || {
        let all_fail = async || {
            let asked_at = Instant::now();
            let asked = sessions.iter().cycle().take(100);
            for answer in join_all(asked.map(|new| check(&store, &new.digest, start()))).await {
                answer.expect_err("a server that is away has no answer");
            }
            asked_at.elapsed()
        };
        let recovers = async || {
            within(PATIENCE, "the store's recovery", async || {
                find(&store, &sessions).await
            })
            .await;
            // The thread's own connection is there again as well.
            within(PATIENCE, "all connections", async || {
                (connections(&server, &url) > shared).then_some(())
            })
            .await;
        };
        recovers().await;
        server.pause();
        assert!(all_fail().await < FAILED_WITHIN);
        server.resume();
        recovers().await;
        server.kill();
        within(PATIENCE, "noticing", async || {
            (all_fail().await < AT_ONCE).then_some(())
        })
        .await;
        server.start_again();
        recovers().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_12_on_a_threads_connection_every_answer_reaches_its_own_caller() {
    let (store, _) = store_on(PostgresServer::shared()).await;
    let store = Arc::new(store);
    let sessions = some_sessions(&store, 16).await;
    on_a_worker(async move || {
        let callers = (0..64_usize).map(|caller| {
            let (store, sessions) = (Arc::clone(&store), Arc::clone(&sessions));
            tokio::spawn(async move {
                let mut answered = 0;
                for turn in 0..60 {
                    let new = &sessions[(caller * 7 + turn) % sessions.len()];
                    let patience = Duration::from_micros((caller * 613 + turn * 977) as u64 % 5_000);
                    let asked = tokio::time::timeout(patience, check(&store, &new.digest, start()));
                    if let Ok(answer) = asked.await {
                        assert_eq!(answer.unwrap(), Some(new.session.live));
                        answered += 1;
                    }
                }
                answered
            })
        });
        let answered: usize = join_all(callers).await.into_iter().map(Result::unwrap).sum();
        assert!(answered > 100, "{answered}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_that_are_asked_together_each_get_their_own_answer() {
    let (store, _) = store_on(PostgresServer::shared()).await;
    let now = start();
    let sessions = some_sessions(&store, 40).await;
    let rotation = Rotation {
        from: sessions[0].digest,
        to: new_session(user_id(), now, 600).digest,
        grace_until: now.after(Duration::from_secs(5)),
        authenticated_at: None,
    };
    store.rotate(rotation, now).await.unwrap().unwrap();
    let ended = sessions[1].digest;
    store
        .destroy(SessionKey::Token(ended), now)
        .await
        .unwrap()
        .unwrap();
    let unknown = new_session(user_id(), now, 600).digest;

    let digests: Vec<_> = sessions.iter().map(|new| new.digest).collect();
    let asked: Vec<_> = [&digests[..], &[rotation.to, unknown], &digests].concat();
    let answers = join_all(asked.iter().map(|digest| check(&store, digest, now))).await;
    for (digest, found) in asked.iter().zip(answers) {
        let found = found.unwrap();
        let number = digests.iter().position(|known| known == digest);
        match number {
            Some(0) => {
                let found = found.unwrap();
                assert_eq!(found.id, sessions[0].session.live.id);
                assert_eq!(found.grace_ends_at, Some(rotation.grace_until));
            }
            Some(1) => assert_eq!(found, None),
            Some(number) => assert_eq!(found, Some(sessions[number].session.live)),
            None if *digest == rotation.to => assert_eq!(found, Some(sessions[0].session.live)),
            None => assert_eq!(found, None),
        }
    }
    store.revoke_everyone(now).await.unwrap();
    for found in join_all(asked.iter().map(|digest| check(&store, digest, now))).await {
        assert_eq!(found.unwrap(), None);
    }
}
