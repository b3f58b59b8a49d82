//! What has been revoked since when, as version numbers: fixed memory, constant time, no index from sessions to cached answers.

use crate::domain::{Revocation, SessionId, UserId};
use std::sync::atomic::{AtomicU64, Ordering};

/// 512 KiB. Sessions and users that share a slot share its revocations, and are checked again needlessly: at a hundred
/// revocations a second, one cached answer in sixty within the five seconds between two checks.
const SLOTS: usize = 1 << 16;

/// The version is the number of revocations received; each slot of sessions and users has the version of its last one.
///
/// [`RevocationVersions::version`] is taken before a check is sent. Its answer is current only while none of its slots has a
/// greater version: so a revocation invalidates every answer to a check sent before it came, cached or still in flight.
pub(super) struct RevocationVersions {
    version: AtomicU64,
    everyone: AtomicU64,
    slots: Box<[AtomicU64]>,
}

impl RevocationVersions {
    pub(super) fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            everyone: AtomicU64::new(0),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// How many revocations have been received.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether the answer to a check of this session that was sent at `version` is still current.
    pub(super) fn is_current(&self, version: u64, user: UserId, session: SessionId) -> bool {
        let last = |key: u64| self.slot(key).load(Ordering::Acquire);
        last(key_of(session.to_bytes()))
            .max(last(key_of(user.to_bytes())))
            .max(self.everyone.load(Ordering::Acquire))
            <= version
    }

    /// Takes a revocation in. A session that was spared is checked again: its slot is its user's.
    pub(super) fn record(&self, revocation: Revocation) {
        match revocation {
            Revocation::Session { session, user: _ } => self.advance(self.slot(key_of(session.to_bytes()))),
            Revocation::User { user, except: _ } => self.advance(self.slot(key_of(user.to_bytes()))),
            Revocation::Everyone => self.advance(&self.everyone),
        }
    }

    fn advance(&self, slot: &AtomicU64) {
        let version = self.version.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        slot.fetch_max(version, Ordering::Release);
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
    fn a_revocation_invalidates_the_answers_to_earlier_checks() {
        let (user_1, session_2) = (user(1), session(2));
        let revocations: [fn(&RevocationVersions); 3] = [
            |versions| {
                versions.record(Revocation::Session {
                    session: session(2),
                    user: user(9),
                })
            },
            |versions| {
                versions.record(Revocation::User {
                    user: user(1),
                    except: None,
                })
            },
            |versions| versions.record(Revocation::Everyone),
        ];
        for revoke in revocations {
            let versions = RevocationVersions::new();
            let before = versions.version();
            assert!(versions.is_current(before, user_1, session_2));
            revoke(&versions);
            assert!(!versions.is_current(before, user_1, session_2));
            assert!(versions.is_current(versions.version(), user_1, session_2));
        }
    }

    #[test]
    fn a_revocation_leaves_others_alone() {
        let versions = RevocationVersions::new();
        versions.record(Revocation::Session {
            session: session(2),
            user: user(1),
        });
        versions.record(Revocation::User {
            user: user(4),
            except: None,
        });
        assert!(versions.is_current(0, user(1), session(3)));
    }
}
