//! Users and sessions in this process's memory, gone with it.

use super::{
    Created, Epoch, Inserted, Lookup, NewSession, Operation, PendingChange, ReplacedHash, RevocationLog,
    Rotation, ScanCursor, ScanPage, SessionKey, SessionStore, StoreError, Updated, UserRecord, UserStore,
    session_table::{Creation, Found, Leftovers, SHARDS, SessionTable, TableWriter, new_log},
};
use crate::domain::{
    Attributes, ChangeId, Client, EmailKey, LiveSession, PasswordHash, Session, SessionId, Timestamp,
    TokenDigest, User, UserId,
};
use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A store that leaves nothing behind: for trials and tests. It keeps every promise but durability.
#[derive(Debug)]
pub struct MemoryStore {
    table: Arc<SessionTable>,
    writer: Mutex<TableWriter>,
    /// What only `get` and `list` give, by row; without the sessions that have nothing of it. A tree grows without a stall.
    details: RwLock<BTreeMap<u64, Box<Details>>>,
    revocations: RevocationLog,
    /// The shard that the sweep comes to next.
    next_swept: AtomicUsize,
    users: RwLock<Users>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Details {
    client: Client,
    attributes: Attributes,
}

#[derive(Debug, Default)]
struct Users {
    by_id: BTreeMap<UserId, UserRecord>,
    by_email: HashMap<EmailKey, UserId>,
}

impl Users {
    fn remove(&mut self, id: UserId) {
        if let Some(removed) = self.by_id.remove(&id) {
            self.by_email.remove(removed.user.email.key());
        }
    }
}

/// Leftovers that are freed under one lock, which lasts well under a millisecond.
const REAPED_AT_ONCE: usize = 256;

/// Shards that the sweep and the count look at before others have their turn.
const SHARDS_AT_ONCE: usize = 8;

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        let writer = TableWriter::new();
        Self {
            table: Arc::clone(writer.table()),
            writer: Mutex::new(writer),
            details: RwLock::default(),
            revocations: new_log(),
            next_swept: AtomicUsize::new(0),
            users: RwLock::default(),
        }
    }

    fn with_details(&self, found: Found) -> Session {
        let details = self.details.read().get(&found.row).cloned().unwrap_or_default();
        Session {
            live: found.live,
            client: details.client,
            attributes: details.attributes,
        }
    }

    fn forget_details(&self, rows: impl IntoIterator<Item = u64>) {
        let mut details = self.details.write();
        for row in rows {
            details.remove(&row);
        }
    }

    /// Frees leftovers; says how many sessions.
    fn reap(&self, leftovers: &Leftovers, now: Timestamp) -> usize {
        let mut writer = self.writer.lock();
        let rows = writer.reap(leftovers, now);
        writer.commit(&self.revocations);
        self.forget_details(rows.iter().copied());
        rows.len()
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    fn check(&self, digest: &TokenDigest, now: Timestamp) -> Lookup<Option<LiveSession>> {
        Lookup::Ready(Ok(self.table.find(digest, now).map(|found| found.live)))
    }

    fn touch(&self, session: &LiveSession, digest: &TokenDigest, at: Timestamp) {
        self.table.touch(session.id, digest, at);
    }

    async fn get(&self, digest: &TokenDigest, now: Timestamp) -> Result<Option<Session>, StoreError> {
        let Some(found) = self.table.find(digest, now) else {
            return Ok(None);
        };
        let session = self.with_details(found);
        // Details go after their session: if it is still there, what was read is what it has.
        let is_there = self
            .table
            .find(digest, now)
            .is_some_and(|again| again.row == found.row);
        Ok(is_there.then_some(session))
    }

    async fn epoch(&self, user: UserId) -> Result<Epoch, StoreError> {
        Ok(self.table.epoch(user))
    }

    async fn create(&self, new: NewSession, now: Timestamp) -> Result<Created, StoreError> {
        let mut writer = self.writer.lock();
        match writer.create(&new, now) {
            Ok(Creation::EpochMoved) => Ok(Created::EpochMoved),
            Ok(Creation::Row(row, ended)) => {
                let details = Details {
                    client: new.session.client,
                    attributes: new.session.attributes,
                };
                if details != Details::default() {
                    self.details.write().insert(row, Box::new(details));
                }
                writer.commit(&self.revocations);
                self.forget_details(ended.into_iter().map(|ended| ended.row));
                Ok(Created::Yes)
            }
            Err(refused) => Err(StoreError::new(Operation::Create, refused)),
        }
    }

    async fn rotate(&self, rotation: Rotation, now: Timestamp) -> Result<Option<Session>, StoreError> {
        let mut writer = self.writer.lock();
        let rotated = writer
            .rotate(&rotation, now)
            .map_err(|refused| StoreError::new(Operation::Rotate, refused))?;
        writer.commit(&self.revocations);
        // Still under the lock, so nobody has ended the session since.
        Ok(rotated.map(|rotated| {
            self.with_details(Found {
                live: rotated.live,
                row: rotated.row,
            })
        }))
    }

    async fn destroy(
        &self,
        key: SessionKey,
        now: Timestamp,
    ) -> Result<Option<(SessionId, UserId)>, StoreError> {
        let mut writer = self.writer.lock();
        let ended = writer.destroy(key, now);
        writer.commit(&self.revocations);
        self.forget_details(ended.map(|ended| ended.row));
        Ok(ended.map(|ended| (ended.id, ended.user)))
    }

    async fn list(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreError> {
        // Nothing ends meanwhile, so that every session still has its details.
        let writer = self.writer.lock();
        let found = self.table.list(user, before, limit as usize, now);
        let sessions = found.into_iter().map(|found| self.with_details(found)).collect();
        drop(writer);
        Ok(sessions)
    }

    async fn revoke_user(
        &self,
        user: UserId,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut writer = self.writer.lock();
        let revoked = writer.revoke_user(user, except, now);
        writer.commit(&self.revocations);
        self.forget_details(revoked.rows);
        Ok(revoked.living)
    }

    async fn revoke_everyone(&self, now: Timestamp) -> Result<u64, StoreError> {
        let revoked = {
            let mut writer = self.writer.lock();
            let revoked = writer.revoke_everyone();
            writer.commit(&self.revocations);
            revoked
        };
        let mut ended = 0;
        for shard in 0..SHARDS {
            ended += self.table.ended_with_everyones(shard, &revoked, now);
            if shard % SHARDS_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(ended)
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let limit = limit as usize;
        let mut freed = 0;
        for turn in 0..SHARDS {
            let shard = self.next_swept.fetch_add(1, Ordering::Relaxed) % SHARDS;
            let mut is_swept = false;
            while !is_swept && freed < limit {
                let at_once = REAPED_AT_ONCE.min(limit - freed);
                let leftovers = self.table.leftovers(shard, now, at_once);
                is_swept = leftovers.sessions.len() < at_once;
                if !leftovers.is_empty() {
                    freed += self.reap(&leftovers, now);
                }
            }
            if freed == limit {
                break;
            }
            if turn % SHARDS_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(freed as u64)
    }

    async fn scan(&self, from: ScanCursor, now: Timestamp) -> Result<ScanPage, StoreError> {
        Ok(self.table.scan_shard(from, now))
    }

    async fn count(&self, _now: Timestamp) -> Result<u64, StoreError> {
        Ok(self.table.living())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn revocations(&self) -> &RevocationLog {
        &self.revocations
    }
}

#[async_trait]
impl UserStore for MemoryStore {
    async fn insert(&self, record: &UserRecord) -> Result<Inserted, StoreError> {
        let mut users = self.users.write();
        let key = record.user.email.key();
        if users.by_email.contains_key(key) {
            return Ok(Inserted::EmailTaken);
        }
        if users.by_id.contains_key(&record.user.id) {
            return Err(StoreError::new(Operation::InsertUser, "another user has this id"));
        }
        users.by_email.insert(key.clone(), record.user.id);
        let record = UserRecord {
            pending: None,
            ..record.clone()
        };
        users.by_id.insert(record.user.id, record);
        Ok(Inserted::Yes)
    }

    async fn by_id(&self, id: UserId) -> Result<Option<UserRecord>, StoreError> {
        Ok(self.users.read().by_id.get(&id).cloned())
    }

    async fn by_email(&self, key: &EmailKey) -> Result<Option<UserRecord>, StoreError> {
        let users = self.users.read();
        Ok(users
            .by_email
            .get(key)
            .and_then(|id| users.by_id.get(id))
            .cloned())
    }

    async fn list(&self, after: Option<UserId>, limit: u32) -> Result<Vec<User>, StoreError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let users = self.users.read();
        let from = after.map_or(Unbounded, Excluded);
        Ok(users
            .by_id
            .range((from, Unbounded))
            .take(limit as usize)
            .map(|(_, record)| record.user.clone())
            .collect())
    }

    async fn update(&self, user: &User, expected_version: u64) -> Result<Updated, StoreError> {
        let mut users = self.users.write();
        let Users { by_id, by_email } = &mut *users;
        let Some(stored) = by_id
            .get_mut(&user.id)
            .filter(|stored| stored.user.version == expected_version)
        else {
            return Ok(Updated::VersionMoved);
        };
        if by_email.get(user.email.key()).is_some_and(|id| *id != user.id) {
            return Ok(Updated::EmailTaken);
        }
        by_email.remove(stored.user.email.key());
        by_email.insert(user.email.key().clone(), user.id);
        stored.user = user.clone();
        Ok(Updated::Yes)
    }

    async fn replace_password(
        &self,
        id: UserId,
        replaced: ReplacedHash<'_>,
        hash: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let mut users = self.users.write();
        let Some(stored) = users.by_id.get_mut(&id) else {
            return Ok(false);
        };
        let is_expected = replaced.allows(stored);
        if is_expected {
            stored.password_hash = Some(hash.clone());
        }
        Ok(is_expected)
    }

    async fn record_change(
        &self,
        user: UserId,
        expected: ReplacedHash<'_>,
        pending: &PendingChange,
    ) -> Result<bool, StoreError> {
        let mut users = self.users.write();
        let is_free = |stored: &&mut UserRecord| stored.pending.is_none() && expected.allows(stored);
        let Some(stored) = users.by_id.get_mut(&user).filter(is_free) else {
            return Ok(false);
        };
        stored.pending = Some(pending.clone());
        Ok(true)
    }

    async fn apply_change(&self, user: UserId, id: ChangeId) -> Result<bool, StoreError> {
        let mut users = self.users.write();
        let Some(stored) = users.by_id.get_mut(&user) else {
            return Ok(false);
        };
        match stored.pending.take_if(|pending| pending.id == id) {
            None => return Ok(false),
            Some(PendingChange { change, .. }) => match change.applied_to(stored.clone()) {
                Some(changed) => *stored = changed,
                None => users.remove(user),
            },
        }
        Ok(true)
    }

    async fn pending_changes(&self, limit: u32) -> Result<Vec<(UserId, PendingChange)>, StoreError> {
        let users = self.users.read();
        let pending = users.by_id.iter();
        let pending = pending.filter_map(|(id, stored)| Some((*id, stored.pending.clone()?)));
        Ok(pending.take(limit as usize).collect())
    }

    async fn delete(&self, id: UserId) -> Result<bool, StoreError> {
        let mut users = self.users.write();
        let existed = users.by_id.contains_key(&id);
        users.remove(id);
        Ok(existed)
    }

    async fn count(&self) -> Result<u64, StoreError> {
        Ok(self.users.read().by_id.len() as u64)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
