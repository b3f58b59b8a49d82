//! Sessions in Redis: one server, and one Cluster, for all tests, with a key prefix for each.

use super::Opened;
use crate::{
    redis::{RedisCluster, RedisServer},
    samples::{secs, session_id, start},
    waiting::PATIENCE,
};
use sessiond::store::{
    SessionStore,
    redis::{RedisConfig, RedisStore},
};
use std::sync::{Arc, LazyLock};

static SINGLE: LazyLock<RedisServer> = LazyLock::new(|| {
    let server = RedisServer::start();
    make_user(&server);
    server
});

static CLUSTER: LazyLock<RedisCluster> = LazyLock::new(|| {
    let cluster = RedisCluster::start();
    cluster.nodes.iter().for_each(make_user);
    cluster
});

/// Sessions on the one server.
pub async fn single() -> Opened<dyn SessionStore> {
    open(&as_user(&SINGLE.url())).await
}

/// Sessions in the Cluster.
pub async fn cluster() -> Opened<dyn SessionStore> {
    open(&as_user(&CLUSTER.url())).await
}

/// Makes the user that the documentation describes, with exactly its rights.
fn make_user(server: &RedisServer) {
    let documentation = include_str!("../../../docs/operations.md");
    let mut lines = documentation.lines();
    let line = lines.find(|line| line.starts_with("ACL SETUSER sessiond "));
    let words: Vec<_> = line.unwrap().split_whitespace().collect();
    server.ask::<()>(&words);
}

fn as_user(url: &str) -> String {
    url.replace("://", "://sessiond:PASSWORD@")
}

async fn open(url: &str) -> Opened<dyn SessionStore> {
    let mut config = RedisConfig::new(url).unwrap();
    config.prefix = format!("sessiond:{}:", session_id(start()));
    config.connections = 2;
    // The tests run side by side on a busy machine.
    config.timeout = secs(10);
    let connect = || RedisStore::connect(config.clone());
    Opened {
        here: Arc::new(connect().await.unwrap()),
        there: Arc::new(connect().await.unwrap()),
        telling_lag: PATIENCE,
        _keeps: Vec::new(),
    }
}
