//! Checks that are sent together: one `MGET` for all that are there. Of a Cluster, where one `MGET` must stay within one slot,
//! those for one node are sent to it as one pipeline.

use super::{
    failure,
    pool::{ConnectionPool, THREAD_LIMIT},
};
use crate::{
    domain::{TokenDigest, UserId},
    error_chain::chain,
    store::{
        batcher::{BatchServer, Batcher},
        redis::layout::keys::{Keyspace, Location, SHARDS},
    },
};
use futures_util::future::join_all;
use parking_lot::RwLock;
use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value,
    cluster_routing::{Route, Slot, SlotAddr},
};
use std::sync::Arc;

/// Nodes of a Cluster whose checks are batched apart, so that one that hangs holds up no other's. Of more, some share a batch.
const NODES: usize = 16;

const SLOTS: u16 = 16_384;

/// What is stored under a digest, and the marks of its shard for this user?
pub(crate) struct CheckQuestion {
    pub digest: TokenDigest,
    pub user: UserId,
}

/// The record, everyone's mark and the user's mark, or why they cannot be read.
type CheckValues = RedisResult<[Value; 3]>;

/// The way of checks to the server.
pub(crate) enum CheckBatcher {
    Server(Batcher<Server>),
    Cluster {
        shards: Arc<ShardMap>,
        nodes: Vec<Batcher<Node>>,
    },
}

impl CheckBatcher {
    /// Tasks that end when this is dropped.
    pub(crate) fn of_server(pool: &Arc<ConnectionPool>, keys: &Arc<Keyspace>, tasks: usize) -> Self {
        let server = Server {
            pool: Arc::clone(pool),
            keys: Arc::clone(keys),
        };
        Self::Server(Batcher::start(Arc::new(server), tasks, THREAD_LIMIT))
    }

    /// As [`of_server`](Self::of_server), for a Cluster.
    pub(crate) async fn of_cluster(pool: &Arc<ConnectionPool>, keys: &Arc<Keyspace>, tasks: usize) -> Self {
        let shards = Arc::new(ShardMap::of(keys));
        shards.find_nodes(pool).await;
        let node = Arc::new(Node {
            pool: Arc::clone(pool),
            keys: Arc::clone(keys),
            shards: Arc::clone(&shards),
        });
        let nodes = (0..NODES).map(|_| Batcher::start(Arc::clone(&node), tasks, THREAD_LIMIT));
        Self::Cluster {
            shards,
            nodes: nodes.collect(),
        }
    }

    /// Ends the tasks of threads, once they have answered their questions.
    pub(crate) fn close_threads(&self) {
        match self {
            Self::Server(batcher) => batcher.close_threads(),
            Self::Cluster { nodes, .. } => nodes.iter().for_each(Batcher::close_threads),
        }
    }

    /// A shard of each node, as far as it is known which node has which.
    pub(crate) fn shard_of_each_node(&self) -> Vec<usize> {
        match self {
            Self::Server(_) => vec![0],
            Self::Cluster { shards, .. } => {
                let nodes = shards.nodes.read();
                let is_first = |shard: &usize| !nodes[..*shard].contains(&nodes[*shard]);
                (0..nodes.len()).filter(is_first).collect()
            }
        }
    }

    pub(crate) async fn ask(&self, question: CheckQuestion) -> CheckValues {
        match self {
            Self::Server(batcher) => batcher.ask(question).await?,
            Self::Cluster { shards, nodes } => {
                let node = shards.node_of(Location::shard_of(&question.digest)) % nodes.len();
                nodes[node].ask(question).await?
            }
        }
    }
}

/// One server.
pub(crate) struct Server {
    pool: Arc<ConnectionPool>,
    keys: Arc<Keyspace>,
}

impl BatchServer for Server {
    type Question = CheckQuestion;
    type Answer = CheckValues;
    type Error = RedisError;

    async fn ask(&self, questions: &[CheckQuestion]) -> RedisResult<Vec<CheckValues>> {
        let reply = self.pool.read_on_thread(&mget(&self.keys, questions)).await?;
        let mut values = values_in(reply)?;
        Ok(questions.iter().map(|_| three(&mut values)).collect())
    }

    fn refusal(why: &'static str) -> RedisError {
        failure(why)
    }
}

/// One node of a Cluster: all that it is asked at once is likely to be there.
pub(crate) struct Node {
    pool: Arc<ConnectionPool>,
    keys: Arc<Keyspace>,
    shards: Arc<ShardMap>,
}

impl BatchServer for Node {
    type Question = CheckQuestion;
    type Answer = CheckValues;
    type Error = RedisError;

    async fn ask(&self, questions: &[CheckQuestion]) -> RedisResult<Vec<CheckValues>> {
        let (first, is_only) = match questions {
            [] => return Ok(Vec::new()),
            [only] => (only, true),
            [first, ..] => (first, false),
        };
        if is_only {
            return Ok(vec![Ok(self.ask_alone(first).await?)]);
        }
        let mut commands = Pipeline::with_capacity(questions.len());
        for question in questions {
            commands.add_command(mget(&self.keys, std::slice::from_ref(question)));
        }
        let route = self.shards.route(Location::shard_of(&first.digest));
        match self.pool.read_on_thread_at(route, &commands).await {
            Ok(replies) => Ok(replies
                .into_iter()
                .map(|reply| three(&mut values_in(reply)?))
                .collect()),
            // Something has moved, or is about to. Each by itself finds its way.
            Err(error) if matches!(error.kind(), ErrorKind::Server(_)) => {
                let answers = join_all(questions.iter().map(|question| self.ask_alone(question))).await;
                self.shards.find_nodes(&self.pool).await;
                Ok(answers)
            }
            Err(error) => Err(error),
        }
    }

    fn refusal(why: &'static str) -> RedisError {
        failure(why)
    }
}

impl Node {
    async fn ask_alone(&self, question: &CheckQuestion) -> CheckValues {
        let cmd = mget(&self.keys, std::slice::from_ref(question));
        three(&mut values_in(self.pool.read_on_thread(&cmd).await?)?)
    }
}

fn mget(keys: &Keyspace, questions: &[CheckQuestion]) -> Cmd {
    let mut cmd = Cmd::with_capacity(1 + 3 * questions.len(), 256 * questions.len());
    cmd.arg("MGET");
    for CheckQuestion { digest, user } in questions {
        keys.add_check(&mut cmd, digest, *user);
    }
    cmd
}

fn values_in(reply: Value) -> RedisResult<impl Iterator<Item = Value>> {
    let Value::Array(values) = reply.extract_error()? else {
        return Err(failure("a reply of another form"));
    };
    Ok(values.into_iter())
}

fn three(values: &mut impl Iterator<Item = Value>) -> CheckValues {
    let mut value = || values.next().ok_or_else(|| failure("a reply of another form"));
    Ok([value()?, value()?, value()?])
}

/// Where the shards are in a Cluster, as far as it is known. It may be wrong: a node refuses a command for a slot that it does not
/// have.
pub(crate) struct ShardMap {
    slots: Vec<u16>,
    nodes: RwLock<Vec<usize>>,
}

impl ShardMap {
    fn of(keys: &Keyspace) -> Self {
        let slot_of = |shard| {
            let slot = Some(Slot::for_key(keys.everyone_mark(shard)));
            (0..SLOTS).find(|number| Slot::new(*number) == slot).unwrap_or(0)
        };
        Self {
            slots: (0..SHARDS).map(slot_of).collect(),
            nodes: RwLock::new((0..SHARDS).collect()),
        }
    }

    /// A number for the shard's node. While its node is not known, it has one for itself.
    fn node_of(&self, shard: usize) -> usize {
        self.nodes.read().get(shard).copied().unwrap_or(0)
    }

    fn route(&self, shard: usize) -> Route {
        let slot = self.slots.get(shard).copied().unwrap_or(0);
        Route::new(slot, SlotAddr::Master)
    }

    /// Asks the Cluster where the shards are. If it does not say, what was known stays.
    async fn find_nodes(&self, pool: &ConnectionPool) {
        let mut cmd = redis::cmd("CLUSTER");
        cmd.arg("SLOTS");
        match pool.read(&cmd).await.and_then(primaries) {
            Ok(ranges) => {
                let mut names: Vec<_> = ranges.iter().map(|range| &range.primary).collect();
                names.sort_unstable();
                names.dedup();
                let node_of = |slot: &u16| {
                    let range = ranges
                        .iter()
                        .find(|range| (range.first..=range.last).contains(slot))?;
                    names.binary_search(&&range.primary).ok()
                };
                let nodes = self.slots.iter().map(|slot| node_of(slot).unwrap_or(0));
                *self.nodes.write() = nodes.collect();
            }
            Err(error) => {
                tracing::debug!(cause = %chain(&error), "the Cluster does not say where its slots are")
            }
        }
    }
}

/// Slots that one primary has.
struct Range {
    first: u16,
    last: u16,
    primary: (String, u16),
}

/// The reply to `CLUSTER SLOTS`.
fn primaries(reply: Value) -> RedisResult<Vec<Range>> {
    let range = |range: Value| {
        let mut parts = values_in(range)?;
        let mut part = || {
            parts
                .next()
                .ok_or_else(|| failure("a range of slots of another form"))
        };
        let (first, last) = (
            redis::from_redis_value(part()?)?,
            redis::from_redis_value(part()?)?,
        );
        let mut primary = values_in(part()?)?;
        let mut part = || primary.next().ok_or_else(|| failure("a node of another form"));
        let (host, port) = (
            redis::from_redis_value(part()?)?,
            redis::from_redis_value(part()?)?,
        );
        Ok(Range {
            first,
            last,
            primary: (host, port),
        })
    };
    values_in(reply)?.map(range).collect()
}
