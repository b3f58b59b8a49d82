//! Checks from threads with a runtime of their own, as the service has them: each such thread has a connection of its own.

use super::samples::{
    AT_ONCE, FAILED_WITHIN, PATIENCE, check, lives, log_in, start, store_at, user_id, within,
};
use futures_util::future::join_all;
use sessiond::store::{NewSession, SessionStore, redis::RedisStore};
use std::{
    cell::RefCell,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use testkit::{
    proxy::{Conduct, Proxy},
    redis::{RedisCluster, RedisServer},
};
use tokio::runtime::{Builder, Handle};

/// Runs on a thread with a runtime of its own, and says what came of it.
async fn on_a_worker<T: Send + 'static>(work: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let worker = move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work())
    };
    tokio::task::spawn_blocking(worker).await.unwrap()
}

async fn some_sessions(store: &RedisStore, count: usize) -> Arc<Vec<NewSession>> {
    let mut sessions = Vec::new();
    for _ in 0..count {
        let new = log_in(store, user_id(), start()).await;
        // A check finds out whose it is; those that follow are asked together.
        assert!(lives(store, &new.digest, start()).await);
        sessions.push(new);
    }
    Arc::new(sessions)
}

fn connections(server: &RedisServer) -> usize {
    let list: String = server.ask(&["CLIENT", "LIST", "TYPE", "normal"]);
    list.lines().count()
}

async fn find(store: &RedisStore, sessions: &[NewSession]) {
    for new in sessions {
        let found = check(store, &new.digest, start()).await.unwrap();
        assert_eq!(found, Some(new.session.live));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_with_its_own_runtime_has_one_connection_until_it_is_closed() {
    let server = Arc::new(RedisServer::start());
    let store = Arc::new(store_at(&server.url()).await);
    let sessions = some_sessions(&store, 20).await;
    let before = connections(&server);
    let (checked, seen_by) = (Arc::clone(&store), Arc::clone(&server));
    on_a_worker(async move || {
        let more = within(PATIENCE, "a connection of its own", async || {
            find(&checked, &sessions).await;
            let more = connections(&seen_by) - before;
            (more > 0).then_some(more)
        });
        assert_eq!(more.await, 1);
        checked.close_thread_connections();
        within(PATIENCE, "an end of all tasks", async || {
            (Handle::current().metrics().num_alive_tasks() == 0).then_some(())
        })
        .await;
        find(&checked, &sessions).await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    })
    .await;
    within(PATIENCE, "one connection less", async || {
        (connections(&server) == before).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_ends_takes_nobody_elses_checks_with_it() {
    let server = RedisServer::start();
    let store = Arc::new(store_at(&server.url()).await);
    let sessions = some_sessions(&store, 20).await;
    for _ in 0..3 {
        let (checked, asked) = (Arc::clone(&store), Arc::clone(&sessions));
        tokio::task::spawn_blocking(move || {
            // Two after each other on one thread, the first of which still exists while the second one asks.
            let runtimes = [(); 2].map(|()| Builder::new_current_thread().enable_all().build().unwrap());
            for runtime in &runtimes {
                runtime.block_on(async {
                    for _ in 0..3 {
                        find(&checked, &asked).await;
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                });
            }
        })
        .await
        .unwrap();
    }
    find(&store, &sessions).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_10_f_11_a_dead_or_hung_server_is_an_error_on_a_threads_connection() {
    let server = RedisServer::start_durable();
    let store = Arc::new(store_at(&server.url()).await);
    let sessions = some_sessions(&store, 20).await;
    let shared = connections(&server);
    on_a_worker(async move || {
        let server = RefCell::new(server);
        let all_fail = async || {
            let asked_at = Instant::now();
            let asked = sessions.iter().cycle().take(200);
            for answer in join_all(asked.map(|new| check(&store, &new.digest, start()))).await {
                answer.expect_err("a server that is away has no answer");
            }
            asked_at.elapsed()
        };
        let recovers = async || {
            within(PATIENCE, "the store's recovery", async || {
                for new in &*sessions {
                    let found = check(&store, &new.digest, start()).await.ok()?;
                    assert_eq!(found, Some(new.session.live));
                }
                Some(())
            })
            .await;
            // The thread's own connection is there again as well.
            within(PATIENCE, "all connections", async || {
                (connections(&server.borrow()) > shared).then_some(())
            })
            .await;
        };
        recovers().await;
        server.borrow().hang();
        assert!(all_fail().await < FAILED_WITHIN);
        server.borrow().go_on();
        recovers().await;
        server.borrow_mut().kill();
        assert!(all_fail().await < FAILED_WITHIN);
        within(PATIENCE, "failing at once", async || {
            (all_fail().await < AT_ONCE).then_some(())
        })
        .await;
        server.borrow_mut().run();
        recovers().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_12_on_a_threads_connection_no_answer_reaches_another_caller() {
    let server = RedisServer::start();
    let proxy = Proxy::to(SocketAddr::from(([127, 0, 0, 1], server.port)));
    let store = Arc::new(store_at(&format!("redis://{}", proxy.address())).await);
    let sessions = some_sessions(&store, 50).await;
    proxy.set(Conduct::Delay(Duration::from_millis(5)));
    on_a_worker(async move || {
        let callers = (0..64_usize).map(|caller| {
            let (store, sessions) = (Arc::clone(&store), Arc::clone(&sessions));
            tokio::spawn(async move {
                let mut answered = 0;
                for turn in 0..60 {
                    let new = &sessions[(caller * 7 + turn) % sessions.len()];
                    let patience = Duration::from_micros((caller * 613 + turn * 977) as u64 % 25_000);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_asked_from_a_thread_of_its_own_as_from_any_other() {
    let cluster = RedisCluster::start();
    let store = Arc::new(store_at(&cluster.url()).await);
    let sessions = some_sessions(&store, 60).await;
    let before = connections(&cluster.nodes[0]);
    on_a_worker(async move || {
        within(PATIENCE, "a connection of its own", async || {
            find(&store, &sessions).await;
            (connections(&cluster.nodes[0]) > before).then_some(())
        })
        .await;
        find(&store, &sessions).await;
        store.close_thread_connections();
        within(PATIENCE, "an end of all tasks", async || {
            (Handle::current().metrics().num_alive_tasks() == 0).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_of_a_cluster_that_are_asked_together_find_slots_that_have_moved() {
    let cluster = RedisCluster::start();
    let store = Arc::new(store_at(&cluster.url()).await);
    // A slot of the first node that holds one shard and no key yet.
    let slot: u32 = cluster.nodes[0].ask(&["CLUSTER", "KEYSLOT", "sessiond:{10}e"]);
    let keys: u32 = cluster.nodes[0].ask(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]);
    assert_eq!((slot * 3 / 16_384, keys), (0, 0));
    let new_owner: String = cluster.nodes[1].ask(&["CLUSTER", "MYID"]);
    for node in [1, 0, 2] {
        let node = &cluster.nodes[node];
        node.ask::<()>(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &new_owner]);
    }
    let sessions = some_sessions(&store, 400).await;
    let moved: u32 = cluster.nodes[1].ask(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]);
    assert!(moved > 0, "no session of 400 is in a shard of 48");
    for _ in 0..3 {
        let asked = join_all(sessions.iter().map(|new| check(&store, &new.digest, start())));
        for (found, new) in asked.await.into_iter().zip(&*sessions) {
            assert_eq!(found.unwrap(), Some(new.session.live));
        }
    }
}
