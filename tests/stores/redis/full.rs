//! A server whose memory is full and that drops nothing: sessions are checked and end, and none comes to life.

use super::samples::{check, digest, lives, log_in, new_session, start, store_at, user_id, within};
use sessiond::{
    domain::{Revocation, TokenDigest},
    store::{Created, RevocationEvent, Rotation, SessionKey, SessionStore, redis::RedisStore},
};
use std::time::Duration;
use testkit::redis::{RedisCluster, RedisServer};

/// Every write that needs memory is refused; the other way: none is.
fn set_full(nodes: &[&RedisServer], is_full: bool) {
    let limit = if is_full { "1" } else { "0" };
    for node in nodes {
        node.ask::<()>(&["CONFIG", "SET", "maxmemory", limit]);
    }
}

async fn until_full(store: &RedisStore, is_full: bool) {
    within(Duration::from_secs(5), "a ping that finds out", async || {
        store.ping().await.unwrap();
        (store.is_full() == is_full).then_some(())
    })
    .await;
}

async fn assert_dead(store: &RedisStore, digest: &TokenDigest) {
    assert!(!lives(store, digest, start()).await);
}

async fn everything_but_creation_works(url: &str, nodes: &[&RedisServer]) {
    let store = store_at(url).await;
    let now = start();
    let user = user_id();
    let mut sessions = Vec::new();
    for _ in 0..6 {
        sessions.push(log_in(&store, user, now).await);
    }
    let others = log_in(&store, user_id(), now).await;
    let keys = || nodes.iter().map(|node| node.keys().len()).sum::<usize>();
    let keys_before = keys();
    set_full(nodes, true);
    until_full(&store, true).await;

    let mut new = new_session(&store, user, now).await.unwrap();
    new.replaces = Some(sessions[0].digest);
    let refused = store.create(new.clone(), now).await.unwrap_err();
    assert!(refused.is_full(), "{refused:?}");
    assert_dead(&store, &new.digest).await;
    assert!(lives(&store, &sessions[0].digest, now).await);
    assert_eq!(keys(), keys_before, "something is left of the session");

    // Activity counts.
    let at = now.after(Duration::from_secs(60));
    let live = check(&store, &sessions[0].digest, now).await.unwrap().unwrap();
    store.touch(&live, &sessions[0].digest, at);
    within(Duration::from_secs(5), "a touch", async || {
        let live = check(&store, &sessions[0].digest, now).await.unwrap().unwrap();
        (live.last_seen_at == at).then_some(())
    })
    .await;

    // A process that starts now reads the same, and is told of every end.
    let there = store_at(url).await;
    let mut reader = there.revocations().read(Some(there.revocations().head()));
    let rotation = Rotation {
        from: sessions[1].digest,
        to: digest(),
        grace_until: now,
        authenticated_at: None,
    };
    assert!(store.rotate(rotation, now).await.unwrap().is_some());
    assert_dead(&there, &rotation.from).await;
    assert!(lives(&there, &rotation.to, now).await);
    for key in [
        SessionKey::Token(sessions[2].digest),
        SessionKey::Id(sessions[3].session.live.id),
    ] {
        assert!(store.destroy(key, now).await.unwrap().is_some());
    }
    assert_dead(&there, &sessions[2].digest).await;
    assert_dead(&there, &sessions[3].digest).await;
    let kept = sessions[4].session.live.id;
    assert_eq!(store.revoke_user(user, Some(kept), now).await.unwrap(), 3);
    assert_eq!(there.list(user, None, 10, now).await.unwrap().len(), 1);
    assert_eq!(store.revoke_everyone(now).await.unwrap(), 2);
    assert_dead(&there, &others.digest).await;
    assert_eq!(there.count(now).await.unwrap(), 0);
    there.sweep(now, 100).await.unwrap();
    let told = async { while reader.next(1).await[0].1 != RevocationEvent::Revoked(Revocation::Everyone) {} };
    tokio::time::timeout(Duration::from_secs(5), told)
        .await
        .expect("the revocation is published");

    set_full(nodes, false);
    until_full(&store, false).await;
    let new = new_session(&store, user, now).await.unwrap();
    assert_eq!(store.create(new, now).await.unwrap(), Created::Yes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_03_a_full_server_refuses_log_ins_and_nothing_else() {
    let server = RedisServer::start();
    everything_but_creation_works(&server.url(), &[&server]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_03_a_full_cluster_refuses_log_ins_and_nothing_else() {
    let cluster = RedisCluster::start();
    let nodes: Vec<_> = cluster.nodes.iter().collect();
    everything_but_creation_works(&cluster.url(), &nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_of_a_cluster_that_is_full_is_noticed() {
    let cluster = RedisCluster::start();
    let store = store_at(&cluster.url()).await;
    set_full(&[&cluster.nodes[1]], true);
    until_full(&store, true).await;
}
