//! A fixed set of threads that hash, and a bounded queue before them.
//!
//! Threads of our own rather than the runtime's blocking ones, because they run at a lower priority: while every core hashes,
//! the threads that check sessions still get theirs at once.

use super::job_queue::{Job, JobQueue, QueueFull};
use crate::error_chain::chain;
use std::{
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

/// Threads and their queue. When it is dropped, the threads end; what is still queued is not done.
pub(super) struct Pool {
    queue: Arc<JobQueue>,
}

/// Work, and the caller who waits for its result.
struct QueuedJob<W, T> {
    work: W,
    result: oneshot::Sender<T>,
}

impl<T: Send, W: FnOnce() -> T + Send> Job for QueuedJob<W, T> {
    fn is_wanted(&self) -> bool {
        !self.result.is_closed()
    }

    fn run(self: Box<Self>) {
        // The caller may have left meanwhile.
        let _ = self.result.send((self.work)());
    }
}

impl Pool {
    /// Starts `threads` threads, of which each job will take about `job_time`.
    pub(super) fn start(threads: usize, max_queued: usize, job_time: Duration) -> io::Result<Self> {
        let pool = Self {
            queue: Arc::new(JobQueue::new(threads, max_queued, job_time)),
        };
        for _ in 0..threads {
            let queue = Arc::clone(&pool.queue);
            thread::Builder::new()
                .name("password-hash".to_owned())
                .spawn(move || work_on(&queue))?;
        }
        Ok(pool)
    }

    /// Does `work` on one of the threads.
    ///
    /// Dropped before a thread has taken it up, the work is never done; dropped later, it is done for nothing, and its thread is
    /// free only then.
    pub(super) async fn run<T, W>(&self, work: W) -> Result<T, QueueFull>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let (result, receiver) = oneshot::channel();
        self.queue.push(Box::new(QueuedJob { work, result }))?;
        // No result: the work panicked, and the log has it.
        receiver.await.map_err(|_| self.queue.full())
    }

    /// How many jobs are being done now, and how many wait for a thread and are still wanted.
    pub(super) fn load(&self) -> (usize, usize) {
        self.queue.load()
    }

    /// How many jobs found no room since the start.
    pub(super) fn refused(&self) -> u64 {
        self.queue.refused()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The life of a thread.
fn work_on(queue: &JobQueue) {
    lower_priority();
    while let Some(job) = queue.next() {
        let started_at = Instant::now();
        // A panic is reported by the panic hook; the thread must live on, or the pool would shrink.
        let _ = catch_unwind(AssertUnwindSafe(|| job.run()));
        queue.release(started_at.elapsed());
    }
}

/// Relative to what the process has. Elsewhere than on Linux the call would slow the whole process down.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let lowered =
            getpriority_process(None).and_then(|nice| setpriority_process(None, (nice + NICENESS).min(19)));
        if let Err(error) = lowered {
            tracing::warn!(cause = %chain(&error), "hashing threads keep their priority: session checks may be slow while passwords are hashed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };
    use tokio::task::yield_now;

    /// A job that says when it has started and ends when it is let go.
    fn held() -> (
        impl FnOnce() + Send + 'static,
        mpsc::Receiver<()>,
        mpsc::Sender<()>,
    ) {
        let (starts, started) = mpsc::channel();
        let (let_go, lets_go) = mpsc::channel::<()>();
        let work = move || {
            starts.send(()).unwrap();
            let _ = lets_go.recv();
        };
        (work, started, let_go)
    }

    fn pool(threads: usize, queue: usize) -> Arc<Pool> {
        Arc::new(Pool::start(threads, queue, Duration::from_secs(2)).unwrap())
    }

    fn spawn<T: Send + 'static>(
        pool: &Arc<Pool>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> tokio::task::JoinHandle<Result<T, QueueFull>> {
        let pool = Arc::clone(pool);
        tokio::spawn(async move { pool.run(work).await })
    }

    #[tokio::test]
    async fn s_48_what_exceeds_the_queue_is_refused_with_a_time_to_retry() {
        let pool = pool(1, 2);
        let (work, started, let_go) = held();
        let first = spawn(&pool, work);
        yield_now().await;
        started.recv().unwrap();
        let waiting = [spawn(&pool, || 1), spawn(&pool, || 2)];
        yield_now().await;
        assert_eq!(pool.load(), (1, 2));

        // Three jobs of two seconds stand before it.
        let retry_after = Duration::from_secs(7);
        assert_eq!(pool.run(|| ()).await, Err(QueueFull { retry_after }));
        assert_eq!(pool.refused(), 1);

        let_go.send(()).unwrap();
        first.await.unwrap().unwrap();
        for (job, answer) in waiting.into_iter().zip([1, 2]) {
            assert_eq!(job.await.unwrap(), Ok(answer));
        }
    }

    #[tokio::test]
    async fn s_48_a_job_whose_caller_left_is_never_begun_and_takes_no_room() {
        // Room for two at a time, and for all at once.
        for queue in [2, 20_000] {
            let pool = pool(1, queue);
            let (work, started, let_go) = held();
            let first = spawn(&pool, work);
            yield_now().await;
            started.recv().unwrap();
            let done = Arc::new(AtomicUsize::new(0));
            for _ in 0..10_000 {
                let done = Arc::clone(&done);
                let job = spawn(&pool, move || done.fetch_add(1, Ordering::Relaxed));
                yield_now().await;
                job.abort();
                assert!(job.await.unwrap_err().is_cancelled());
            }
            assert_eq!(pool.load(), (1, 0));
            let wanted = spawn(&pool, || ());
            yield_now().await;
            let_go.send(()).unwrap();
            first.await.unwrap().unwrap();
            wanted.await.unwrap().unwrap();
            assert_eq!(done.load(Ordering::Relaxed), 0);
        }
    }

    #[tokio::test]
    async fn s_48_a_job_whose_caller_left_keeps_its_thread_until_it_is_done() {
        let pool = pool(2, 8);
        let mut let_go = Vec::new();
        for _ in 0..2 {
            let (work, started, go) = held();
            let job = spawn(&pool, work);
            yield_now().await;
            started.recv().unwrap();
            job.abort();
            let _ = job.await;
            let_go.push(go);
        }
        let third = spawn(&pool, || ());
        yield_now().await;
        assert_eq!(pool.load(), (2, 1));
        let_go.clear();
        third.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_job_that_panics_costs_no_thread() {
        let pool = pool(1, 8);
        assert!(pool.run(|| panic!("as the test wants it")).await.is_err());
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn the_threads_end_with_the_pool() {
        let pool = pool(3, 8);
        pool.run(|| ()).await.unwrap();
        let queue = Arc::downgrade(&pool.queue);
        drop(pool);
        let deadline = Instant::now() + Duration::from_secs(10);
        while queue.strong_count() > 0 {
            assert!(Instant::now() < deadline, "threads still live");
            yield_now().await;
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn s_48_hashing_threads_give_way_to_all_others() {
        use rustix::process::getpriority_process;
        let ours = getpriority_process(None).unwrap();
        let theirs = pool(1, 1)
            .run(|| getpriority_process(None).unwrap())
            .await
            .unwrap();
        assert_eq!(theirs, (ours + NICENESS).min(19));
        assert_eq!(getpriority_process(None).unwrap(), ours);
    }
}
