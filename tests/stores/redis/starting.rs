//! What a store finds out about its server, and when it refuses it.

use super::samples::{config, log_in, start, store_at, user_id};
use sessiond::store::redis::{ConnectError, RedisStore};
use std::error::Error as _;
use testkit::redis::{RedisCluster, RedisServer, primary_and_replica};

async fn sentences(url: &str) -> (String, bool) {
    let store = store_at(url).await;
    let durability = store.durability();
    (durability.sentences().join(" "), durability.is_lossy())
}

async fn refused(url: &str) -> ConnectError {
    RedisStore::connect(config(url)).await.unwrap_err()
}

#[tokio::test]
async fn a_server_that_may_drop_sessions_is_refused_unless_that_is_accepted() {
    let server = RedisServer::start_durable();
    for policy in ["allkeys-lru", "volatile-ttl", "volatile-lru", "allkeys-random"] {
        server.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", policy]);
        let refused = refused(&server.url()).await;
        assert!(matches!(&refused, ConnectError::Eviction(found) if found == policy));
        assert!(refused.to_string().contains(policy));
        let mut accepting = config(&server.url());
        accepting.accept_eviction = true;
        let store = RedisStore::connect(accepting).await.unwrap();
        assert!(store.durability().is_lossy());
        assert!(
            store
                .durability()
                .sentences()
                .iter()
                .any(|said| said.contains(policy))
        );
    }
    server.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    store_at(&server.url()).await;
}

#[tokio::test]
async fn one_node_of_a_cluster_that_may_drop_sessions_is_enough_to_refuse_it() {
    let cluster = RedisCluster::start();
    cluster.nodes[2].ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
    let refused = refused(&cluster.url()).await;
    assert!(matches!(refused, ConnectError::Eviction(policy) if policy == "allkeys-lfu"));
}

#[tokio::test]
async fn f_15_what_can_be_lost_is_said() {
    let server = RedisServer::start();
    let (said, is_lossy) = sentences(&server.url()).await;
    assert!(said.contains("keeps nothing on disk") && is_lossy, "{said}");
    for (setting, value, expected, expect_lossy) in [
        ("save", "3600 1", "snapshots only", true),
        ("appendonly", "yes", "every second", true),
        ("appendfsync", "no", "half a minute", true),
        ("appendfsync", "always", "a crash loses nothing", false),
    ] {
        server.ask::<()>(&["CONFIG", "SET", setting, value]);
        let (said, is_lossy) = sentences(&server.url()).await;
        assert!(said.contains(expected), "{said}");
        assert_eq!(is_lossy, expect_lossy, "{said}");
    }
}

#[tokio::test]
async fn f_15_a_failover_that_may_undo_a_log_out_is_said() {
    let (primary, _replica) = primary_and_replica();
    let (said, is_lossy) = sentences(&primary.url()).await;
    assert!(said.contains("a failover may undo") && is_lossy, "{said}");
    let mut strict = config(&primary.url());
    strict.strict_replicas = Some(1);
    let said = RedisStore::connect(strict.clone()).await.unwrap();
    let said = said.durability().sentences().join(" ");
    assert!(said.contains("once 1 replicas have it"), "{said}");
    assert!(said.contains("min-replicas-to-write 0"), "{said}");
    strict.strict_replicas = Some(2);
    let store = RedisStore::connect(strict).await;
    // Two are asked for, and there is one.
    assert!(store.is_err() || store.unwrap().durability().is_lossy());
}

#[tokio::test]
async fn a_server_whose_configuration_is_secret_is_used_and_that_is_said() {
    let server = RedisServer::start();
    server.ask::<()>(&[
        "ACL", "SETUSER", "app", "on", ">s3cret", "~*", "&*", "+@all", "-config",
    ]);
    let url = server.url().replace("redis://", "redis://app:s3cret@");
    let store = store_at(&url).await;
    let said = store.durability().sentences().join(" ");
    assert!(said.contains("does not allow CONFIG GET"), "{said}");
    assert!(store.durability().is_lossy());
    log_in(&store, user_id(), start()).await;
}

/// A server's user with these rights, and the URL for it.
fn url_of_user(server: &RedisServer, rights: &[&str]) -> String {
    let user = ["ACL", "SETUSER", "app", "on", ">s3cret"];
    server.ask::<()>(&[&user[..], rights].concat());
    server.url().replace("redis://", "redis://app:s3cret@")
}

#[tokio::test]
async fn a_server_that_keeps_info_to_itself_is_used_and_that_is_said() {
    let server = RedisServer::start();
    let url = url_of_user(&server, &["~*", "+@all", "-@dangerous", "-@admin"]);
    let (said, is_lossy) = sentences(&url).await;
    assert!(said.contains("does not allow INFO") && is_lossy, "{said}");
    assert!(said.contains("does not allow CONFIG GET"), "{said}");
    super::keys::every_verb(&store_at(&url).await).await;
}

#[tokio::test]
async fn every_right_that_is_missing_is_named() {
    let server = RedisServer::start();
    let url = url_of_user(&server, &["~*", "+@all", "-zadd", "-xadd", "-mget"]);
    let refused = refused(&url).await;
    let ConnectError::MissingRights { commands, .. } = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(commands, "MGET, XADD, ZADD");
    assert!(refused.to_string().contains("127.0.0.1"), "{refused}");
    for (rights, named) in [
        (["~*", "+@all", "-evalsha"], "evalsha"),
        (["~*", "+@all", "-script"], "script"),
        (["~other:*", "+@all", "-info"], "key"),
    ] {
        let refused = self::refused(&url_of_user(&server, &["reset"])).await;
        assert!(matches!(refused, ConnectError::Forbidden { .. }), "{refused:?}");
        let url = url_of_user(&server, &rights);
        let ConnectError::Forbidden { source, .. } = self::refused(&url).await else {
            panic!("{rights:?}");
        };
        assert!(source.to_string().contains(named), "{source}");
    }
}

#[tokio::test]
async fn s_89_a_wrong_password_is_in_no_error() {
    let server = RedisServer::start();
    server.ask::<()>(&["CONFIG", "SET", "requirepass", "right"]);
    let url = server.url().replace("redis://", "redis://:hunter2@");
    let refused = refused(&url).await;
    let mut said = format!("{refused} {refused:?}");
    let mut cause = refused.source();
    while let Some(source) = cause {
        said.push_str(&format!(" {source} {source:?}"));
        cause = source.source();
    }
    assert!(said.contains("Password") || said.contains("password"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_prefix_that_could_move_keys_to_other_slots_is_refused() {
    let server = RedisServer::start();
    for prefix in ["{a}", "a b", "a*", &"a".repeat(65)] {
        let mut config = config(&server.url());
        config.prefix = prefix.to_owned();
        let refused = RedisStore::connect(config).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Prefix), "{prefix}");
    }
}

#[tokio::test]
async fn a_replica_is_no_server_to_write_to() {
    let (_primary, replica) = primary_and_replica();
    assert!(matches!(
        refused(&replica.url()).await,
        ConnectError::Unreachable { .. }
    ));
}
