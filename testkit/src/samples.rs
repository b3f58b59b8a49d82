//! Users, sessions and instants, and the short way to ask a store about them.

use sessiond::{
    domain::{
        Attributes, AuthMethod, Client, Email, LiveSession, Names, PasswordHash, RandomTokens, Roles,
        Session, SessionId, SessionSpan, Timestamp, TokenDigest, TokenSource as _, User, UserId,
    },
    store::{Created, Epoch, NewSession, SessionStore, UserRecord},
};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

/// How long a session of [`new_session`] lives without a check.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a session of [`new_session`] lives at all.
pub const LIFETIME: Duration = Duration::from_secs(3600);

/// The instant at which a test starts: now, because a store may use the clock of its server to free space.
pub fn start() -> Timestamp {
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("the clock stands after 1970");
    Timestamp::default().after(since_1970)
}

/// So many seconds.
pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// So many milliseconds.
pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The id of a user that nobody else has.
pub fn user_id() -> UserId {
    UserId::new(start(), RandomTokens.id_bits().unwrap())
}

/// The id of a session that was made at `at`.
pub fn session_id(at: Timestamp) -> SessionId {
    SessionId::new(at, RandomTokens.id_bits().unwrap())
}

/// The digest of a token that nobody else has.
pub fn digest() -> TokenDigest {
    RandomTokens.session_token().unwrap().digest()
}

/// A session of `user` made at `at`, with a client and attributes, that replaces none and meets a cap of 100.
pub fn new_session(user: UserId, epoch: Epoch, at: Timestamp) -> NewSession {
    let mut new = bare_session(user, epoch, at);
    new.session.client = Client::new("192.0.2.7".into(), "curl/8.14".into(), "a laptop".into()).unwrap();
    new.session.attributes = Attributes::new(BTreeMap::from([("theme".into(), "dark".into())])).unwrap();
    new
}

/// [`new_session`] with nothing that callers may leave out.
pub fn bare_session(user: UserId, epoch: Epoch, at: Timestamp) -> NewSession {
    NewSession {
        digest: digest(),
        session: Session {
            live: LiveSession {
                id: session_id(at),
                user_id: user,
                last_seen_at: at,
                authenticated_at: at,
                auth_method: AuthMethod::Password,
                span: span(LIFETIME, IDLE_TIMEOUT),
                grace_ends_at: None,
            },
            client: Client::default(),
            attributes: Attributes::default(),
        },
        epoch,
        replaces: None,
        max_per_user: 100,
    }
}

/// How long a session lives.
pub fn span(lifetime: Duration, idle_timeout: Duration) -> SessionSpan {
    let secs = |span: Duration| u32::try_from(span.as_secs()).unwrap();
    SessionSpan::from_secs(secs(lifetime), secs(idle_timeout))
}

/// A [`new_session`] of `user` under their present epoch.
pub async fn session_to_create(store: &dyn SessionStore, user: UserId, at: Timestamp) -> NewSession {
    new_session(user, store.epoch(user).await.unwrap(), at)
}

/// Creates a session of `user` under their present epoch, as `change` would have it.
pub async fn log_in_with(
    store: &dyn SessionStore,
    user: UserId,
    at: Timestamp,
    change: impl FnOnce(&mut NewSession),
) -> NewSession {
    let mut new = session_to_create(store, user, at).await;
    change(&mut new);
    assert_eq!(store.create(new.clone(), at).await.unwrap(), Created::Yes);
    new
}

/// Creates a session of `user` under their present epoch.
pub async fn log_in(store: &dyn SessionStore, user: UserId, at: Timestamp) -> NewSession {
    log_in_with(store, user, at, |_| ()).await
}

/// What a check answers.
pub async fn check(store: &dyn SessionStore, digest: &TokenDigest, now: Timestamp) -> Option<LiveSession> {
    store.check(digest, now).wait().await.unwrap()
}

/// Whether a token proves a session, which both reads have to agree about.
pub async fn lives(store: &dyn SessionStore, digest: &TokenDigest, now: Timestamp) -> bool {
    let live = check(store, digest, now).await;
    let whole = store.get(digest, now).await.unwrap();
    assert_eq!(live.map(|live| live.id), whole.map(|whole| whole.live.id));
    live.is_some()
}

/// Which of these tokens prove a session.
pub async fn living(store: &dyn SessionStore, sessions: &[NewSession], now: Timestamp) -> Vec<SessionId> {
    let mut ids = Vec::new();
    for new in sessions {
        if lives(store, &new.digest, now).await {
            ids.push(new.session.live.id);
        }
    }
    ids
}

/// The ids of the user's sessions, as a list says.
pub async fn listed(store: &dyn SessionStore, user: UserId, now: Timestamp) -> Vec<SessionId> {
    let sessions = store.list(user, None, 1000, now).await.unwrap();
    sessions.iter().map(|session| session.live.id).collect()
}

/// A user with an email of their own and a password.
pub fn user_record() -> UserRecord {
    let id = user_id();
    let created_at = id.created_at();
    UserRecord {
        user: User {
            id,
            email: email(&format!("user-{id}@example.org")),
            names: Names::new("Ada".into(), "Lovelace".into()).unwrap(),
            roles: Roles::new(vec!["admin".into(), "reports:read".into()]).unwrap(),
            created_at,
            updated_at: created_at.after(millis(1)),
            disabled_at: None,
            version: 1,
        },
        password_hash: Some(hash("first")),
        pending: None,
    }
}

/// An address that is well formed.
pub fn email(text: &str) -> Email {
    Email::new("email", text).unwrap()
}

/// What stands for the hash of a password where nobody verifies it.
pub fn hash(text: &str) -> PasswordHash {
    PasswordHash::from_stored(format!("$test${text}"))
}
