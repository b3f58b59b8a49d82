//! Sessions in Redis: one server, and one Cluster, for all tests, with a key prefix for each.

use super::super::{
    opened::Opened,
    samples::{secs, session_id, start},
};
use sessiond::store::{
    SessionStore,
    redis::{RedisConfig, RedisStore},
};
use std::sync::{Arc, LazyLock};
use testkit::redis::{RedisCluster, RedisServer};

static SINGLE: LazyLock<RedisServer> = LazyLock::new(RedisServer::start);
static CLUSTER: LazyLock<RedisCluster> = LazyLock::new(RedisCluster::start);

pub(crate) async fn single() -> Opened<dyn SessionStore> {
    open(&SINGLE.url()).await
}

pub(crate) async fn cluster() -> Opened<dyn SessionStore> {
    open(&CLUSTER.url()).await
}

async fn open(url: &str) -> Opened<dyn SessionStore> {
    let mut config = RedisConfig::new(url).unwrap();
    config.prefix = format!("{}:", session_id(start()));
    config.connections = 2;
    // The tests run side by side on a busy machine.
    config.timeout = secs(10);
    let connect = || RedisStore::connect(config.clone());
    Opened {
        here: Arc::new(connect().await.unwrap()),
        there: Arc::new(connect().await.unwrap()),
        telling_lag: secs(5),
        _keeps: Vec::new(),
    }
}
