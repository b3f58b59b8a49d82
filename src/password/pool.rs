//! A fixed set of threads that hash, and a bounded queue before them.
//!
//! Threads of our own rather than the runtime's blocking ones, because they run at a lower priority: while every core hashes,
//! the threads that check sessions still get theirs at once.

use parking_lot::{Condvar, Mutex};
use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How much nicer than the rest of the process (setpriority(2)) a hashing thread is: it gets a tenth of a core that others want.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Threads and their queue. When it is dropped, the threads end; what still waits is not done.
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    has_work: Condvar,
    threads: usize,
    queue: usize,
}

struct State {
    waiting: VecDeque<Box<dyn Job>>,
    running: usize,
    /// What a job takes, give or take: an average over the last few.
    job_time: Duration,
    is_closed: bool,
}

/// Nobody knows when there will be room, but this is when to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) retry_after: Duration,
}

trait Job: Send {
    fn is_wanted(&self) -> bool;
    fn run(self: Box<Self>);
}

struct Asked<W, A> {
    work: W,
    answer: oneshot::Sender<A>,
}

impl<A: Send, W: FnOnce() -> A + Send> Job for Asked<W, A> {
    fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    fn run(self: Box<Self>) {
        // Whoever asked may have left meanwhile.
        let _ = self.answer.send((self.work)());
    }
}

impl Pool {
    /// Starts `threads` threads, of which each job will take about `job_time`.
    pub(super) fn start(threads: usize, queue: usize, job_time: Duration) -> io::Result<Self> {
        let pool = Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    waiting: VecDeque::new(),
                    running: 0,
                    job_time,
                    is_closed: false,
                }),
                has_work: Condvar::new(),
                threads,
                queue,
            }),
        };
        for _ in 0..threads {
            let shared = Arc::clone(&pool.shared);
            thread::Builder::new()
                .name("password-hash".to_owned())
                .spawn(move || shared.work())?;
        }
        Ok(pool)
    }

    /// Does `work` on one of the threads.
    ///
    /// Dropped before a thread has taken it up, the work is never done; dropped later, it is done for nothing, and its thread is
    /// free only then.
    pub(super) async fn run<A, W>(&self, work: W) -> Result<A, Full>
    where
        A: Send + 'static,
        W: FnOnce() -> A + Send + 'static,
    {
        let (answer, asked) = oneshot::channel();
        self.shared.push(Box::new(Asked { work, answer }))?;
        // No answer: the work panicked, and the log has it.
        asked
            .await
            .map_err(|_| self.shared.state.lock().full(self.shared.threads))
    }

    /// How many jobs are being done now.
    pub(super) fn running(&self) -> usize {
        self.shared.state.lock().running
    }

    /// How many jobs wait for a thread.
    pub(super) fn waiting(&self) -> usize {
        let state = self.shared.state.lock();
        state.waiting.iter().filter(|job| job.is_wanted()).count()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.lock().is_closed = true;
        self.shared.has_work.notify_all();
    }
}

impl Shared {
    fn push(&self, job: Box<dyn Job>) -> Result<(), Full> {
        let mut state = self.state.lock();
        let room = self.queue + (self.threads - state.running.min(self.threads));
        if state.waiting.len() >= room {
            state.waiting.retain(|job| job.is_wanted());
        }
        if state.waiting.len() >= room {
            return Err(state.full(self.threads));
        }
        state.waiting.push_back(job);
        self.has_work.notify_one();
        Ok(())
    }

    /// The life of a thread.
    fn work(&self) {
        lower_priority();
        while let Some(job) = self.next() {
            let started_at = Instant::now();
            // A panic is reported by the panic hook; the thread must live on, or the pool would shrink.
            let _ = catch_unwind(AssertUnwindSafe(|| job.run()));
            let mut state = self.state.lock();
            state.running -= 1;
            state.job_time = (state.job_time * 7 + started_at.elapsed()) / 8;
        }
    }

    /// Waits for a job that somebody still wants, and counts it as running; `None` when there will be no more.
    fn next(&self) -> Option<Box<dyn Job>> {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return None;
            }
            match state.waiting.pop_front() {
                Some(job) if job.is_wanted() => {
                    state.running += 1;
                    return Some(job);
                }
                Some(_) => {}
                None => self.has_work.wait(&mut state),
            }
        }
    }
}

impl State {
    /// When all that waits now will be done.
    fn full(&self, threads: usize) -> Full {
        let jobs = self.waiting.len() + self.running;
        let rounds = u32::try_from(jobs.div_ceil(threads.max(1))).unwrap_or(u32::MAX);
        let secs = self.job_time.saturating_mul(rounds).as_secs().saturating_add(1);
        Full {
            retry_after: Duration::from_secs(secs.min(30)),
        }
    }
}

/// Elsewhere than on Linux the call would slow the whole process down.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::warn!(%error, "hashing threads run at normal priority: session checks may be slow while passwords are hashed");
    }
}
