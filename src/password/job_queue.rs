//! A bounded queue of jobs, and the permits of the threads that take jobs from it.
//!
//! `job_queue_model` compiles this file over loom's locks, too, and tries schedules.

use super::sync::{Condvar, Mutex};
use std::{collections::VecDeque, time::Duration};

/// Work for one of the threads.
pub(super) trait Job: Send {
    /// Whether its caller still waits for it.
    fn is_wanted(&self) -> bool;
    /// Does it.
    fn run(self: Box<Self>);
}

/// When to try again. It is only a guess of when there will be room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueFull {
    pub(super) retry_after: Duration,
}

/// Jobs that wait, and how many permits are held: one for each job that is being done.
pub(super) struct JobQueue {
    state: Mutex<QueueState>,
    has_work: Condvar,
    threads: usize,
    max_queued: usize,
}

struct QueueState {
    queued: VecDeque<Box<dyn Job>>,
    permits_held: usize,
    refused: u64,
    /// What a job takes, give or take: an average over the last few.
    job_time: Duration,
    is_closed: bool,
}

impl JobQueue {
    /// A queue before so many threads, of which each job will take about `job_time`.
    pub(super) fn new(threads: usize, max_queued: usize, job_time: Duration) -> Self {
        Self {
            state: Mutex::new(QueueState {
                queued: VecDeque::new(),
                permits_held: 0,
                refused: 0,
                job_time,
                is_closed: false,
            }),
            has_work: Condvar::new(),
            threads,
            max_queued,
        }
    }

    /// Queues a job for the next thread that is idle.
    pub(super) fn push(&self, job: Box<dyn Job>) -> Result<(), QueueFull> {
        let mut state = self.state.lock();
        // What an idle thread is about to take does not wait.
        let room = self
            .max_queued
            .saturating_add(self.threads.saturating_sub(state.permits_held));
        if state.queued.len() >= room {
            state.queued.retain(|job| job.is_wanted());
        }
        if state.queued.len() >= room {
            state.refused += 1;
            return Err(state.queue_full(self.threads));
        }
        state.queued.push_back(job);
        self.has_work.notify_one();
        Ok(())
    }

    /// Waits for a job that is still wanted, and takes a permit for it, to be given back by [`release`](Self::release). `None`
    /// once the queue is closed.
    pub(super) fn next(&self) -> Option<Box<dyn Job>> {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return None;
            }
            match state.queued.pop_front() {
                Some(job) if job.is_wanted() => {
                    state.permits_held += 1;
                    return Some(job);
                }
                Some(_) => {}
                None => self.has_work.wait(&mut state),
            }
        }
    }

    /// Gives a job's permit back, and says how long the job took.
    pub(super) fn release(&self, took: Duration) {
        let mut state = self.state.lock();
        state.permits_held -= 1;
        state.job_time = (state.job_time * 7 + took) / 8;
    }

    /// Ends the threads. What is still queued is not done.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.has_work.notify_all();
    }

    /// How many permits are held, and how many jobs are queued and still wanted.
    pub(super) fn load(&self) -> (usize, usize) {
        let state = self.state.lock();
        let queued = state.queued.iter().filter(|job| job.is_wanted()).count();
        (state.permits_held, queued)
    }

    /// How many jobs found no room since the start.
    pub(super) fn refused(&self) -> u64 {
        self.state.lock().refused
    }

    /// When there will be room.
    pub(super) fn full(&self) -> QueueFull {
        self.state.lock().queue_full(self.threads)
    }
}

impl QueueState {
    /// When all that is queued now will be done.
    fn queue_full(&self, threads: usize) -> QueueFull {
        let jobs = self.queued.len() + self.permits_held;
        let rounds = u32::try_from(jobs.div_ceil(threads.max(1))).unwrap_or(u32::MAX);
        let secs = self.job_time.saturating_mul(rounds).as_secs().saturating_add(1);
        QueueFull {
            retry_after: Duration::from_secs(secs.min(30)),
        }
    }
}
