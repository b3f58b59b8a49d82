//! Where users and sessions live: the two traits, their promises, and the stores that keep them.
//!
//! A store keeps and finds; it decides nothing that [`domain`](crate::domain) decides. Nothing above this module knows which
//! store it has. `tests/stores/contract` holds every promise written here against every store.
//!
//! # Promises of every operation
//!
//! - `Ok` means done, and kept as the store's kind promises (embedded: on disk). What an operation has acknowledged is what every
//!   operation that starts later sees, through any process that shares the store.
//! - `Err(StoreError)` means that the store cannot tell: the change may have happened or not. It is never an answer.
//! - An operation is atomic: others see all of it or nothing. A caller that stops waiting (drops the future) leaves nothing half
//!   done.
//! - Absence is `None` or `false`, never an error.
//! - Every operation answers within a few seconds; a store that is cut off or hangs is [`StoreError`], not silence.

use crate::domain::{
    ChangeId, EmailKey, LiveSession, PasswordHash, Session, SessionId, Timestamp, TokenDigest, User, UserId,
};
use async_trait::async_trait;
use std::{error::Error as StdError, fmt, future::Future, pin::Pin};

mod batcher;
mod copy;
mod embedded;
mod log_follower;
mod memory;
mod pending_change;
mod postgres;
pub mod redis;
mod revocations;
mod session_table;
mod thread_connections;

pub use copy::{CopyError, CopyProgress, copy_sessions, copy_users};
pub use embedded::{EmbeddedStore, ExistingData, OpenError};
pub use memory::MemoryStore;
pub use pending_change::{PendingChange, UserChange};
pub use postgres::{
    InvalidPostgresUrl, PostgresConfig, PostgresConnectError, PostgresStore, PostgresTlsError, PostgresUrl,
};
pub(crate) use revocations::monotonic_millis;
pub use revocations::{Cursor, RevocationEvent, RevocationLog, Revocations};

/// What a store was asked for, as a [`StoreError`] tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// [`SessionStore::check`].
    Check,
    /// [`SessionStore::get`].
    Get,
    /// [`SessionStore::epoch`].
    ReadEpoch,
    /// [`SessionStore::create`].
    Create,
    /// [`SessionStore::rotate`].
    Rotate,
    /// [`SessionStore::destroy`].
    Destroy,
    /// [`SessionStore::list`].
    ListSessions,
    /// [`SessionStore::revoke_user`].
    RevokeUser,
    /// [`SessionStore::revoke_everyone`].
    RevokeEveryone,
    /// [`SessionStore::sweep`].
    Sweep,
    /// [`SessionStore::scan`].
    Scan,
    /// [`SessionStore::count`].
    CountSessions,
    /// [`SessionStore::ping`] or [`UserStore::ping`].
    Ping,
    /// [`UserStore::insert`].
    InsertUser,
    /// [`UserStore::by_id`] or [`UserStore::by_email`].
    ReadUser,
    /// [`UserStore::list`].
    ListUsers,
    /// [`UserStore::update`].
    UpdateUser,
    /// [`UserStore::replace_password`].
    ReplacePassword,
    /// [`UserStore::delete`].
    DeleteUser,
    /// [`UserStore::count`].
    CountUsers,
    /// [`UserStore::record_change`].
    RecordChange,
    /// [`UserStore::apply_change`].
    ApplyChange,
    /// [`UserStore::pending_changes`].
    ListPendingChanges,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Check => "checking a session",
            Self::Get => "reading a session",
            Self::ReadEpoch => "reading a user's epoch",
            Self::Create => "creating a session",
            Self::Rotate => "rotating a session's token",
            Self::Destroy => "destroying a session",
            Self::ListSessions => "listing a user's sessions",
            Self::RevokeUser => "revoking a user's sessions",
            Self::RevokeEveryone => "revoking everyone's sessions",
            Self::Sweep => "sweeping sessions",
            Self::Scan => "scanning sessions",
            Self::CountSessions => "counting sessions",
            Self::Ping => "answering a ping",
            Self::InsertUser => "inserting a user",
            Self::ReadUser => "reading a user",
            Self::ListUsers => "listing users",
            Self::UpdateUser => "updating a user",
            Self::ReplacePassword => "replacing a password",
            Self::DeleteUser => "deleting a user",
            Self::CountUsers => "counting users",
            Self::RecordChange => "recording a change of a user",
            Self::ApplyChange => "applying a change of a user",
            Self::ListPendingChanges => "listing pending changes of users",
        })
    }
}

/// The store could not be reached, or did not answer as it should: the answer is unknown.
///
/// Names the operation that failed; the cause, for the log, is its source.
#[derive(Debug)]
pub struct StoreError {
    operation: Operation,
    is_full: bool,
    source: Box<dyn StdError + Send + Sync>,
}

impl StoreError {
    /// A failure of `operation`.
    pub fn new(operation: Operation, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            operation,
            is_full: false,
            source: source.into(),
        }
    }

    /// A failure of `operation` because the store has no room: nothing was changed.
    pub fn full(operation: Operation, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            is_full: true,
            ..Self::new(operation, source)
        }
    }

    /// Whether the store has no room for what was to be stored.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_full
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store failed at {}", self.operation)
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref())
    }
}

/// The answer to [`SessionStore::check`]: at hand, or on its way.
///
/// So a store that answers from memory allocates and awaits nothing.
pub enum Lookup<T> {
    /// The answer.
    Ready(Result<T, StoreError>),
    /// The answer takes a round trip. The future is lazy, and it owns what it needs: whoever holds it may do so in a task of its own.
    Pending(Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>),
}

impl<T> Lookup<T> {
    /// Waits for the answer, if it is not at hand.
    ///
    /// # Errors
    /// The store's.
    pub async fn wait(self) -> Result<T, StoreError> {
        match self {
            Self::Ready(answer) => answer,
            Self::Pending(answer) => answer.await,
        }
    }
}

/// A user as stored: with the password hash, which never leaves the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// The account.
    pub user: User,
    /// How they log in; `None` if they have no password.
    pub password_hash: Option<PasswordHash>,
    /// What will become of them once their sessions have ended. Until then nobody may log them in.
    pub pending: Option<PendingChange>,
}

/// What became of [`UserStore::insert`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The user is stored.
    Yes,
    /// Another user has this [`EmailKey`]; nothing was changed.
    EmailTaken,
}

/// What became of [`UserStore::update`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Updated {
    /// The user is stored as given.
    Yes,
    /// The stored user is gone or has another version than expected; nothing was changed.
    VersionMoved,
    /// Another user has this [`EmailKey`]; nothing was changed.
    EmailTaken,
}

/// Which stored password hash a new one may replace.
#[derive(Debug, Clone, Copy)]
pub enum ReplacedHash<'a> {
    /// Whatever is there, also none.
    Any,
    /// This one only: the one that a password was verified against.
    Exactly(&'a PasswordHash),
}

impl ReplacedHash<'_> {
    /// Whether the hash of this user is one that may be replaced.
    #[must_use]
    pub fn allows(self, stored: &UserRecord) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(expected) => stored.password_hash.as_ref() == Some(expected),
        }
    }
}

/// Where users live.
#[async_trait]
pub trait UserStore: Send + Sync + 'static {
    /// Stores a new user, for whom nothing is pending. Two users never share an [`EmailKey`], whatever races.
    async fn insert(&self, record: &UserRecord) -> Result<Inserted, StoreError>;

    /// The user with this id.
    async fn by_id(&self, id: UserId) -> Result<Option<UserRecord>, StoreError>;

    /// The user with this email.
    async fn by_email(&self, key: &EmailKey) -> Result<Option<UserRecord>, StoreError>;

    /// Up to `limit` users with ids greater than `after`, in the order of their ids.
    async fn list(&self, after: Option<UserId>, limit: u32) -> Result<Vec<User>, StoreError>;

    /// Replaces the stored user, except for the password hash, if it has version `expected_version`. `user.version` is already
    /// the new one. Of two updates that expect one version, one fails.
    async fn update(&self, user: &User, expected_version: u64) -> Result<Updated, StoreError>;

    /// Replaces the password hash if what is stored is what `replaced` says; the rest of the user, its version included, stays.
    /// `false` if it is not, or if the user is gone.
    async fn replace_password(
        &self,
        id: UserId,
        replaced: ReplacedHash<'_>,
        hash: &PasswordHash,
    ) -> Result<bool, StoreError>;

    /// Records a change of a user that ends their sessions. It does nothing else yet; [`by_id`](Self::by_id) and
    /// [`by_email`](Self::by_email) show it from now on. `false`, and nothing is recorded, if the user is gone, if the stored
    /// password hash is not what `expected` says, or if another change of the user is pending.
    async fn record_change(
        &self,
        user: UserId,
        expected: ReplacedHash<'_>,
        pending: &PendingChange,
    ) -> Result<bool, StoreError>;

    /// Applies the user's pending change if it is this one: in one commit the user is what it says, and nothing is pending. A
    /// user who is disabled by it gets the next version. `false` if nothing of that name is pending: it has been applied before.
    async fn apply_change(&self, user: UserId, id: ChangeId) -> Result<bool, StoreError>;

    /// Up to `limit` of the changes that are pending, of any users.
    async fn pending_changes(&self, limit: u32) -> Result<Vec<(UserId, PendingChange)>, StoreError>;

    /// Deletes the user. `false` if there was none. The email is free at once.
    async fn delete(&self, id: UserId) -> Result<bool, StoreError>;

    /// How many users there are.
    async fn count(&self) -> Result<u64, StoreError>;

    /// Whether the store can be asked now: one small read.
    async fn ping(&self) -> Result<(), StoreError>;
}

/// A mark that every revocation of all of a user's sessions moves. A session is created under the epoch that was read *before*
/// what vouches for the user was read; if the epoch has moved since, the session is not created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// An epoch as a store counts it.
    #[must_use]
    pub const fn from_count(count: u64) -> Self {
        Self(count)
    }

    /// The count.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.0
    }
}

/// A session to be stored.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// What its token will be known by.
    pub digest: TokenDigest,
    /// The session.
    pub session: Session,
    /// The user's epoch, as [`SessionStore::epoch`] gave it before the user was read.
    pub epoch: Epoch,
    /// The token of a session that this one replaces, whoever's it is.
    pub replaces: Option<TokenDigest>,
    /// Sessions that the user may have when this one is stored; the oldest make room. At least 1.
    pub max_per_user: u32,
}

/// What became of [`SessionStore::create`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The session lives.
    Yes,
    /// All sessions of the user were revoked since the epoch was read; nothing was changed.
    EpochMoved,
}

/// A new token for a session.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// What the session's token is known by now. An old token in its grace does not count.
    pub from: TokenDigest,
    /// What it will be known by.
    pub to: TokenDigest,
    /// Until when `from` still proves the session; at or before now: not at all.
    pub grace_until: Timestamp,
    /// When the user proved who they are, if they did so for this; `None` leaves the session's.
    pub authenticated_at: Option<Timestamp>,
}

/// Which session to end.
#[derive(Debug, Clone, Copy)]
pub enum SessionKey {
    /// The one whose token has this digest, also as an old token in its grace.
    Token(TokenDigest),
    /// The one with this id.
    Id(SessionId),
}

/// Where a scan of all sessions goes on, as the store spells it. The default is the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScanCursor(Vec<u8>);

impl ScanCursor {
    /// A cursor as a store spells it.
    fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// A cursor that a store spells as a number; the beginning is 0.
    fn number(&self) -> u64 {
        self.0.as_slice().try_into().map_or(0, u64::from_be_bytes)
    }
}

impl From<u64> for ScanCursor {
    fn from(number: u64) -> Self {
        Self::new(number.to_be_bytes())
    }
}

/// One page of a scan of all sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanPage {
    /// What the sessions' tokens are known by.
    pub digests: Vec<TokenDigest>,
    /// Where the scan goes on; `None`: that was the last page.
    pub next: Option<ScanCursor>,
}

/// Where sessions live.
///
/// A session *lives* from its creation until it is destroyed, replaced, evicted, revoked or expired; then it never lives again.
/// Only [`create`](Self::create) brings one to life: no other operation can insert. Every operation that ends or rotates sessions,
/// and `create` for those that it ends, publishes a [`Revocation`](crate::domain::Revocation) to [`revocations`](Self::revocations)
/// before it is acknowledged.
///
/// `now` is the instant of the call. A store uses it to leave out what has expired, by the rules of
/// [`LiveSession::is_expired`].
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// The session that a token with this digest proves, if it lives. By far the most frequent operation.
    ///
    /// An old token proves its session until the end of its grace. The answer's `last_seen_at` may lag behind by
    /// [`last_seen_slack`](crate::domain::last_seen_slack).
    fn check(&self, digest: &TokenDigest, now: Timestamp) -> Lookup<Option<LiveSession>>;

    /// Notes that a session was checked at `at`. Never waits, never fails, never lowers what is noted, and never brings a session
    /// back. Written down within half of the session's [`last_seen_slack`](crate::domain::last_seen_slack) where the process
    /// lives on.
    ///
    /// `session` and `digest` are those of one answer of [`check`](Self::check), and `at` is the present: a store that writes later
    /// counts from the call on how late it is.
    fn touch(&self, session: &LiveSession, digest: &TokenDigest, at: Timestamp);

    /// As [`check`](Self::check), with everything that was stored with the session.
    async fn get(&self, digest: &TokenDigest, now: Timestamp) -> Result<Option<Session>, StoreError>;

    /// The user's epoch now. Users that the store has never heard of have one too.
    async fn epoch(&self, user: UserId) -> Result<Epoch, StoreError>;

    /// Brings a session to life. In the same commit the session that it replaces ends, and so do the user's oldest sessions that
    /// exceed `max_per_user`, whatever is created beside it.
    async fn create(&self, new: NewSession, now: Timestamp) -> Result<Created, StoreError>;

    /// Replaces a living session's token. `None` if there is no such session: of two rotations from one token, one finds it.
    async fn rotate(&self, rotation: Rotation, now: Timestamp) -> Result<Option<Session>, StoreError>;

    /// Ends one session. Says which it was, and whose; `None` if none lived.
    async fn destroy(
        &self,
        key: SessionKey,
        now: Timestamp,
    ) -> Result<Option<(SessionId, UserId)>, StoreError>;

    /// Up to `limit` living sessions of the user, newest first, with ids less than `before`.
    async fn list(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreError>;

    /// Ends all sessions of the user but `except` (if that is a living session of the user) and moves the user's epoch. Says how
    /// many living sessions ended.
    async fn revoke_user(
        &self,
        user: UserId,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> Result<u64, StoreError>;

    /// Ends everyone's sessions and moves every user's epoch. Says how many living sessions ended.
    async fn revoke_everyone(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// Frees the space of up to `limit` sessions that have ended, and says how many. Changes no answer of any operation.
    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError>;

    /// Some of the living sessions, for a copy of them all into another store: the scan begins at the default cursor and goes on
    /// where the last page says. What lives during the whole scan and keeps its token is given at least once, in no order.
    async fn scan(&self, from: ScanCursor, now: Timestamp) -> Result<ScanPage, StoreError>;

    /// How many sessions live. Sessions that expired within the last sweep may still be counted.
    async fn count(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// Whether the store can be asked now: one small read.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Whether the store has no room for new sessions, as far as the last [`ping`](Self::ping) or [`create`](Self::create) has found
    /// out. Every other operation works all the same.
    fn is_full(&self) -> bool {
        false
    }

    /// What has been revoked, by this process and by any other that shares the store.
    fn revocations(&self) -> &RevocationLog;

    /// Closes the connections that belong to single threads, which are about to end, and opens no more of them. What is under way
    /// on them is still answered, and every operation goes on working over the shared connections.
    fn close_thread_connections(&self) {}
}
