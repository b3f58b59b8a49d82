//! What a check found: as callers get it, and as it is kept, independent of the server's clock.

use crate::{
    contract,
    domain::{AuthMethod, SessionId, Timestamp, UserId},
    pb,
};
use std::time::Duration;

/// Whose session it is. Only a check makes one, so its holder can rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckedSession {
    /// Whose session it is.
    pub user_id: UserId,
    /// Which session it is.
    pub session_id: SessionId,
    /// When the user last proved who they are, by sessiond's clock.
    pub authenticated_at: Timestamp,
    /// How they did. `None`: in a way that this version does not know.
    pub auth_method: Option<AuthMethod>,
    /// How long ago they did, at the time of the check. Does not depend on how the machines' clocks differ.
    pub auth_age: Duration,
}

/// A positive answer, its instants converted to this process's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LocalSession {
    pub(super) user_id: UserId,
    pub(super) session_id: SessionId,
    pub(super) authenticated_at: Timestamp,
    pub(super) auth_method: Option<AuthMethod>,
    /// When the user proved who they are, by this process's clock; early by at most what the call took.
    pub(super) local_authenticated_at: Timestamp,
    /// When the session ends if it is not used, by this process's clock; early by at most what the call took.
    pub(super) local_valid_until: Timestamp,
}

impl LocalSession {
    /// The answer to a call that was sent at `sent_at`, an instant of this process's clock; `None` if it breaks the contract.
    ///
    /// The server answered after the call was sent, so spans that it counted from its answer are counted here from the sending:
    /// the session may end too early, never too late.
    pub(super) fn from_pb(found: &pb::UserIdForSessionResponse, sent_at: Timestamp) -> Option<Self> {
        let authenticated_at = contract::timestamp(found.authenticated_at?);
        let valid_until = contract::timestamp(found.valid_until?);
        let valid_for = Duration::try_from(*found.valid_for.as_ref()?).ok()?;
        let answered_at = valid_until.before(valid_for);
        Some(Self {
            user_id: found.user_id.parse().ok()?,
            session_id: found.session_id.parse().ok()?,
            authenticated_at,
            auth_method: contract::auth_method(found.auth_method()),
            local_authenticated_at: sent_at.before(answered_at.since(authenticated_at)),
            local_valid_until: sent_at.after(valid_for),
        })
    }

    /// The result of a check at `now`, an instant of this process's clock.
    pub(super) fn at(&self, now: Timestamp) -> CheckedSession {
        CheckedSession {
            user_id: self.user_id,
            session_id: self.session_id,
            authenticated_at: self.authenticated_at,
            auth_method: self.auth_method,
            auth_age: now.since(self.local_authenticated_at),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found() -> pb::UserIdForSessionResponse {
        pb::UserIdForSessionResponse {
            user_id: "01939d2a-1111-7000-8000-000000000001".into(),
            session_id: "01939d2a-2222-7000-8000-000000000002".into(),
            authenticated_at: Some(prost_types::Timestamp {
                seconds: 5_000,
                nanos: 0,
            }),
            auth_method: pb::AuthMethod::Password.into(),
            valid_until: Some(prost_types::Timestamp {
                seconds: 6_800,
                nanos: 0,
            }),
            valid_for: Some(prost_types::Duration {
                seconds: 1_700,
                nanos: 500_000_000,
            }),
        }
    }

    #[test]
    fn an_answer_is_converted_from_the_servers_clock() {
        let sent_at = Timestamp::from_millis(7_000_000_000);
        let session = LocalSession::from_pb(&found(), sent_at).unwrap();
        assert_eq!(
            session.local_valid_until,
            sent_at.after(Duration::from_millis(1_700_500))
        );
        // The server's clock stood at 5,099.5 s, so the log-in was 99.5 s old.
        let later = sent_at.after(Duration::from_secs(1));
        assert_eq!(session.at(later).auth_age, Duration::from_millis(100_500));
    }

    #[test]
    fn an_answer_that_breaks_the_contract_is_none() {
        let sent_at = Timestamp::default();
        let broken: [fn(&mut pb::UserIdForSessionResponse); 6] = [
            |found| found.user_id.clear(),
            |found| found.session_id = "7".into(),
            |found| found.authenticated_at = None,
            |found| found.valid_until = None,
            |found| found.valid_for = None,
            |found| {
                found.valid_for = Some(prost_types::Duration {
                    seconds: -1,
                    nanos: 0,
                })
            },
        ];
        for change in broken {
            let mut found = found();
            change(&mut found);
            assert_eq!(LocalSession::from_pb(&found, sent_at), None, "{found:?}");
        }
    }
}
