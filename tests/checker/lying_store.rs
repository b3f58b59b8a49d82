//! A store with a bug of a chosen kind over one without.

use async_trait::async_trait;
use parking_lot::Mutex;
use sessiond::{
    domain::{LiveSession, Session, SessionId, SessionSpan, Timestamp, TokenDigest, UserId},
    store::{
        Created, Epoch, Lookup, MemoryStore, NewSession, RevocationEvent, RevocationLog, Rotation,
        ScanCursor, ScanPage, SessionKey, SessionStore, StoreError,
    },
};
use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Bugs that real session stores have had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// Answers are cached for a moment, and not dropped when they stop being true.
    StaleCache,
    /// Now and then a session is said to be destroyed that is not.
    LostDestroy,
    /// A session is found for some seconds after its end.
    LateExpiry,
    /// Now and then a check is given the answer of another check.
    SwappedId,
    /// A restart brings back what was destroyed just before.
    Resurrection,
    /// Of every two revocations, only one is published.
    UntoldRevocation,
    /// For a while neither revocations nor heartbeats are published. No bug by itself: a client that caches answers must notice.
    SilentLog,
}

/// How long the stale cache keeps an answer.
const STALE: Duration = Duration::from_millis(300);

/// How late the late expiry is.
const LATE: Duration = Duration::from_secs(2);

/// When a silent log says nothing, from the beginning on.
const SILENCE: Range<Duration> = Duration::from_millis(1000)..Duration::from_millis(3500);

/// One process's view of the store.
pub(crate) struct LyingStore {
    honest: Arc<MemoryStore>,
    bug: Bug,
    calls: AtomicUsize,
    remembered: Mutex<HashMap<TokenDigest, (LiveSession, Instant)>>,
    last_found: Mutex<Option<LiveSession>>,
    created: Mutex<HashMap<TokenDigest, NewSession>>,
    destroyed: Mutex<Vec<TokenDigest>>,
    /// What is published to clients that cache answers.
    completion: RevocationLog,
}

impl LyingStore {
    pub(crate) fn over(honest: Arc<MemoryStore>, bug: Bug) -> Arc<Self> {
        let completion = match bug {
            Bug::UntoldRevocation => half_of(honest.revocations()),
            Bug::SilentLog => silent_for_a_while(honest.revocations()),
            Bug::None
            | Bug::StaleCache
            | Bug::LostDestroy
            | Bug::LateExpiry
            | Bug::SwappedId
            | Bug::Resurrection => honest.revocations().clone(),
        };
        Arc::new(Self {
            honest,
            bug,
            calls: AtomicUsize::new(0),
            remembered: Mutex::default(),
            last_found: Mutex::default(),
            created: Mutex::default(),
            destroyed: Mutex::default(),
            completion,
        })
    }

    /// What the process does when it is killed and started again.
    pub(crate) async fn restart(&self, now: Timestamp) {
        if self.bug != Bug::Resurrection {
            return;
        }
        let recent: Vec<_> = self.destroyed.lock().drain(..).rev().take(20).collect();
        for digest in recent {
            let lost = self.created.lock().get(&digest).cloned();
            if let Some(mut lost) = lost {
                lost.epoch = self.honest.epoch(lost.session.live.user_id).await.unwrap();
                lost.replaces = None;
                self.honest.create(lost, now).await.unwrap();
            }
        }
    }

    /// Whether it is the turn of a bug that shows now and then.
    fn is_turn(&self, every: usize) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) % every == every - 1
    }

    fn look_up(&self, digest: &TokenDigest, now: Timestamp) -> Option<LiveSession> {
        let look = |now| match self.honest.check(digest, now) {
            Lookup::Ready(found) => found.unwrap(),
            Lookup::Pending(_) => unreachable!("the memory store answers at once"),
        };
        match self.bug {
            Bug::None | Bug::LostDestroy | Bug::Resurrection | Bug::UntoldRevocation | Bug::SilentLog => {
                look(now)
            }
            Bug::StaleCache => {
                let remembered = self.remembered.lock().get(digest).copied();
                match remembered {
                    Some((session, at)) if at.elapsed() < STALE => Some(session),
                    _ => {
                        let found = look(now)?;
                        self.remembered.lock().insert(*digest, (found, Instant::now()));
                        Some(found)
                    }
                }
            }
            Bug::LateExpiry => {
                if let Some(found) = look(now) {
                    self.remembered.lock().insert(*digest, (found, Instant::now()));
                    return Some(found);
                }
                let (found, _) = self.remembered.lock().get(digest).copied()?;
                let is_late = found.is_expired(now) && !found.is_expired(now.before(LATE));
                let span = SessionSpan::from_secs(
                    found.span.lifetime_secs() + LATE.as_secs() as u32,
                    found.span.idle_timeout_secs() + LATE.as_secs() as u32,
                );
                is_late.then_some(LiveSession { span, ..found })
            }
            Bug::SwappedId => {
                let found = look(now)?;
                let other = self.last_found.lock().replace(found)?;
                Some(if self.is_turn(50) { other } else { found })
            }
        }
    }
}

#[async_trait]
impl SessionStore for LyingStore {
    fn check(&self, digest: &TokenDigest, now: Timestamp) -> Lookup<Option<LiveSession>> {
        Lookup::Ready(Ok(self.look_up(digest, now)))
    }

    fn touch(&self, session: &LiveSession, digest: &TokenDigest, at: Timestamp) {
        self.honest.touch(session, digest, at);
    }

    async fn get(&self, digest: &TokenDigest, now: Timestamp) -> Result<Option<Session>, StoreError> {
        self.honest.get(digest, now).await
    }

    async fn epoch(&self, user: UserId) -> Result<Epoch, StoreError> {
        self.honest.epoch(user).await
    }

    async fn create(&self, new: NewSession, now: Timestamp) -> Result<Created, StoreError> {
        self.created.lock().insert(new.digest, new.clone());
        self.honest.create(new, now).await
    }

    async fn rotate(&self, rotation: Rotation, now: Timestamp) -> Result<Option<Session>, StoreError> {
        self.honest.rotate(rotation, now).await
    }

    async fn destroy(
        &self,
        key: SessionKey,
        now: Timestamp,
    ) -> Result<Option<(SessionId, UserId)>, StoreError> {
        if let SessionKey::Token(digest) = key {
            if self.bug == Bug::LostDestroy
                && self.is_turn(4)
                && let Some(session) = self.honest.check(&digest, now).wait().await?
            {
                return Ok(Some((session.id, session.user_id)));
            }
            self.destroyed.lock().push(digest);
        }
        self.honest.destroy(key, now).await
    }

    async fn list(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreError> {
        SessionStore::list(&*self.honest, user, before, limit, now).await
    }

    async fn revoke_user(
        &self,
        user: UserId,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.honest.revoke_user(user, except, now).await
    }

    async fn revoke_everyone(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.honest.revoke_everyone(now).await
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.honest.sweep(now, limit).await
    }

    async fn scan(&self, from: ScanCursor, now: Timestamp) -> Result<ScanPage, StoreError> {
        self.honest.scan(from, now).await
    }

    async fn count(&self, now: Timestamp) -> Result<u64, StoreError> {
        SessionStore::count(&*self.honest, now).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        SessionStore::ping(&*self.honest).await
    }

    fn revocations(&self) -> &RevocationLog {
        &self.completion
    }
}

/// A log with every second entry of another.
fn half_of(whole: &RevocationLog) -> RevocationLog {
    let half = RevocationLog::in_process(7);
    let (copied, mut entries) = (half.clone(), whole.read(Some(whole.head())));
    tokio::spawn(async move {
        loop {
            for (cursor, entry) in entries.next(100).await {
                match entry {
                    RevocationEvent::Revoked(revocation) if cursor.sequence % 2 == 0 => {
                        copied.publish(revocation)
                    }
                    RevocationEvent::Revoked(_) | RevocationEvent::Forget => {}
                }
            }
        }
    });
    half
}

/// A log that follows another, but for the [`SILENCE`].
fn silent_for_a_while(whole: &RevocationLog) -> RevocationLog {
    let log = RevocationLog::following(whole.head());
    let (copied, whole, started_at) = (log.clone(), whole.clone(), Instant::now());
    let mut entries = whole.read(Some(whole.head()));
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if SILENCE.contains(&started_at.elapsed()) {
                continue;
            }
            let complete_until = whole.complete_until();
            for (cursor, entry) in entries.ready(usize::MAX) {
                match entry {
                    RevocationEvent::Revoked(revocation) => copied.publish_at(cursor.sequence, revocation),
                    RevocationEvent::Forget => unreachable!("fewer entries come than the log keeps"),
                }
            }
            copied.confirm(complete_until);
        }
    });
    log
}
