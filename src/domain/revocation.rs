//! What clients that cache answers have to hear of.

use super::{SessionId, UserId};

/// An end of sessions that makes cached answers wrong.
///
/// Expiry is not one: an answer says until when it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// One session ended, or got a new token.
    Session {
        /// Which session.
        session: SessionId,
        /// Whose it was.
        user: UserId,
    },
    /// All of a user's sessions ended.
    User {
        /// Whose sessions.
        user: UserId,
        /// The session that was spared.
        except: Option<SessionId>,
    },
    /// Everyone's sessions ended.
    Everyone,
}
