//! Questions to a server, sent in batches.
//!
//! With many callers, most of what a small question costs is handing it and its answer from task to task and to the server. So the
//! questions that come while batches are in flight form the next batch. No question waits for a batch to fill: what is there is
//! sent at once. Each thread with a runtime of its own forms its own batches, so that no question wakes another thread on its way.

use super::thread_connections::PerThread;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{mpsc, oneshot};

/// Questions in one batch, at most.
const BATCH_LIMIT: usize = 128;

/// Batches that one task has in flight, at most. While it has as many, questions are queued.
const IN_FLIGHT_LIMIT: usize = 2;

/// Questions that may be queued for one task.
const QUEUE_LIMIT: usize = 16_384;

/// A server that answers many questions in one round trip.
pub(super) trait BatchServer: Send + Sync + 'static {
    type Question: Send + Sync + 'static;
    type Answer: Send + 'static;
    type Error: Clone + Send + 'static;

    /// An answer to each question, in their order. The implementation has to keep a time limit.
    fn ask(
        &self,
        questions: &[Self::Question],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, Self::Error>> + Send;

    /// The error for a question that is not sent.
    fn refusal(why: &'static str) -> Self::Error;
}

/// A question, and where its answer goes.
struct Queued<S: BatchServer> {
    question: S::Question,
    answer: oneshot::Sender<Result<S::Answer, S::Error>>,
}

type Queue<S> = mpsc::Sender<Queued<S>>;

/// Sends questions to a server in batches.
pub(super) struct Batcher<S: BatchServer> {
    server: Arc<S>,
    per_thread: PerThread<Queue<S>>,
    shared: Vec<Queue<S>>,
    next: AtomicUsize,
}

impl<S: BatchServer> Batcher<S> {
    /// With `shared` tasks for all, and one more for each of up to `threads` threads. The tasks end when this is dropped.
    pub(super) fn start(server: Arc<S>, shared: usize, threads: usize) -> Self {
        Self {
            per_thread: PerThread::new(threads),
            shared: (0..shared.max(1)).map(|_| queue(&server)).collect(),
            next: AtomicUsize::new(0),
            server,
        }
    }

    /// Ends the tasks of threads, once they have answered their questions.
    pub(super) fn close_threads(&self) {
        self.per_thread.close();
    }

    pub(super) async fn ask(&self, question: S::Question) -> Result<S::Answer, S::Error> {
        let (answer, answered) = oneshot::channel();
        self.enqueue(Queued { question, answer })?;
        answered
            .await
            .unwrap_or_else(|_| Err(S::refusal("the task that sends the questions has ended")))
    }

    fn enqueue(&self, queued: Queued<S>) -> Result<(), S::Error> {
        let sent = match self.per_thread.here(|| queue(&self.server)) {
            Some(queue) => queue.try_send(queued),
            None => {
                let next = self.next.fetch_add(1, Ordering::Relaxed) % self.shared.len();
                self.shared[next].try_send(queued)
            }
        };
        sent.map_err(|_| S::refusal("too many questions are waiting"))
    }
}

fn queue<S: BatchServer>(server: &Arc<S>) -> Queue<S> {
    let (queue, queued) = mpsc::channel(QUEUE_LIMIT);
    tokio::spawn(send_batches(Arc::clone(server), queued));
    queue
}

async fn send_batches<S: BatchServer>(server: Arc<S>, mut queue: mpsc::Receiver<Queued<S>>) {
    let mut in_flight = FuturesUnordered::new();
    let mut is_over = false;
    while !is_over || !in_flight.is_empty() {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            Some(outcome) = in_flight.next() => {
                // A question that was queued behind a failure fails with it rather than wait for a failure of its own. So no caller
                // waits longer than one batch may take, and none needs a timer of its own.
                if let Err(error) = outcome {
                    while let Ok(queued) = queue.try_recv() {
                        let _ = queued.answer.send(Err(S::Error::clone(&error)));
                    }
                }
            }
            received = queue.recv_many(&mut batch, BATCH_LIMIT), if !is_over && in_flight.len() < IN_FLIGHT_LIMIT => {
                match received {
                    0 => is_over = true,
                    _ => in_flight.push(send_batch(&*server, batch)),
                }
            }
        }
    }
}

async fn send_batch<S: BatchServer>(server: &S, batch: Vec<Queued<S>>) -> Result<(), S::Error> {
    let (questions, senders): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|queued| (queued.question, queued.answer))
        .unzip();
    let answers = match server.ask(&questions).await {
        Ok(answers) if answers.len() == senders.len() => Ok(answers),
        Ok(_) => Err(S::refusal("not as many answers as questions")),
        Err(error) => Err(error),
    };
    // A caller that has stopped waiting does not need the answer.
    match answers {
        Ok(answers) => {
            for (sender, answer) in senders.into_iter().zip(answers) {
                let _ = sender.send(Ok(answer));
            }
            Ok(())
        }
        Err(error) => {
            for sender in senders {
                let _ = sender.send(Err(error.clone()));
            }
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    /// Answers with the question and the size of its batch, or refuses, when it is allowed to.
    struct Echo {
        allowed: Semaphore,
        refuses: bool,
    }

    impl BatchServer for Echo {
        type Question = usize;
        type Answer = (usize, usize);
        type Error = &'static str;

        async fn ask(&self, questions: &[usize]) -> Result<Vec<(usize, usize)>, &'static str> {
            self.allowed.acquire().await.unwrap().forget();
            match self.refuses {
                true => Err("refused"),
                false => Ok(questions
                    .iter()
                    .map(|question| (*question, questions.len()))
                    .collect()),
            }
        }

        fn refusal(why: &'static str) -> &'static str {
            why
        }
    }

    /// The answers to so many questions that come one by one, while as many batches are allowed one by one.
    async fn answers_to(
        questions: usize,
        allowed: usize,
        refuses: bool,
    ) -> Vec<Result<(usize, usize), &'static str>> {
        let echo = Arc::new(Echo {
            allowed: Semaphore::new(0),
            refuses,
        });
        let batcher = Batcher::start(Arc::clone(&echo), 1, 0);
        let asking = async |question| {
            // The task sends each of the first ones by itself.
            for _ in 0..question {
                tokio::task::yield_now().await;
            }
            batcher.ask(question).await
        };
        let allowing = async {
            for _ in 0..questions * 2 {
                tokio::task::yield_now().await;
            }
            echo.allowed.add_permits(allowed);
        };
        tokio::join!(join_all((0..questions).map(asking)), allowing).0
    }

    #[tokio::test]
    async fn questions_that_come_while_batches_are_in_flight_form_one_batch() {
        let answers = answers_to(20, 3, false).await;
        let numbers: Vec<_> = answers.iter().map(|answer| answer.unwrap().0).collect();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
        assert!(answers.last().unwrap().unwrap().1 > 10, "{answers:?}");
    }

    #[tokio::test]
    async fn a_question_queued_behind_a_failure_fails_with_it() {
        // One batch is allowed, and the other that is in flight never ends.
        let echo = Arc::new(Echo {
            allowed: Semaphore::new(0),
            refuses: true,
        });
        let batcher = Batcher::start(Arc::clone(&echo), 1, 0);
        let first = async {
            tokio::task::yield_now().await;
            batcher.ask(1).await
        };
        let second = async {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            batcher.ask(2).await
        };
        let behind = async {
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            let answer = batcher.ask(3);
            echo.allowed.add_permits(1);
            answer.await
        };
        tokio::select! {
            _ = async { tokio::join!(first, second) } => panic!("one of them is never answered"),
            answer = behind => assert_eq!(answer, Err("refused")),
        }
    }
}
