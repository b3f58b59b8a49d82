//! A primary that is lost, and what its replica knows.

use super::samples::{
    FAILED_WITHIN, PATIENCE, check, config, lives, log_in, start, store_at, try_log_in, user_id, within,
};
use sessiond::store::{SessionKey, SessionStore, redis::RedisStore};
use std::time::{Duration, Instant};
use testkit::{
    redis::{RedisSentinel, RedisServer, primary_and_replica},
    waiting::until,
};

async fn strict_store(server: &RedisServer) -> RedisStore {
    let mut config = config(&server.url());
    config.strict_replicas = Some(1);
    RedisStore::connect(config).await.unwrap()
}

/// What is asked until it is acknowledged: a replica on a busy machine may take longer than a call waits for it.
async fn acknowledged<T>(ask: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, "an acknowledgement", ask).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_15_strict_acknowledges_nothing_that_no_replica_has() {
    let (primary, mut replica) = primary_and_replica();
    let store = strict_store(&primary).await;
    let now = start();
    let user = user_id();
    let new = log_in(&store, user, now).await;
    // What was acknowledged is there already, not soon.
    let read: Vec<_> = replica.keys();
    assert!(read.iter().any(|key| key.windows(3).any(|part| part == b"}s:")));

    replica.kill();
    until("the primary to miss its replica", || {
        let info: String = primary.ask(&["INFO", "replication"]);
        info.contains("connected_slaves:0").then_some(())
    });
    let asked_at = Instant::now();
    try_log_in(&store, user, now).await.unwrap_err();
    store
        .destroy(SessionKey::Token(new.digest), now)
        .await
        .unwrap_err();
    store.revoke_user(user, None, now).await.unwrap_err();
    assert!(asked_at.elapsed() < FAILED_WITHIN);
    // Checks go on.
    check(&store, &new.digest, now).await.unwrap();

    replica.run();
    within(PATIENCE, "a log-in with the replica back", async || {
        try_log_in(&store, user, now).await.ok()
    })
    .await;
    store.destroy(SessionKey::Token(new.digest), now).await.unwrap();
    assert!(!lives(&store, &new.digest, now).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_15_strict_loses_no_log_out_when_the_primary_is_lost() {
    for _ in 0..3 {
        let (mut primary, replica) = primary_and_replica();
        let store = strict_store(&primary).await;
        let now = start();
        let (mut living, mut dead) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            living.push(
                acknowledged(async || try_log_in(&store, user_id(), now).await.ok())
                    .await
                    .digest,
            );
            let ended = acknowledged(async || try_log_in(&store, user_id(), now).await.ok())
                .await
                .digest;
            let key = SessionKey::Token(ended);
            acknowledged(async || store.destroy(key, now).await.ok()).await;
            dead.push(ended);
        }
        primary.kill();
        replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
        let store = store_at(&replica.url()).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_follows_its_sentinels_to_the_new_primary() {
    let mut servers = RedisSentinel::start();
    let store = store_at(&servers.url()).await;
    let now = start();
    let new = log_in(&store, user_id(), now).await;
    servers.primary.until_replicated();
    servers.primary.kill();
    check(&store, &new.digest, now).await.unwrap_err();
    within(PATIENCE, "the new primary", async || {
        try_log_in(&store, user_id(), now).await.ok()
    })
    .await;
    assert!(lives(&store, &new.digest, now).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_leaves_a_primary_that_hangs_when_the_sentinels_do() {
    let servers = RedisSentinel::start();
    let store = store_at(&servers.url()).await;
    let now = start();
    let new = log_in(&store, user_id(), now).await;
    servers.primary.until_replicated();
    servers.primary.hang();
    within(PATIENCE, "the new primary", async || {
        try_log_in(&store, user_id(), now).await.ok()
    })
    .await;
    // The old one comes back, and does not know yet that it has been replaced.
    servers.primary.go_on();
    for _ in 0..20 {
        assert!(lives(&store, &new.digest, now).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    store
        .destroy(SessionKey::Token(new.digest), now)
        .await
        .unwrap()
        .unwrap();
    assert!(!lives(&store, &new.digest, now).await);
}
