//! What has been revoked since when: fixed memory, constant time, no index from sessions to remembered answers.

use crate::domain::{Revocation, SessionId, UserId};
use std::sync::atomic::{AtomicU64, Ordering};

/// 512 KiB. Whoever shares a slot shares its revocations, and is asked for again needlessly: at a hundred revocations a second,
/// one remembered answer in sixty within the five seconds that it is remembered without a new check.
const SLOTS: usize = 1 << 16;

/// A count of the revocations heard so far, and for each slot of sessions and users the number of its last one.
///
/// An answer notes [`Marks::now`] before it is asked for. It stands only while none of its slots has a greater number: so a
/// revocation beats every answer that was asked for before it was heard, remembered or still under way.
pub(super) struct Marks {
    heard: AtomicU64,
    everyone: AtomicU64,
    slots: Box<[AtomicU64]>,
}

impl Marks {
    pub(super) fn new() -> Self {
        Self {
            heard: AtomicU64::new(0),
            everyone: AtomicU64::new(0),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// How many revocations have been heard.
    pub(super) fn now(&self) -> u64 {
        self.heard.load(Ordering::Acquire)
    }

    /// Whether an answer about this session that was asked for at `asked_at` still stands.
    pub(super) fn let_stand(&self, asked_at: u64, user: UserId, session: SessionId) -> bool {
        let last = |key: u64| self.slot(key).load(Ordering::Acquire);
        last(key_of(session.to_bytes()))
            .max(last(key_of(user.to_bytes())))
            .max(self.everyone.load(Ordering::Acquire))
            <= asked_at
    }

    /// Notes a revocation. A session that was spared is asked for again: its slot is its user's.
    pub(super) fn revoke(&self, revocation: Revocation) {
        match revocation {
            Revocation::Session { session, user: _ } => self.mark(self.slot(key_of(session.to_bytes()))),
            Revocation::User { user, except: _ } => self.mark(self.slot(key_of(user.to_bytes()))),
            Revocation::Everyone => self.mark(&self.everyone),
        }
    }

    fn mark(&self, slot: &AtomicU64) {
        let number = self.heard.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        slot.fetch_max(number, Ordering::Release);
    }

    fn slot(&self, key: u64) -> &AtomicU64 {
        // SLOTS is a power of two, so the index is in range.
        &self.slots[(key as usize) & (SLOTS - 1)]
    }
}

/// The last eight bytes: random in a version 7 UUID.
fn key_of(id: [u8; 16]) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = id;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn user(n: u8) -> UserId {
        UserId::new(Timestamp::default(), [n; 10])
    }

    fn session(n: u8) -> SessionId {
        SessionId::new(Timestamp::default(), [n; 10])
    }

    #[test]
    fn a_revocation_beats_the_answers_that_were_asked_for_before_it() {
        let (user_1, session_2) = (user(1), session(2));
        let revocations: [fn(&Marks); 3] = [
            |marks| {
                marks.revoke(Revocation::Session {
                    session: session(2),
                    user: user(9),
                })
            },
            |marks| {
                marks.revoke(Revocation::User {
                    user: user(1),
                    except: None,
                })
            },
            |marks| marks.revoke(Revocation::Everyone),
        ];
        for revoke in revocations {
            let marks = Marks::new();
            let before = marks.now();
            assert!(marks.let_stand(before, user_1, session_2));
            revoke(&marks);
            assert!(!marks.let_stand(before, user_1, session_2));
            assert!(marks.let_stand(marks.now(), user_1, session_2));
        }
    }

    #[test]
    fn a_revocation_leaves_others_alone() {
        let marks = Marks::new();
        marks.revoke(Revocation::Session {
            session: session(2),
            user: user(1),
        });
        marks.revoke(Revocation::User {
            user: user(4),
            except: None,
        });
        assert!(marks.let_stand(0, user(1), session(3)));
    }
}
