//! Checks that are asked together.
//!
//! With many callers, most of what a check costs is handing one small command and its reply from task to task. So the checks that
//! come while others are on their way are gathered, and sent as one `MGET` to each connection. Nobody waits for others to come: what
//! is there is sent at once. Each thread with a runtime of its own gathers for itself, so that nothing on a check's way wakes
//! another thread. A Cluster gets each check by itself, because one `MGET` must stay within one slot.

use super::{
    finding::Seen,
    keys::{Keyspace, Place},
    link::failure,
    wire::{LANES, Wire},
};
use crate::{domain::UserId, store::lanes::Lanes};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use redis::{Cmd, RedisResult, Value};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{mpsc, oneshot};

/// Checks that are sent as one command, at most: three keys each.
const TOGETHER: usize = 128;

/// Commands of one connection that are on their way at once. While there are so many, checks are gathered.
const ON_THEIR_WAY: usize = 2;

/// Checks that may wait for one connection.
const WAITING: usize = 16_384;

/// What is stored at a place, and the marks of its shard for this user.
struct Question {
    place: Place,
    user: UserId,
    answer: oneshot::Sender<RedisResult<Option<Seen>>>,
}

impl Question {
    fn answer_with(self, answer: RedisResult<Option<Seen>>) {
        // Whoever stopped waiting does not need it.
        let _ = self.answer.send(answer);
    }
}

/// The way of checks to the server.
pub(super) struct Asking {
    wire: Arc<Wire>,
    keys: Arc<Keyspace>,
    lanes: Lanes<mpsc::Sender<Question>>,
    queues: Vec<mpsc::Sender<Question>>,
    next: AtomicUsize,
}

impl Asking {
    /// Tasks that end when this is dropped.
    pub(super) fn start(wire: &Arc<Wire>, keys: &Arc<Keyspace>, tasks: usize) -> Self {
        Self {
            wire: Arc::clone(wire),
            keys: Arc::clone(keys),
            lanes: Lanes::new(LANES),
            queues: (0..tasks.max(1)).map(|_| queue(wire, keys)).collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// Ends the tasks of threads, once they have answered what they were asked.
    pub(super) fn close_lanes(&self) {
        self.lanes.close();
    }

    pub(super) async fn ask(&self, place: Place, user: UserId) -> RedisResult<Option<Seen>> {
        let (answer, answered) = oneshot::channel();
        let question = Question { place, user, answer };
        let lane = self.lanes.here(|| queue(&self.wire, &self.keys));
        let queued = match &lane {
            Some(queue) => queue.try_send(question),
            None => {
                let next = self.next.fetch_add(1, Ordering::Relaxed) % self.queues.len();
                self.queues[next].try_send(question)
            }
        };
        // A task that gathers ends when nobody can ask it any more.
        drop(lane);
        queued.map_err(|_| failure("too many checks are waiting"))?;
        answered
            .await
            .unwrap_or_else(|_| Err(failure("nobody asks any more")))
    }
}

fn queue(wire: &Arc<Wire>, keys: &Arc<Keyspace>) -> mpsc::Sender<Question> {
    let (queue, questions) = mpsc::channel(WAITING);
    tokio::spawn(ask_for_all(Arc::clone(wire), Arc::clone(keys), questions));
    queue
}

async fn ask_for_all(wire: Arc<Wire>, keys: Arc<Keyspace>, mut questions: mpsc::Receiver<Question>) {
    let mut on_their_way = FuturesUnordered::new();
    let mut is_over = false;
    while !is_over || !on_their_way.is_empty() {
        let mut together = Vec::new();
        tokio::select! {
            biased;
            Some(outcome) = on_their_way.next() => {
                let outcome: RedisResult<()> = outcome;
                // Who has waited for those that failed does not wait for others to fail as well: so nobody waits longer than one
                // command may take, and no check needs a timer of its own.
                if let Err(error) = outcome {
                    while let Ok(question) = questions.try_recv() {
                        question.answer_with(Err(error.clone()));
                    }
                }
            }
            gathered = questions.recv_many(&mut together, TOGETHER), if !is_over && on_their_way.len() < ON_THEIR_WAY => {
                match gathered {
                    0 => is_over = true,
                    _ => on_their_way.push(ask_together(&wire, &keys, together)),
                }
            }
        }
    }
}

async fn ask_together(wire: &Wire, keys: &Keyspace, questions: Vec<Question>) -> RedisResult<()> {
    let mut cmd = Cmd::with_capacity(1 + 3 * questions.len(), 256 * questions.len());
    cmd.arg("MGET");
    for Question { place, user, .. } in &questions {
        keys.add_check(&mut cmd, place, *user);
    }
    let values = match wire.read(&cmd).await {
        Ok(Value::Array(values)) if values.len() == 3 * questions.len() => Ok(values),
        Ok(_) => Err(failure("a reply of another form")),
        Err(error) => Err(error),
    };
    match values {
        Ok(values) => {
            let mut values = values.into_iter();
            for question in questions {
                question.answer_with(Seen::from_values([values.next(), values.next(), values.next()]));
            }
            Ok(())
        }
        Err(error) => {
            for question in questions {
                question.answer_with(Err(error.clone()));
            }
            Err(error)
        }
    }
}
