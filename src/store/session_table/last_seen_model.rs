//! The word of activity and expiry in every execution that the memory model allows, by loom (S-105); and with its comparisons
//! taken away, so that the model is known to notice.

/// Compiles `last_seen.rs` over these definitions, and gives a function that models it.
macro_rules! last_seen_over {
    ($name:ident: $($sync:item)*) => {
        #[path = "."]
        mod $name {
            mod sync {
                pub(super) use loom::sync::atomic::Ordering;
                $($sync)*
            }
            #[path = "last_seen.rs"]
            #[expect(clippy::duplicate_mod, reason = "the code under test is the code that runs")]
            #[expect(dead_code, reason = "the model needs no greatest time")]
            mod last_seen;

            use last_seen::LastSeen;
            use loom::{sync::Arc, thread};

            /// A session that expires ten ticks after it was last seen, which was at its creation. While one check at the tenth
            /// tick finds out that it is over, another at the ninth touches it, and a third at the eighth looks twice.
            pub(super) fn model() {
                loom::model(|| {
                    let expired_at = |now: u32| move |seen: u32| now >= seen + 10;
                    let session = Arc::new(LastSeen::at(0));
                    let touched = {
                        let session = Arc::clone(&session);
                        thread::spawn(move || session.raise(9, expired_at(9)))
                    };
                    let looked = {
                        let session = Arc::clone(&session);
                        thread::spawn(move || [(); 2].map(|()| session.end_if(expired_at(8))))
                    };
                    let found = session.end_if(expired_at(10));
                    let found_again = session.end_if(expired_at(9));
                    let touched = touched.join().unwrap();
                    let looked = looked.join().unwrap();

                    // Either the touch came first, and the session lives; or the expiry did, and it is over for everyone.
                    assert_ne!(touched, found.is_none(), "touched, and told that it is over");
                    assert_eq!(found, touched.then_some(9));
                    assert_eq!(found_again, found, "brought back");
                    assert_eq!(session.get(), found, "brought back");
                    assert!(looked[0].is_some() || looked[1].is_none(), "brought back");
                    assert!(looked[1].is_none() || looked[0] <= looked[1], "seen earlier than before");
                });
            }
        }
    };
}

/// An atomic of loom's whose exchanges do not compare.
macro_rules! forgetful_atomic {
    ($forgets:expr) => {
        pub(super) struct AtomicU32(loom::sync::atomic::AtomicU32);

        impl std::fmt::Debug for AtomicU32 {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl AtomicU32 {
            pub(super) fn new(value: u32) -> Self {
                Self(loom::sync::atomic::AtomicU32::new(value))
            }

            pub(super) fn load(&self, order: Ordering) -> u32 {
                self.0.load(order)
            }

            pub(super) fn fetch_max(&self, value: u32, order: Ordering) -> u32 {
                self.0.fetch_max(value, order)
            }

            pub(super) fn compare_exchange_weak(
                &self,
                current: u32,
                new: u32,
                success: Ordering,
                failure: Ordering,
            ) -> Result<u32, u32> {
                let forgets: fn(u32) -> bool = $forgets;
                match forgets(new) {
                    true => Ok(self.0.swap(new, success)),
                    false => self.0.compare_exchange_weak(current, new, success, failure),
                }
            }
        }
    };
}

last_seen_over!(as_written: pub(super) use loom::sync::atomic::AtomicU32;);
last_seen_over!(with_a_blind_touch: forgetful_atomic!(|new| new != u32::MAX););
last_seen_over!(with_a_blind_end: forgetful_atomic!(|new| new == u32::MAX););

#[test]
fn s_105_a_session_is_touched_or_over_and_never_brought_back() {
    as_written::model();
}

#[test]
#[should_panic(expected = "told that it is over")]
fn s_105_a_touch_that_does_not_compare_is_noticed() {
    with_a_blind_touch::model();
}

#[test]
#[should_panic(expected = "told that it is over")]
fn s_105_an_end_that_does_not_compare_is_noticed() {
    with_a_blind_end::model();
}
