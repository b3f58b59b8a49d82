//! The revocation marks of a shard: which sessions the revocations of all of a user's or of everyone's have ended.
//!
//! Every such revocation has a *sequence*, greater than all before it, and every session the sequence of the last revocation before
//! its creation. A shard's mark is the sequence of the last revocation that the shard knows: what was created before that has ended.

use super::record::SessionRecord;
use crate::domain::{Revocation, SessionId, UserId};

/// A shard's two marks, everyone's and that of one user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RevocationMarks {
    everyone: u64,
    user: u64,
    /// The session that the user's last revocation spared, and what `user` is for it.
    spared: Option<(SessionId, u64)>,
}

impl RevocationMarks {
    /// The marks as stored; `None` if they make no sense.
    ///
    /// A user's mark is the sequence of the last revocation, the sequence of the last one that did not spare the session which the
    /// last one spared, and that session. More need not be remembered: every other session is older than the last.
    pub(crate) fn from_stored(everyone: Option<&[u8]>, user: Option<&[u8]>) -> Option<Self> {
        let sequence = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse().ok();
        let mut marks = Self::default();
        if let Some(bytes) = everyone {
            marks.everyone = sequence(bytes)?;
        }
        if let Some(bytes) = user {
            let mut parts = bytes.splitn(3, |byte| *byte == b' ');
            marks.user = sequence(parts.next()?)?;
            let without_it = sequence(parts.next()?)?;
            let spared = parts.next()?;
            if !spared.is_empty() {
                marks.spared = Some((SessionId::from_bytes(spared.try_into().ok()?), without_it));
            }
        }
        Some(marks)
    }

    /// The revocation that has ended this session, if one has.
    pub(crate) fn revocation_of(&self, record: &SessionRecord) -> Option<SequencedRevocation> {
        let created_after = record.created_after();
        if created_after < self.everyone {
            return Some(SequencedRevocation::Everyone {
                sequence: self.everyone,
            });
        }
        let by_user = match self.spared {
            Some((id, without_it)) if id == record.id() => without_it,
            Some(_) | None => self.user,
        };
        // What the last one spared may have been ended by one before; all others have been ended by the last.
        (created_after < by_user).then(|| SequencedRevocation::User {
            user: record.user(),
            sequence: self.user,
            except: self.spared.map(|(id, _)| id),
        })
    }
}

/// A revocation of all of a user's sessions or of everyone's, and its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SequencedRevocation {
    Everyone {
        sequence: u64,
    },
    User {
        user: UserId,
        sequence: u64,
        except: Option<SessionId>,
    },
}

impl SequencedRevocation {
    pub(crate) fn sequence(self) -> u64 {
        match self {
            Self::Everyone { sequence } | Self::User { sequence, .. } => sequence,
        }
    }

    /// The entry of the log of revocations.
    pub(crate) fn entry(self) -> Revocation {
        match self {
            Self::Everyone { .. } => Revocation::Everyone,
            Self::User { user, except, .. } => Revocation::User { user, except },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::layout::record::tests::session;

    #[test]
    fn a_mark_ends_what_was_created_before_it_and_spares_one() {
        let record = SessionRecord::of(&session(""), 5);
        let spare = |everyone: Option<&str>, user: Option<Vec<u8>>| {
            let everyone = everyone.map(str::as_bytes);
            let marks = RevocationMarks::from_stored(everyone, user.as_deref()).unwrap();
            marks.revocation_of(&record).is_none()
        };
        assert!(spare(None, None));
        assert!(spare(Some("5"), Some(b"5 0 ".to_vec())));
        assert!(!spare(Some("6"), None));
        assert!(!spare(None, Some(b"6 0 ".to_vec())));
        // A space in the id is part of the id.
        let excepting = |without_it: &str, id: u8| {
            format!("9 {without_it} ")
                .into_bytes()
                .into_iter()
                .chain([id; 16])
        };
        assert!(spare(None, Some(excepting("5", 1).collect())));
        assert!(!spare(None, Some(excepting("6", 1).collect())));
        assert!(!spare(None, Some(excepting("0", b' ').collect())));
    }
}
