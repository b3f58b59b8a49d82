//! The default store: memory answers, SQLite remembers.
//!
//! Every session has a [`SessionTable`](super::session_table::SessionTable) record in memory, from which checks are answered, and a
//! row in the data directory's one file. Changes go to one thread, which commits those that wait together (`writer.rs`). Users, and
//! the parts of a session that no check needs, are read from the file; users who were read lately stay in memory (`user_cache.rs`).

mod backup;
mod checkpoint;
mod counter_rows;
mod load;
mod open;
mod pending_rows;
mod readers;
mod row_checksum;
mod session_rows;
mod state;
#[cfg(test)]
mod tests;
mod user_cache;
mod user_rows;
mod writer;

use super::{
    Created, Epoch, Inserted, Lookup, NewSession, Operation, PendingChange, ReplacedHash, RevocationLog,
    Rotation, ScanCursor, ScanPage, SessionKey, SessionStore, StoreError, Updated, UserRecord, UserStore,
    session_table::{EveryoneRevoked, Found, SHARDS, SessionTable, new_log},
};
use crate::domain::{
    ChangeId, EmailKey, LiveSession, PasswordHash, Session, SessionId, Timestamp, TokenDigest, User, UserId,
    last_seen_slack,
};
use async_trait::async_trait;
pub use backup::ExistingData;
use checkpoint::Checkpointer;
use load::Loaded;
pub use open::OpenError;
use open::{DataDir, io_error};
use parking_lot::Mutex;
use readers::Readers;
use state::SharedState;
use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use writer::{Command, Expected, ReplySender, Writer};

/// Commands that may wait for the writer. One more is refused at once.
const QUEUED: usize = 8192;

/// How long a command waits for the disk before it says that it cannot tell.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a reader gives the writer to show what it has committed: it takes microseconds.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);

/// Leftovers that the sweep frees in one commit.
const REAPED_AT_ONCE: usize = 1024;

/// Shards that the sweep and the count look at before others have their turn.
const SHARDS_AT_ONCE: usize = 8;

/// Users and sessions on one machine's disk. `Ok` means synced.
///
/// One process at a time has a data directory. Dropping the store closes it, as [`close`](Self::close) does; a process that ends
/// without either loses nothing that was acknowledged.
///
/// If a write or a sync fails for another reason than a full disk, nothing more is written and every command that would is a
/// [`StoreError`]: only a restart can find out what is on disk. Checks go on. With a full disk, writes fail until there is space.
pub struct EmbeddedStore {
    table: Arc<SessionTable>,
    state: Arc<SharedState>,
    readers: Arc<Readers>,
    revocations: RevocationLog,
    commands: SyncSender<Command>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// The shard that the sweep comes to next.
    next_swept: AtomicUsize,
    clock_high_water: Option<Timestamp>,
    /// Unlocked last, when nothing uses the directory any more.
    data_dir: DataDir,
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens the data directory, which is made (readable by its owner only) if it does not exist, and reads every session.
    ///
    /// # Errors
    /// [`OpenError::Locked`] at once if another process has the directory; [`OpenError::Newer`] for the file of a newer release,
    /// which is not touched; [`OpenError::Corrupt`] if a single row is damaged; [`OpenError::Io`].
    pub fn open(data_dir: &Path) -> Result<Self, OpenError> {
        let data_dir = DataDir::lock(data_dir)?;
        let connection = data_dir.open_database()?;
        let path = data_dir.database();
        let Loaded {
            table,
            ended_rows,
            clock,
        } = load::load(&path)?;
        let state = Arc::<SharedState>::default();
        let revocations = new_log();
        let (commands, waiting) = mpsc::sync_channel(QUEUED);
        let shown = Arc::clone(table.table());
        let checkpointer = Checkpointer::start(path.clone(), Arc::clone(&state)).map_err(io_error(&path))?;
        let writer = Writer {
            connection,
            table,
            state: Arc::clone(&state),
            revocations: revocations.clone(),
            commands: waiting,
            ended_rows: ended_rows.into(),
            ending_rows: Vec::new(),
            changing_users: Vec::new(),
            clock: clock.unwrap_or_default(),
            checkpointer: Some(checkpointer),
            #[cfg(test)]
            fails_at_commit: None,
        };
        let writer = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(io_error(&path))?;
        Ok(Self {
            table: shown,
            state,
            readers: Arc::new(Readers::of(path)),
            revocations,
            commands,
            writer: Mutex::new(Some(writer)),
            next_swept: AtomicUsize::new(0),
            clock_high_water: clock,
            data_dir,
        })
    }

    /// The latest instant that an earlier process of this directory is known to have reached, to within about a second; `None` if
    /// there was none. No clock may start before it, or sessions would gain time.
    #[must_use]
    pub fn clock_high_water(&self) -> Option<Timestamp> {
        self.clock_high_water
    }

    /// Writes down what is not yet, such as touches, and stops writing. Blocks until that is done; may be called more than once.
    pub fn close(&self) {
        let mut writer = self.writer.lock();
        if let Some(thread) = writer.take() {
            // It fails only if the writer is gone already.
            let _ = self.commands.send(Command::Close);
            let _ = thread.join();
        }
    }

    /// Has the writer do something, and waits for it. A caller that stops waiting changes nothing about it.
    async fn ask<T>(
        &self,
        operation: Operation,
        command: impl FnOnce(ReplySender<T>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = ReplySender::here();
        self.commands
            .try_send(command(reply))
            .map_err(|error| match error {
                TrySendError::Full(_) => {
                    StoreError::new(operation, "too many writes are waiting for the disk")
                }
                TrySendError::Disconnected(_) => StoreError::new(operation, "the store is closed"),
            })?;
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(StoreError::new(operation, "the store is closed")),
            Err(_) => Err(StoreError::new(operation, "the disk does not answer")),
        }
    }

    /// A session with what the file has of it; `None` if the file no longer has it.
    fn with_details(&self, operation: Operation, found: &Found) -> Result<Option<Session>, StoreError> {
        let details = self.readers.read(operation, |connection| {
            session_rows::details(connection, found.row)
        })?;
        Ok(details.map(|details| details.with(found.live)))
    }

    /// Looks again for as long as the file is ahead of memory: a session's end is committed and not visible yet.
    async fn once_shown<T>(
        &self,
        operation: Operation,
        look: impl Fn() -> Result<Option<T>, StoreError>,
    ) -> Result<T, StoreError> {
        let give_up = Instant::now() + SHOWN_WITHIN;
        loop {
            if let Some(seen) = look()? {
                return Ok(seen);
            }
            if Instant::now() > give_up {
                return Err(StoreError::new(operation, "a living session has no row"));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn count_ended(&self, revoked: &EveryoneRevoked, now: Timestamp) -> u64 {
        let mut ended = 0;
        for shard in 0..SHARDS {
            ended += self.table.ended_with_everyones(shard, revoked, now);
            if shard % SHARDS_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        ended
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl SessionStore for EmbeddedStore {
    fn check(&self, digest: &TokenDigest, now: Timestamp) -> Lookup<Option<LiveSession>> {
        self.state.note_time(now);
        Lookup::Ready(Ok(self.table.find(digest, now).map(|found| found.live)))
    }

    fn touch(&self, session: &LiveSession, digest: &TokenDigest, at: Timestamp) {
        let Some(slot) = self.table.touch(session.id, digest, at) else {
            return;
        };
        self.state.touched.lock().push_back(slot);
        // The usual interval is too long for sessions that last a few seconds.
        let is_urgent = last_seen_slack(session.span.idle_timeout()) < writer::FLUSH_INTERVAL * 2;
        if is_urgent && !self.state.wants_flush.swap(true, Ordering::AcqRel) {
            // If the queue is full, the writer is awake and will see the wish.
            let _ = self.commands.try_send(Command::Flush);
        }
    }

    async fn get(&self, digest: &TokenDigest, now: Timestamp) -> Result<Option<Session>, StoreError> {
        const OPERATION: Operation = Operation::Get;
        self.once_shown(OPERATION, || match self.table.find(digest, now) {
            None => Ok(Some(None)),
            Some(found) => Ok(self.with_details(OPERATION, &found)?.map(Some)),
        })
        .await
    }

    async fn epoch(&self, user: UserId) -> Result<Epoch, StoreError> {
        Ok(self.table.epoch(user))
    }

    async fn create(&self, new: NewSession, now: Timestamp) -> Result<Created, StoreError> {
        self.state.note_time(now);
        let command = |reply| Command::Create(Box::new(new), now, reply);
        self.ask(Operation::Create, command).await
    }

    async fn rotate(&self, rotation: Rotation, now: Timestamp) -> Result<Option<Session>, StoreError> {
        self.state.note_time(now);
        let command = |reply| Command::Rotate(rotation, now, reply);
        self.ask(Operation::Rotate, command).await
    }

    async fn destroy(
        &self,
        key: SessionKey,
        now: Timestamp,
    ) -> Result<Option<(SessionId, UserId)>, StoreError> {
        self.state.note_time(now);
        let command = |reply| Command::Destroy(key, now, reply);
        self.ask(Operation::Destroy, command).await
    }

    async fn list(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreError> {
        const OPERATION: Operation = Operation::ListSessions;
        self.once_shown(OPERATION, || {
            let found = self.table.list(user, before, limit as usize, now);
            found
                .iter()
                .map(|found| self.with_details(OPERATION, found))
                .collect()
        })
        .await
    }

    async fn revoke_user(
        &self,
        user: UserId,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.state.note_time(now);
        let command = |reply| Command::RevokeUser(user, except, now, reply);
        self.ask(Operation::RevokeUser, command).await
    }

    async fn revoke_everyone(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.state.note_time(now);
        let revoked = self
            .ask(Operation::RevokeEveryone, Command::RevokeEveryone)
            .await?;
        Ok(self.count_ended(&revoked, now).await)
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        const OPERATION: Operation = Operation::Sweep;
        let limit = limit as usize;
        let mut freed = 0;
        let mut are_rows_left = true;
        while are_rows_left && freed < limit {
            let at_once = REAPED_AT_ONCE.min(limit - freed);
            let reaped = self
                .ask(OPERATION, |reply| Command::ReapRows(at_once, reply))
                .await?;
            are_rows_left = reaped == at_once;
            freed += reaped;
        }
        for turn in 0..SHARDS {
            if freed == limit {
                break;
            }
            let shard = self.next_swept.fetch_add(1, Ordering::Relaxed) % SHARDS;
            let mut is_swept = false;
            while !is_swept && freed < limit {
                let at_once = REAPED_AT_ONCE.min(limit - freed);
                let leftovers = self.table.leftovers(shard, now, at_once);
                is_swept = leftovers.sessions.len() < at_once;
                if !leftovers.is_empty() {
                    freed += self
                        .ask(OPERATION, |reply| Command::Reap(leftovers, now, reply))
                        .await?;
                }
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
        self.can_write_and_read()
    }

    fn revocations(&self) -> &RevocationLog {
        &self.revocations
    }
}

impl EmbeddedStore {
    fn can_write_and_read(&self) -> Result<(), StoreError> {
        const OPERATION: Operation = Operation::Ping;
        if self.state.is_broken() {
            return Err(StoreError::new(OPERATION, writer::NotWritten::Broken));
        }
        let is_running = |writer: &JoinHandle<()>| !writer.is_finished();
        if !self.writer.lock().as_ref().is_some_and(is_running) {
            return Err(StoreError::new(OPERATION, "the store is closed"));
        }
        self.readers.read(OPERATION, |connection| {
            counter_rows::everyone(connection).map(drop)
        })
    }
}

#[async_trait]
impl UserStore for EmbeddedStore {
    async fn insert(&self, record: &UserRecord) -> Result<Inserted, StoreError> {
        let record = Box::new(record.clone());
        let command = |reply| Command::InsertUser(record, reply);
        self.ask(Operation::InsertUser, command).await
    }

    async fn by_id(&self, id: UserId) -> Result<Option<UserRecord>, StoreError> {
        let missed = match self.state.users.get(id) {
            Ok(record) => return Ok(Some(UserRecord::clone(&record))),
            Err(missed) => missed,
        };
        let record = self
            .readers
            .read(Operation::ReadUser, |connection| user_rows::by_id(connection, id))?;
        if let Some(record) = &record {
            self.state.users.keep(&missed, record);
        }
        Ok(record)
    }

    async fn by_email(&self, key: &EmailKey) -> Result<Option<UserRecord>, StoreError> {
        self.readers.read(Operation::ReadUser, |connection| {
            user_rows::by_email(connection, key)
        })
    }

    async fn list(&self, after: Option<UserId>, limit: u32) -> Result<Vec<User>, StoreError> {
        self.readers.read(Operation::ListUsers, |connection| {
            user_rows::list(connection, after, limit)
        })
    }

    async fn update(&self, user: &User, expected_version: u64) -> Result<Updated, StoreError> {
        let user = Box::new(user.clone());
        let command = |reply| Command::UpdateUser(user, expected_version, reply);
        self.ask(Operation::UpdateUser, command).await
    }

    async fn replace_password(
        &self,
        id: UserId,
        replaced: ReplacedHash<'_>,
        hash: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let expected = Expected::from(replaced);
        let hash = hash.clone();
        let command = |reply| Command::ReplacePassword(id, expected, hash, reply);
        self.ask(Operation::ReplacePassword, command).await
    }

    async fn record_change(
        &self,
        user: UserId,
        expected: ReplacedHash<'_>,
        pending: &PendingChange,
    ) -> Result<bool, StoreError> {
        let expected = Expected::from(expected);
        let pending = Box::new(pending.clone());
        let command = |reply| Command::RecordChange(user, expected, pending, reply);
        self.ask(Operation::RecordChange, command).await
    }

    async fn apply_change(&self, user: UserId, id: ChangeId) -> Result<bool, StoreError> {
        let command = |reply| Command::ApplyChange(user, id, reply);
        self.ask(Operation::ApplyChange, command).await
    }

    async fn pending_changes(&self, limit: u32) -> Result<Vec<(UserId, PendingChange)>, StoreError> {
        self.readers.read(Operation::ListPendingChanges, |connection| {
            pending_rows::list(connection, limit)
        })
    }

    async fn delete(&self, id: UserId) -> Result<bool, StoreError> {
        self.ask(Operation::DeleteUser, |reply| Command::DeleteUser(id, reply))
            .await
    }

    async fn count(&self) -> Result<u64, StoreError> {
        const OPERATION: Operation = Operation::CountUsers;
        let readers = Arc::clone(&self.readers);
        // The one read that takes longer the more there is.
        tokio::task::spawn_blocking(move || readers.read(OPERATION, user_rows::count))
            .await
            .map_err(|error| StoreError::new(OPERATION, error))?
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.can_write_and_read()
    }
}
