//! Stores that several processes share, and what can happen to them.

use crate::chance::Chance;
use std::net::SocketAddr;
use testkit::{
    postgres::PostgresServer,
    proxy::Proxy,
    redis::{RedisCluster, RedisServer},
    waiting::until,
};

/// A store, kept by servers of its own. Everything here blocks.
pub(crate) enum SharedStore {
    /// Users and sessions in PostgreSQL.
    Postgres {
        server: PostgresServer,
        database: String,
    },
    /// Sessions in one Redis that writes everything down, users in PostgreSQL.
    Redis { server: RedisServer, users: String },
    /// Sessions in a Redis Cluster that does, users in PostgreSQL.
    RedisCluster {
        cluster: RedisCluster,
        users: String,
        /// The node that something happened to last.
        victim: usize,
    },
}

const DURABLE: [&str; 6] = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"];

impl SharedStore {
    pub(crate) fn postgres() -> Self {
        let server = PostgresServer::start();
        let database = server.new_database();
        Self::Postgres { server, database }
    }

    pub(crate) fn redis() -> Self {
        Self::Redis {
            server: RedisServer::start_durable(),
            users: PostgresServer::shared().new_database(),
        }
    }

    pub(crate) fn redis_cluster() -> Self {
        Self::RedisCluster {
            cluster: RedisCluster::start_with(&DURABLE),
            users: PostgresServer::shared().new_database(),
            victim: 0,
        }
    }

    /// What a process is told to use it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        match self {
            Self::Postgres { database, .. } => vec![format!("--store={database}")],
            Self::Redis { server, users } => with_sessions_in(&server.url(), users),
            Self::RedisCluster { cluster, users, .. } => with_sessions_in(&cluster.url(), users),
        }
    }

    /// A proxy to where sessions are, and what a process is told to go through it. Users of a Redis are asked directly.
    pub(crate) fn behind_a_proxy(&self) -> (Proxy, Vec<String>) {
        match self {
            Self::Postgres { server, database } => {
                let proxy = Proxy::to(on_this_machine(server.port()));
                let own = format!(":{}/", server.port());
                let store = database.replace(&own, &format!(":{}/", proxy.address().port()));
                assert_ne!(&store, database);
                (proxy, vec![format!("--store={store}")])
            }
            Self::Redis { server, users } => {
                let proxy = Proxy::to(on_this_machine(server.port));
                let arguments = with_sessions_in(&format!("redis://{}", proxy.address()), users);
                (proxy, arguments)
            }
            Self::RedisCluster { .. } => {
                panic!("a Cluster names its nodes itself: no proxy stands before them")
            }
        }
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self, chance: &mut Chance) {
        match self {
            Self::Postgres { server, .. } => server.kill(),
            Self::Redis { server, .. } => server.kill(),
            Self::RedisCluster { cluster, victim, .. } => {
                *victim = chance.below(cluster.nodes.len());
                cluster.nodes[*victim].kill();
            }
        }
    }

    pub(crate) fn start_again(&mut self) {
        match self {
            Self::Postgres { server, .. } => server.start_again(),
            Self::Redis { server, .. } => server.run(),
            Self::RedisCluster { cluster, victim, .. } => {
                cluster.nodes[*victim].run();
                agree(cluster);
            }
        }
    }

    /// Lets it stand still, its connections open.
    pub(crate) fn pause(&mut self, chance: &mut Chance) {
        match self {
            Self::Postgres { server, .. } => server.pause(),
            Self::Redis { server, .. } => server.hang(),
            Self::RedisCluster { cluster, victim, .. } => {
                *victim = chance.below(cluster.nodes.len());
                cluster.nodes[*victim].hang();
            }
        }
    }

    pub(crate) fn resume(&mut self) {
        match self {
            Self::Postgres { server, .. } => server.resume(),
            Self::Redis { server, .. } => server.go_on(),
            Self::RedisCluster { cluster, victim, .. } => {
                cluster.nodes[*victim].go_on();
                agree(cluster);
            }
        }
    }
}

/// Waits until every node of a Cluster knows that all are there again: a process that is started before that ends at once.
fn agree(cluster: &RedisCluster) {
    for node in &cluster.nodes {
        until("the Cluster to agree again", || {
            let info: String = node.try_ask(&["CLUSTER", "INFO"])?;
            info.contains("cluster_state:ok").then_some(())
        });
    }
}

fn with_sessions_in(url: &str, users: &str) -> Vec<String> {
    vec![format!("--store={users}"), format!("--session-store={url}")]
}

fn on_this_machine(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
