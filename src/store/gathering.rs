//! Questions that are asked together.
//!
//! With many callers, most of what a small question costs is handing it and its answer from task to task and to the server. So the
//! questions that come while others are on their way are gathered, and asked as one. Nobody waits for others to come: what is there
//! is asked at once. Each thread with a runtime of its own gathers for itself, so that nothing on a question's way wakes another
//! thread.

use super::lanes::Lanes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{mpsc, oneshot};

/// Questions that are asked as one, at most.
const TOGETHER: usize = 128;

/// Times that one task asks at once. While it does so often, questions are gathered.
const ON_THEIR_WAY: usize = 2;

/// Questions that may wait for one task.
const WAITING: usize = 16_384;

/// A server that can be asked many things at once.
pub(super) trait Asked: Send + Sync + 'static {
    type Question: Send + Sync + 'static;
    type Answer: Send + 'static;
    type Error: Clone + Send + 'static;

    /// An answer to each question, in their order. Within a time limit: nobody else watches the time.
    fn ask(
        &self,
        questions: &[Self::Question],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, Self::Error>> + Send;

    /// Why a question is not asked.
    fn refusal(why: &'static str) -> Self::Error;
}

/// A question, and who asks it.
struct Asking<A: Asked> {
    question: A::Question,
    asker: oneshot::Sender<Result<A::Answer, A::Error>>,
}

type Queue<A> = mpsc::Sender<Asking<A>>;

/// The way of questions to the server.
pub(super) struct Gathering<A: Asked> {
    asked: Arc<A>,
    lanes: Lanes<Queue<A>>,
    shared: Vec<Queue<A>>,
    next: AtomicUsize,
}

impl<A: Asked> Gathering<A> {
    /// As many tasks as `shared`, and one for each of up to `lanes` threads. They end when this is dropped.
    pub(super) fn start(asked: Arc<A>, shared: usize, lanes: usize) -> Self {
        Self {
            lanes: Lanes::new(lanes),
            shared: (0..shared.max(1)).map(|_| queue(&asked)).collect(),
            next: AtomicUsize::new(0),
            asked,
        }
    }

    /// Ends the tasks of threads, once they have answered what they were asked.
    pub(super) fn close_lanes(&self) {
        self.lanes.close();
    }

    pub(super) async fn ask(&self, question: A::Question) -> Result<A::Answer, A::Error> {
        let (asker, answered) = oneshot::channel();
        self.put(Asking { question, asker })?;
        answered
            .await
            .unwrap_or_else(|_| Err(A::refusal("nobody asks any more")))
    }

    fn put(&self, asking: Asking<A>) -> Result<(), A::Error> {
        let queued = match self.lanes.here(|| queue(&self.asked)) {
            Some(queue) => queue.try_send(asking),
            None => {
                let next = self.next.fetch_add(1, Ordering::Relaxed) % self.shared.len();
                self.shared[next].try_send(asking)
            }
        };
        queued.map_err(|_| A::refusal("too many questions are waiting"))
    }
}

fn queue<A: Asked>(asked: &Arc<A>) -> Queue<A> {
    let (queue, askings) = mpsc::channel(WAITING);
    tokio::spawn(ask_for_all(Arc::clone(asked), askings));
    queue
}

async fn ask_for_all<A: Asked>(asked: Arc<A>, mut askings: mpsc::Receiver<Asking<A>>) {
    let mut on_their_way = FuturesUnordered::new();
    let mut is_over = false;
    while !is_over || !on_their_way.is_empty() {
        let mut together = Vec::new();
        tokio::select! {
            biased;
            Some(outcome) = on_their_way.next() => {
                // Who has waited for those that failed does not wait for others to fail as well: so nobody waits longer than one
                // question may take, and none needs a timer of its own.
                if let Err(error) = outcome {
                    while let Ok(asking) = askings.try_recv() {
                        let _ = asking.asker.send(Err(A::Error::clone(&error)));
                    }
                }
            }
            gathered = askings.recv_many(&mut together, TOGETHER), if !is_over && on_their_way.len() < ON_THEIR_WAY => {
                match gathered {
                    0 => is_over = true,
                    _ => on_their_way.push(ask_together(&*asked, together)),
                }
            }
        }
    }
}

async fn ask_together<A: Asked>(asked: &A, together: Vec<Asking<A>>) -> Result<(), A::Error> {
    let (questions, askers): (Vec<_>, Vec<_>) = together
        .into_iter()
        .map(|asking| (asking.question, asking.asker))
        .unzip();
    let answers = match asked.ask(&questions).await {
        Ok(answers) if answers.len() == askers.len() => Ok(answers),
        Ok(_) => Err(A::refusal("not as many answers as questions")),
        Err(error) => Err(error),
    };
    // Whoever has stopped waiting does not need the answer.
    match answers {
        Ok(answers) => {
            for (asker, answer) in askers.into_iter().zip(answers) {
                let _ = asker.send(Ok(answer));
            }
            Ok(())
        }
        Err(error) => {
            for asker in askers {
                let _ = asker.send(Err(error.clone()));
            }
            Err(error)
        }
    }
}
