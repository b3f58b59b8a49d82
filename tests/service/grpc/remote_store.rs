//! A store of sessions as one that other processes share: its checks have to be waited for, are counted, and fail while it is cut off.

use async_trait::async_trait;
use sessiond::{
    domain::{LiveSession, Session, SessionId, Timestamp, TokenDigest, UserId},
    store::{
        Created, Epoch, Lookup, MemoryStore, NewSession, Operation, RevocationLog, Rotation, ScanCursor,
        ScanPage, SessionKey, SessionStore, StoreError,
    },
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// What a check fails with while the store is cut off.
pub(crate) const CAUSE: &str = "connection reset by the test";

pub(crate) struct RemoteStore {
    memory: Arc<MemoryStore>,
    lookups: AtomicUsize,
    is_cut_off: AtomicBool,
}

impl RemoteStore {
    pub(crate) fn open() -> Arc<Self> {
        Arc::new(Self {
            memory: Arc::new(MemoryStore::new()),
            lookups: AtomicUsize::new(0),
            is_cut_off: AtomicBool::new(false),
        })
    }

    pub(crate) fn cut_off(&self) {
        self.is_cut_off.store(true, Ordering::SeqCst);
    }

    /// How often a token was looked up.
    pub(crate) fn lookups(&self) -> usize {
        self.lookups.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl SessionStore for RemoteStore {
    fn check(&self, digest: &TokenDigest, now: Timestamp) -> Lookup<Option<LiveSession>> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        let (memory, digest) = (Arc::clone(&self.memory), *digest);
        let is_cut_off = self.is_cut_off.load(Ordering::SeqCst);
        Lookup::Pending(Box::pin(async move {
            tokio::task::yield_now().await;
            match is_cut_off {
                true => Err(StoreError::new(Operation::Check, CAUSE)),
                false => memory.check(&digest, now).wait().await,
            }
        }))
    }

    fn touch(&self, session: &LiveSession, digest: &TokenDigest, at: Timestamp) {
        self.memory.touch(session, digest, at);
    }

    async fn get(&self, digest: &TokenDigest, now: Timestamp) -> Result<Option<Session>, StoreError> {
        self.memory.get(digest, now).await
    }

    async fn epoch(&self, user: UserId) -> Result<Epoch, StoreError> {
        self.memory.epoch(user).await
    }

    async fn create(&self, new: NewSession, now: Timestamp) -> Result<Created, StoreError> {
        self.memory.create(new, now).await
    }

    async fn rotate(&self, rotation: Rotation, now: Timestamp) -> Result<Option<Session>, StoreError> {
        self.memory.rotate(rotation, now).await
    }

    async fn destroy(
        &self,
        key: SessionKey,
        now: Timestamp,
    ) -> Result<Option<(SessionId, UserId)>, StoreError> {
        self.memory.destroy(key, now).await
    }

    async fn list(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreError> {
        SessionStore::list(&*self.memory, user, before, limit, now).await
    }

    async fn revoke_user(
        &self,
        user: UserId,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.memory.revoke_user(user, except, now).await
    }

    async fn revoke_everyone(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.memory.revoke_everyone(now).await
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.memory.sweep(now, limit).await
    }

    async fn scan(&self, from: ScanCursor, now: Timestamp) -> Result<ScanPage, StoreError> {
        self.memory.scan(from, now).await
    }

    async fn count(&self, now: Timestamp) -> Result<u64, StoreError> {
        SessionStore::count(&*self.memory, now).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        SessionStore::ping(&*self.memory).await
    }

    fn revocations(&self) -> &RevocationLog {
        self.memory.revocations()
    }
}
