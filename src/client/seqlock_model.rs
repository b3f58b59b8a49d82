//! The seqlock in every execution that the memory model allows, by loom (S-105); and with each of its orderings taken away, so
//! that the model is known to notice.

/// Compiles `seqlock.rs` over these definitions, and gives a function that models it.
macro_rules! seqlock_over {
    ($name:ident: $($sync:item)*) => {
        #[path = "."]
        mod $name {
            mod sync {
                pub(super) use loom::{hint::spin_loop, sync::atomic::Ordering};
                $($sync)*
            }
            #[path = "seqlock.rs"]
            #[expect(clippy::duplicate_mod, reason = "the code under test is the code that runs")]
            mod seqlock;

            /// While one thread writes, another reads twice.
            pub(super) fn model() {
                loom::model(|| {
                    let written = loom::sync::Arc::new(seqlock::Seqlock::<2>::new());
                    let writer = {
                        let written = loom::sync::Arc::clone(&written);
                        loom::thread::spawn(move || written.write([1, 1]))
                    };
                    let mut last = 0;
                    for _ in 0..2 {
                        if let Some([first, second]) = written.read(1) {
                            assert_eq!(first, second, "a mix of two writes");
                            assert!(first >= last, "an older write after a newer one");
                            last = first;
                        }
                    }
                    writer.join().unwrap();
                    assert_eq!(written.read(1), Some([1, 1]));
                });
            }
        }
    };
}

/// An atomic of loom's that makes other accesses than the code asks for.
macro_rules! weak_atomic {
    ($load:expr, $store:expr) => {
        pub(super) struct AtomicU64(loom::sync::atomic::AtomicU64);

        impl AtomicU64 {
            pub(super) fn new(value: u64) -> Self {
                Self(loom::sync::atomic::AtomicU64::new(value))
            }

            pub(super) fn load(&self, order: Ordering) -> u64 {
                let weaken: fn(Ordering) -> Ordering = $load;
                self.0.load(weaken(order))
            }

            pub(super) fn store(&self, value: u64, order: Ordering) {
                let weaken: fn(Ordering) -> Ordering = $store;
                self.0.store(value, weaken(order));
            }
        }
    };
}

seqlock_over!(as_written: pub(super) use loom::sync::atomic::{AtomicU64, fence};);

seqlock_over!(without_acquire_load:
    pub(super) use loom::sync::atomic::fence;
    weak_atomic!(|_| Ordering::Relaxed, |order| order);
);

seqlock_over!(without_release_store:
    pub(super) use loom::sync::atomic::fence;
    weak_atomic!(|order| order, |_| Ordering::Relaxed);
);

seqlock_over!(without_acquire_fence:
    pub(super) use loom::sync::atomic::AtomicU64;
    pub(super) fn fence(order: Ordering) {
        if order != Ordering::Acquire {
            loom::sync::atomic::fence(order);
        }
    }
);

seqlock_over!(without_release_fence:
    pub(super) use loom::sync::atomic::AtomicU64;
    pub(super) fn fence(order: Ordering) {
        if order != Ordering::Release {
            loom::sync::atomic::fence(order);
        }
    }
);

#[test]
fn s_105_a_seqlock_never_gives_a_mix_of_two_writes() {
    as_written::model();
}

#[test]
#[should_panic(expected = "a mix of two writes")]
fn s_105_the_seqlock_needs_its_acquire_load() {
    without_acquire_load::model();
}

#[test]
#[should_panic(expected = "a mix of two writes")]
fn s_105_the_seqlock_needs_its_release_store() {
    without_release_store::model();
}

#[test]
#[should_panic(expected = "a mix of two writes")]
fn s_105_the_seqlock_needs_its_acquire_fence() {
    without_acquire_fence::model();
}

#[test]
#[should_panic(expected = "a mix of two writes")]
fn s_105_the_seqlock_needs_its_release_fence() {
    without_release_fence::model();
}
