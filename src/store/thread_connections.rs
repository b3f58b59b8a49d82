//! What a store keeps for each thread that serves: connections whose tasks run on that very thread.
//!
//! The service runs a single-threaded runtime on each core. A question that goes to the server over a connection which another
//! thread drives wakes that thread, and is woken by it: twice a switch between threads, which costs more than the question. So
//! each such runtime gets a connection of its own, opened when it first asks. Runtimes with several threads, where tasks move
//! between them, use the shared connections, and so do threads beyond the limit.

use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::runtime::{Handle, Id, RuntimeFlavor};

/// The numbers of threads that have used a connection and still run.
static THREADS: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

thread_local! {
    static THREAD: Thread = Thread::numbered();
}

/// A thread's number: the least that no other thread has.
struct Thread(usize);

impl Thread {
    fn numbered() -> Self {
        let mut taken = THREADS.lock();
        let free = (0..).zip(&*taken).find(|(number, taken)| number != *taken);
        let number = free.map_or(taken.len(), |(number, _)| number);
        taken.insert(number);
        Self(number)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        THREADS.lock().remove(&self.0);
    }
}

/// A `T` for each thread that runs a runtime of its own, up to a number.
pub(super) struct PerThread<T> {
    places: Box<[Place<T>]>,
    is_closed: AtomicBool,
}

/// What is open on one thread, and for which runtime: a thread may run one after the other.
type Place<T> = Mutex<Option<(Id, Arc<T>)>>;

impl<T> PerThread<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            places: (0..limit).map(|_| Mutex::default()).collect(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// What is open for the runtime that this is called on; if nothing is, it is opened. `None`: use what is shared.
    ///
    /// A task that `open` spawns runs on that runtime.
    pub(super) fn here(&self, open: impl FnOnce() -> T) -> Option<Arc<T>> {
        let runtime = Handle::try_current().ok()?;
        if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
            return None;
        }
        let number = THREAD.try_with(|thread| thread.0).ok()?;
        let mut place = self.places.get(number)?.lock();
        if let Some((id, value)) = &*place
            && *id == runtime.id()
        {
            return Some(Arc::clone(value));
        }
        if self.is_closed.load(Ordering::Relaxed) {
            return None;
        }
        let value = Arc::new(open());
        *place = Some((runtime.id(), Arc::clone(&value)));
        Some(value)
    }

    /// Lets go of everything that is open, and opens nothing any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        for place in &self.places {
            *place.lock() = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use tokio::runtime::Builder;

    fn on_a_thread_of_its_own<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let runtime = Builder::new_current_thread().build().unwrap();
            let thread = scope.spawn(move || runtime.block_on(async { work() }));
            thread.join().unwrap()
        })
    }

    #[test]
    fn each_thread_with_a_runtime_of_its_own_has_one_value() {
        let per_thread = PerThread::new(1 << 16);
        let opened = AtomicUsize::new(0);
        let here = || {
            per_thread
                .here(|| opened.fetch_add(1, Ordering::Relaxed))
                .map(|value| *value)
        };
        let first = on_a_thread_of_its_own(|| [here(), here()]);
        let second = on_a_thread_of_its_own(here);
        assert_eq!(first, [Some(0); 2]);
        assert_eq!(second, Some(1));
        assert_eq!(here(), None, "a thread without a runtime");
        let shared = Builder::new_multi_thread().build().unwrap();
        assert_eq!(shared.block_on(async { here() }), None);
    }

    #[test]
    fn a_value_is_not_used_by_the_next_runtime_of_its_thread() {
        let per_thread = PerThread::new(1 << 16);
        let here = |value: u8| {
            let runtime = Builder::new_current_thread().build().unwrap();
            runtime.block_on(async { per_thread.here(|| value).map(|value| *value) })
        };
        assert_eq!([here(1), here(2)], [Some(1), Some(2)]);
    }

    #[test]
    fn there_are_no_more_values_than_agreed_and_none_after_the_end() {
        let none = PerThread::new(0);
        assert!(!on_a_thread_of_its_own(|| none.here(|| ()).is_some()));
        let per_thread = PerThread::new(1 << 16);
        let value = on_a_thread_of_its_own(|| per_thread.here(|| ()).unwrap());
        per_thread.close();
        assert_eq!(Arc::strong_count(&value), 1);
        assert!(!on_a_thread_of_its_own(|| per_thread.here(|| ()).is_some()));
    }
}
