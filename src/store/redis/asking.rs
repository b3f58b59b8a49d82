//! Checks that are asked together: one `MGET` for all that are there. Of a Cluster, where one `MGET` must stay within one slot, those
//! for one node are sent to it as one pipeline.

use super::{
    finding::Seen,
    keys::{Keyspace, Place, SHARDS},
    link::failure,
    wire::{THREAD_LIMIT, Wire},
};
use crate::{
    domain::UserId,
    store::batcher::{BatchServer, Batcher},
};
use futures_util::future::join_all;
use parking_lot::RwLock;
use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value,
    cluster_routing::{Route, Slot, SlotAddr},
};
use std::sync::Arc;

/// Nodes of a Cluster whose checks are gathered apart, so that one that hangs holds up no other's. Of more, some share a place.
const NODES: usize = 16;

const SLOTS: u16 = 16_384;

/// What is stored at a place, and the marks of its shard for this user.
pub(super) struct Question {
    place: Place,
    user: UserId,
}

/// What is there, or why it cannot be told.
pub(super) type Answer = RedisResult<Option<Seen>>;

/// The way of checks to the server.
pub(super) enum Asking {
    Server(Batcher<Server>),
    Cluster {
        shards: Arc<Shards>,
        nodes: Vec<Batcher<Node>>,
    },
}

impl Asking {
    /// Tasks that end when this is dropped.
    pub(super) fn of_server(wire: &Arc<Wire>, keys: &Arc<Keyspace>, tasks: usize) -> Self {
        let server = Server {
            wire: Arc::clone(wire),
            keys: Arc::clone(keys),
        };
        Self::Server(Batcher::start(Arc::new(server), tasks, THREAD_LIMIT))
    }

    /// As [`of_server`](Self::of_server), for a Cluster.
    pub(super) async fn of_cluster(wire: &Arc<Wire>, keys: &Arc<Keyspace>, tasks: usize) -> Self {
        let shards = Arc::new(Shards::of(keys));
        shards.find_nodes(wire).await;
        let node = Arc::new(Node {
            wire: Arc::clone(wire),
            keys: Arc::clone(keys),
            shards: Arc::clone(&shards),
        });
        let nodes = (0..NODES).map(|_| Batcher::start(Arc::clone(&node), tasks, THREAD_LIMIT));
        Self::Cluster {
            shards,
            nodes: nodes.collect(),
        }
    }

    /// Ends the tasks of threads, once they have answered what they were asked.
    pub(super) fn close_threads(&self) {
        match self {
            Self::Server(batcher) => batcher.close_threads(),
            Self::Cluster { nodes, .. } => nodes.iter().for_each(Batcher::close_threads),
        }
    }

    pub(super) async fn ask(&self, place: Place, user: UserId) -> Answer {
        match self {
            Self::Server(batcher) => batcher.ask(Question { place, user }).await?,
            Self::Cluster { shards, nodes } => {
                let node = shards.node_of(place.shard) % nodes.len();
                nodes[node].ask(Question { place, user }).await?
            }
        }
    }
}

/// One server.
pub(super) struct Server {
    wire: Arc<Wire>,
    keys: Arc<Keyspace>,
}

impl BatchServer for Server {
    type Question = Question;
    type Answer = Answer;
    type Error = RedisError;

    async fn ask(&self, questions: &[Question]) -> RedisResult<Vec<Answer>> {
        let reply = self.wire.read_here(&values_for(&self.keys, questions)).await?;
        let mut values = values_in(reply)?;
        Ok(questions
            .iter()
            .map(|_| Seen::from_values([values.next(), values.next(), values.next()]))
            .collect())
    }

    fn refusal(why: &'static str) -> RedisError {
        failure(why)
    }
}

/// One node of a Cluster: all that it is asked at once is likely to be there.
pub(super) struct Node {
    wire: Arc<Wire>,
    keys: Arc<Keyspace>,
    shards: Arc<Shards>,
}

impl BatchServer for Node {
    type Question = Question;
    type Answer = Answer;
    type Error = RedisError;

    async fn ask(&self, questions: &[Question]) -> RedisResult<Vec<Answer>> {
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
            commands.add_command(values_for(&self.keys, std::slice::from_ref(question)));
        }
        let route = self.shards.route(first.place.shard);
        match self.wire.read_here_at(route, &commands).await {
            Ok(replies) => Ok(replies.into_iter().map(seen_in).collect()),
            // Something has moved, or is about to. Each by itself finds its way.
            Err(error) if matches!(error.kind(), ErrorKind::Server(_)) => {
                let answers = join_all(questions.iter().map(|question| self.ask_alone(question))).await;
                self.shards.find_nodes(&self.wire).await;
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
    async fn ask_alone(&self, question: &Question) -> Answer {
        let questions = std::slice::from_ref(question);
        seen_in(self.wire.read_here(&values_for(&self.keys, questions)).await?)
    }
}

fn values_for(keys: &Keyspace, questions: &[Question]) -> Cmd {
    let mut cmd = Cmd::with_capacity(1 + 3 * questions.len(), 256 * questions.len());
    cmd.arg("MGET");
    for Question { place, user } in questions {
        keys.add_check(&mut cmd, place, *user);
    }
    cmd
}

fn values_in(reply: Value) -> RedisResult<impl Iterator<Item = Value>> {
    let Value::Array(values) = reply.extract_error()? else {
        return Err(failure("a reply of another form"));
    };
    Ok(values.into_iter())
}

fn seen_in(reply: Value) -> Answer {
    let mut values = values_in(reply)?;
    Seen::from_values([values.next(), values.next(), values.next()])
}

/// Where the shards are in a Cluster, as far as it is known. Nobody relies on it: a node that is asked for what it does not have
/// says so.
pub(super) struct Shards {
    slots: Vec<u16>,
    nodes: RwLock<Vec<usize>>,
}

impl Shards {
    fn of(keys: &Keyspace) -> Self {
        let slot_of = |shard| {
            let slot = Some(Slot::for_key(keys.everyones_mark(shard)));
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
    async fn find_nodes(&self, wire: &Wire) {
        let mut cmd = redis::cmd("CLUSTER");
        cmd.arg("SLOTS");
        match wire.read(&cmd).await.and_then(primaries) {
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
            Err(error) => tracing::debug!(%error, "the Cluster does not say where its slots are"),
        }
    }
}

/// Slots that one primary has.
struct Range {
    first: u16,
    last: u16,
    primary: (String, u16),
}

/// What `CLUSTER SLOTS` says.
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
