//! A change of a user that ends their sessions, recorded before any of it is done.
//!
//! Users and sessions may live in two stores, and either may be away. So such a change is three commits: it is recorded with the
//! user, the sessions end, it is applied to the user. Whoever finds one that is recorded can complete it.

use super::UserRecord;
use crate::domain::{ChangeId, PasswordHash, Timestamp};

/// What is to become of a user once their sessions have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserChange {
    /// They have this password hash.
    SetPassword(PasswordHash),
    /// They are disabled, since this instant if they are not already.
    Disable(Timestamp),
    /// They are gone.
    Delete,
}

/// A change that is recorded and not yet applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingChange {
    /// Which it is.
    pub id: ChangeId,
    /// What is to become of the user.
    pub change: UserChange,
}

impl UserChange {
    /// The user as they are afterwards, with nothing pending; `None`: gone. For stores that change a user by writing all of them.
    pub(super) fn applied_to(self, mut record: UserRecord) -> Option<UserRecord> {
        record.pending = None;
        match self {
            Self::SetPassword(hash) => record.password_hash = Some(hash),
            Self::Disable(at) if record.user.disabled_at.is_none() => {
                record.user.disabled_at = Some(at);
                record.user.updated_at = at;
                record.user.version += 1;
            }
            Self::Disable(_) => {}
            Self::Delete => return None,
        }
        Some(record)
    }
}
