//! The queue and its permits in all schedules with few preemptions, by loom (S-105).
//!
//! Each of these changes of `job_queue.rs`, made by hand, makes the model fail: `push` notifies nobody; `close` notifies one thread;
//! `next` takes no permit, or does not look again after it has waited; the room in `push` leaves the permits out. They are no tests of
//! their own, because loom cannot unwind from a deadlock: it aborts.

/// Loom's locks in the manner of `parking_lot`.
mod sync {
    use loom::sync;
    use std::ops::{Deref, DerefMut};

    pub(super) struct Mutex<T>(sync::Mutex<T>);
    /// `None` only within [`Condvar::wait`].
    pub(super) struct Guard<'a, T>(Option<sync::MutexGuard<'a, T>>);
    pub(super) struct Condvar(sync::Condvar);

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> Guard<'_, T> {
            Guard(Some(self.0.lock().unwrap()))
        }
    }

    impl<T> Deref for Guard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().unwrap()
        }
    }

    impl<T> DerefMut for Guard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().unwrap()
        }
    }

    impl Condvar {
        pub(super) fn new() -> Self {
            Self(sync::Condvar::new())
        }

        pub(super) fn wait<T>(&self, guard: &mut Guard<'_, T>) {
            let taken = guard.0.take().unwrap();
            guard.0 = Some(self.0.wait(taken).unwrap());
        }

        pub(super) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(super) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}

#[path = "job_queue.rs"]
#[expect(clippy::duplicate_mod, reason = "the code under test is the code that runs")]
#[expect(dead_code, reason = "the model counts no refusals")]
mod job_queue;

use job_queue::{Job, JobQueue};
use loom::{sync::Arc, thread};
use std::time::Duration;
use sync::{Condvar, Mutex};

const THREADS: usize = 2;

#[derive(Default)]
struct Counts {
    running: usize,
    done: usize,
}

/// What the jobs count, and a signal that another is done.
struct Counter(Mutex<Counts>, Condvar);

struct CountedJob(Arc<Counter>);

impl Job for CountedJob {
    fn is_wanted(&self) -> bool {
        true
    }

    fn run(self: Box<Self>) {
        let Counter(counts, another_done) = &*self.0;
        counts.lock().running += 1;
        let mut counts = counts.lock();
        assert!(counts.running <= THREADS, "more run than there are threads");
        counts.running -= 1;
        counts.done += 1;
        another_done.notify_one();
    }
}

fn work_on(queue: &JobQueue) {
    while let Some(job) = queue.next() {
        let (held, queued) = queue.load();
        assert!((1..=THREADS).contains(&held), "{held} permits are held");
        assert!(held + queued <= THREADS, "{queued} wait where none may");
        job.run();
        queue.release(Duration::ZERO);
    }
}

/// Two threads, a queue where none may wait, and three jobs.
#[test]
fn s_105_every_job_is_done_and_no_permit_is_lost_or_made_up() {
    let mut builder = loom::model::Builder::new();
    // Schedules with more preemptions than this take minutes in all.
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let queue = Arc::new(JobQueue::new(THREADS, 0, Duration::ZERO));
        let counter = Arc::new(Counter(Mutex::new(Counts::default()), Condvar::new()));
        let threads = [(); THREADS].map(|()| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || work_on(&queue))
        });
        let mut accepted = 0;
        for _ in 0..3 {
            let job = Box::new(CountedJob(Arc::clone(&counter)));
            accepted += usize::from(queue.push(job).is_ok());
        }
        assert!(accepted >= THREADS, "refused while threads were idle");
        let Counter(counts, another_done) = &*counter;
        let mut counts = counts.lock();
        while counts.done < accepted {
            another_done.wait(&mut counts);
        }
        drop(counts);
        queue.close();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(queue.load(), (0, 0));
    });
}
