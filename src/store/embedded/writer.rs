//! The one thread that writes. Whatever is waiting shares a commit: decided in order, synced once, then shown, then answered.

use super::{
    checkpoint::{self, Checkpointer},
    counter_rows, pending_rows,
    session_rows::{self, Details, SessionRow},
    state::SharedState,
    user_rows,
};
use crate::{
    domain::{ChangeId, LiveSession, PasswordHash, Session, SessionId, Timestamp, User, UserId},
    store::{
        Created, Inserted, NewSession, Operation, PendingChange, ReplacedHash, RevocationLog, Rotation,
        SessionKey, StoreError, Updated, UserRecord,
        session_table::{Creation, EveryoneRevoked, Leftovers, Slot, TableWriter},
    },
};
use rusqlite::Connection;
use std::{
    collections::VecDeque,
    error::Error as StdError,
    fmt,
    ops::RangeInclusive,
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::oneshot};

/// Commands that share one commit, at most.
const COMMANDS_AT_ONCE: usize = 1024;

/// Touches that are written in one commit, at most: a few milliseconds' worth.
const TOUCHES_AT_ONCE: usize = 4096;

/// How often touches and the clock are written.
pub(super) const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// How far the clock gets before it is worth writing down.
const CLOCK_SLACK: Duration = Duration::from_millis(250);

/// Where an answer goes. Its caller may have stopped waiting.
pub(super) struct ReplySender<T> {
    sender: oneshot::Sender<Result<T, StoreError>>,
    /// The runtime of the caller.
    runtime: Handle,
}

impl<T> ReplySender<T> {
    /// A place for one answer to the caller, who runs in a runtime, and where the answer will come.
    pub(super) fn here() -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (sender, answer) = oneshot::channel();
        let runtime = Handle::current();
        (Self { sender, runtime }, answer)
    }

    fn send(self, answer: Result<T, StoreError>) {
        let _ = self.sender.send(answer);
    }
}

/// A command for the writer.
pub(super) enum Command {
    Create(Box<NewSession>, Timestamp, ReplySender<Created>),
    Rotate(Rotation, Timestamp, ReplySender<Option<Session>>),
    Destroy(SessionKey, Timestamp, ReplySender<Option<(SessionId, UserId)>>),
    RevokeUser(UserId, Option<SessionId>, Timestamp, ReplySender<u64>),
    RevokeEveryone(ReplySender<EveryoneRevoked>),
    /// Free what the sweep found in memory.
    Reap(Leftovers, Timestamp, ReplySender<usize>),
    /// Delete up to so many rows that ended without their numbers at hand.
    ReapRows(usize, ReplySender<usize>),
    InsertUser(Box<UserRecord>, ReplySender<Inserted>),
    UpdateUser(Box<User>, u64, ReplySender<Updated>),
    ReplacePassword(UserId, Expected, PasswordHash, ReplySender<bool>),
    RecordChange(UserId, Expected, Box<PendingChange>, ReplySender<bool>),
    ApplyChange(UserId, ChangeId, ReplySender<bool>),
    DeleteUser(UserId, ReplySender<bool>),
    /// Write touches down now.
    Flush,
    /// Write everything down, and write nothing more.
    Close,
    #[cfg(test)]
    Intervene(Box<dyn FnOnce(&mut Writer) + Send>),
}

/// Which password hash may be replaced.
pub(super) enum Expected {
    Any,
    Exactly(PasswordHash),
}

impl From<ReplacedHash<'_>> for Expected {
    fn from(replaced: ReplacedHash<'_>) -> Self {
        match replaced {
            ReplacedHash::Any => Self::Any,
            ReplacedHash::Exactly(hash) => Self::Exactly(hash.clone()),
        }
    }
}

impl Expected {
    fn allows(&self, stored: &UserRecord) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(hash) => ReplacedHash::Exactly(hash).allows(stored),
        }
    }
}

/// Why a command failed.
enum Failure {
    /// It cannot be done; nothing of it was written, and whatever shares the commit goes on.
    Refused(Box<dyn StdError + Send + Sync>),
    /// Writing failed, and with it the whole commit.
    Commit(Box<dyn StdError + Send + Sync>),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Commit(error.into())
    }
}

impl From<Box<dyn StdError + Send + Sync>> for Failure {
    fn from(error: Box<dyn StdError + Send + Sync>) -> Self {
        Self::Commit(error)
    }
}

/// The commit that a command shared did not happen. What failed is in the log.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(super) enum NotWritten {
    #[error("the commit failed")]
    CommitFailed,
    #[error("an earlier write failed, and what is on disk is not known until the restart")]
    Broken,
}

/// An answer that waits for the commit.
struct PendingAnswer {
    give: Box<dyn FnOnce(Result<(), NotWritten>) + Send>,
    runtime: Handle,
}

/// Gives the answers, each on its caller's runtime: waking a runtime from outside is a system call, so all its answers
/// come with one.
fn give(answers: Vec<PendingAnswer>, done: Result<(), NotWritten>) {
    let mut by_runtime: Vec<(Handle, Vec<_>)> = Vec::new();
    for PendingAnswer { give, runtime } in answers {
        match by_runtime
            .iter_mut()
            .find(|(other, _)| other.id() == runtime.id())
        {
            Some((_, gives)) => gives.push(give),
            None => by_runtime.push((runtime, vec![give])),
        }
    }
    for (runtime, mut gives) in by_runtime {
        // Nothing is saved by having a task do it.
        if gives.len() == 1 {
            gives.drain(..).for_each(|give| give(done));
            continue;
        }
        runtime.spawn(async move {
            for give in gives {
                give(done);
            }
        });
    }
}

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) table: TableWriter,
    pub(super) state: Arc<SharedState>,
    pub(super) revocations: RevocationLog,
    pub(super) commands: mpsc::Receiver<Command>,
    /// Rows of sessions that ended together, for the sweep.
    pub(super) ended_rows: VecDeque<RangeInclusive<u64>>,
    /// Those that will have once the commit has happened.
    pub(super) ending_rows: Vec<u64>,
    /// Users whose change is part of the commit.
    pub(super) changing_users: Vec<UserId>,
    /// How far the clock is written down.
    pub(super) clock: Timestamp,
    pub(super) checkpointer: Option<Checkpointer>,
    #[cfg(test)]
    pub(super) fails_at_commit: Option<rusqlite::Error>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer(..)")
    }
}

impl Writer {
    /// Until the store is closed or gone.
    pub(super) fn run(mut self) {
        let mut flush_at = Instant::now() + FLUSH_INTERVAL;
        loop {
            match self
                .commands
                .recv_timeout(flush_at.saturating_duration_since(Instant::now()))
            {
                Ok(command) => {
                    if !self.work_off(command) {
                        break;
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            if self.state.wants_flush.swap(false, Ordering::AcqRel) || Instant::now() >= flush_at {
                let is_done = self.flush();
                // What is left gets its turn after the commands that came meanwhile.
                flush_at = Instant::now() + if is_done { FLUSH_INTERVAL } else { Duration::ZERO };
            }
            if self.state.wants_checkpoint.swap(false, Ordering::AcqRel) && !self.state.is_broken() {
                self.note(checkpoint::finish(&self.connection), "emptying the log");
            }
        }
        self.close();
    }

    /// Runs a command and those that wait behind it in one commit. `false` if the last one was to close.
    fn work_off(&mut self, first: Command) -> bool {
        let mut answers: Vec<PendingAnswer> = Vec::new();
        let mut is_open = true;
        let mut next = Some(first);
        let begun = match self.state.is_broken() {
            true => Err(NotWritten::Broken),
            false => self.begin(),
        };
        let mut done = begun;
        let mut taken = 0;
        while let Some(command) = next.take() {
            taken += 1;
            match (command, done) {
                (Command::Flush, _) => {}
                (Command::Close, _) => {
                    is_open = false;
                    break;
                }
                (command, Ok(())) => {
                    if let Err(error) = self.apply(command, &mut answers) {
                        self.state.note_failure("writing", error.as_ref());
                        done = Err(NotWritten::CommitFailed);
                    }
                }
                (command, Err(not_written)) => command.refuse(not_written),
            }
            // After a failure, those that wait get another commit.
            if taken < COMMANDS_AT_ONCE && (done.is_ok() || begun.is_err()) {
                next = self.commands.try_recv().ok();
            }
        }
        let done = done.and_then(|()| self.commit());
        match done {
            Ok(()) => {
                let touched = self.table.commit(&self.revocations);
                self.state.touched.lock().extend(touched);
                self.ended_rows
                    .extend(self.ending_rows.drain(..).map(|row| row..=row));
            }
            Err(_) => {
                self.ending_rows.clear();
                self.table.roll_back();
                if begun.is_ok() {
                    self.roll_back();
                }
            }
        }
        for user in self.changing_users.drain(..) {
            self.state.users.end_change(user);
        }
        give(answers, done);
        is_open
    }

    fn begin(&mut self) -> Result<(), NotWritten> {
        let begun = self.connection.execute_batch("BEGIN IMMEDIATE");
        self.note(begun, "beginning to write")
            .ok_or(NotWritten::CommitFailed)
    }

    fn commit(&mut self) -> Result<(), NotWritten> {
        let latest = self.state.latest();
        let is_clock_due = latest.since(self.clock) >= CLOCK_SLACK;
        let committed = (|| {
            if is_clock_due {
                counter_rows::set_clock(&self.connection, latest)?;
            }
            #[cfg(test)]
            if let Some(error) = self.fails_at_commit.take() {
                return Err(error);
            }
            self.connection.execute_batch("COMMIT")
        })();
        self.note(committed, "committing")
            .ok_or(NotWritten::CommitFailed)?;
        if is_clock_due {
            self.clock = latest;
        }
        Ok(())
    }

    fn roll_back(&mut self) {
        // A failed commit may have ended the transaction by itself.
        if !self.connection.is_autocommit() {
            let rolled_back = self.connection.execute_batch("ROLLBACK");
            self.note(rolled_back, "rolling back");
        }
    }

    fn note<T>(&self, result: rusqlite::Result<T>, doing: &'static str) -> Option<T> {
        result
            .inspect_err(|error| self.state.note_failure(doing, error))
            .ok()
    }

    /// Decides and writes one command. The answer waits for the commit.
    ///
    /// # Errors
    /// What makes the commit fail.
    fn apply(
        &mut self,
        command: Command,
        answers: &mut Vec<PendingAnswer>,
    ) -> Result<(), Box<dyn StdError + Send + Sync>> {
        match command {
            Command::Create(new, now, reply) => {
                hold(answers, reply, Operation::Create, self.create(*new, now))
            }
            Command::Rotate(rotation, now, reply) => {
                hold(answers, reply, Operation::Rotate, self.rotate(&rotation, now))
            }
            Command::Destroy(key, now, reply) => {
                hold(answers, reply, Operation::Destroy, self.destroy(key, now))
            }
            Command::RevokeUser(user, except, now, reply) => {
                let revoked = self.revoke_user(user, except, now);
                hold(answers, reply, Operation::RevokeUser, revoked)
            }
            Command::RevokeEveryone(reply) => {
                hold(answers, reply, Operation::RevokeEveryone, self.revoke_everyone())
            }
            Command::Reap(leftovers, now, reply) => {
                hold(answers, reply, Operation::Sweep, self.reap(&leftovers, now))
            }
            Command::ReapRows(limit, reply) => hold(answers, reply, Operation::Sweep, self.reap_rows(limit)),
            Command::InsertUser(record, reply) => {
                hold(answers, reply, Operation::InsertUser, self.insert_user(&record))
            }
            Command::UpdateUser(user, expected_version, reply) => {
                let updated = self.update_user(*user, expected_version);
                hold(answers, reply, Operation::UpdateUser, updated)
            }
            Command::ReplacePassword(id, expected, hash, reply) => {
                let replaced = self.replace_password(id, &expected, hash);
                hold(answers, reply, Operation::ReplacePassword, replaced)
            }
            Command::RecordChange(user, expected, pending, reply) => {
                let recorded = self.record_change(user, &expected, &pending);
                hold(answers, reply, Operation::RecordChange, recorded)
            }
            Command::ApplyChange(user, id, reply) => {
                let applied = self.apply_change(user, id);
                hold(answers, reply, Operation::ApplyChange, applied)
            }
            Command::DeleteUser(id, reply) => {
                self.begin_change_of(id);
                let deleted = user_rows::delete(&self.connection, id).map_err(Failure::from);
                hold(answers, reply, Operation::DeleteUser, deleted)
            }
            Command::Flush | Command::Close => Ok(()),
            #[cfg(test)]
            Command::Intervene(intervene) => {
                intervene(self);
                Ok(())
            }
        }
    }

    fn create(&mut self, new: NewSession, now: Timestamp) -> Result<Created, Failure> {
        let creation = self
            .table
            .create(&new, now)
            .map_err(|refused| Failure::Refused(refused.into()))?;
        let Creation::Row(row, ended) = creation else {
            return Ok(Created::EpochMoved);
        };
        for ended in ended {
            session_rows::delete(&self.connection, ended.row)?;
        }
        let row = SessionRow {
            row,
            digest: new.digest,
            live: new.session.live,
            epoch: new.epoch.count(),
            old_token: None,
        };
        session_rows::insert(&self.connection, &row, &Details::of(new.session))?;
        Ok(Created::Yes)
    }

    fn rotate(&mut self, rotation: &Rotation, now: Timestamp) -> Result<Option<Session>, Failure> {
        let rotated = self
            .table
            .rotate(rotation, now)
            .map_err(|refused| Failure::Refused(refused.into()))?;
        let Some(rotated) = rotated else {
            return Ok(None);
        };
        session_rows::change(&self.connection, rotated.row, |row| {
            row.digest = rotation.to;
            row.live = LiveSession {
                last_seen_at: rotated.live.last_seen_at,
                authenticated_at: rotated.live.authenticated_at,
                ..row.live
            };
            row.old_token = (now < rotation.grace_until).then_some((rotation.from, rotation.grace_until));
        })?;
        let details = session_rows::details(&self.connection, rotated.row)?;
        Ok(Some(details.unwrap_or_default().with(rotated.live)))
    }

    fn destroy(&mut self, key: SessionKey, now: Timestamp) -> Result<Option<(SessionId, UserId)>, Failure> {
        let Some(ended) = self.table.destroy(key, now) else {
            return Ok(None);
        };
        session_rows::delete(&self.connection, ended.row)?;
        Ok(Some((ended.id, ended.user)))
    }

    /// One row, however many sessions: the others are dead by their epoch, and the sweep deletes them.
    fn revoke_user(
        &mut self,
        user: UserId,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> Result<u64, Failure> {
        let revoked = self.table.revoke_user(user, except, now);
        counter_rows::set_epoch(&self.connection, user, revoked.epoch)?;
        if let Some(spared) = revoked.spared {
            session_rows::change(&self.connection, spared, |row| row.epoch = revoked.sum)?;
        }
        self.ending_rows.extend(revoked.rows);
        Ok(revoked.living)
    }

    fn revoke_everyone(&mut self) -> Result<EveryoneRevoked, Failure> {
        let revoked = self.table.revoke_everyone();
        counter_rows::set_everyone(&self.connection, revoked.count)?;
        Ok(revoked)
    }

    fn reap(&mut self, leftovers: &Leftovers, now: Timestamp) -> Result<usize, Failure> {
        let rows = self.table.reap(leftovers, now);
        for row in &rows {
            session_rows::delete(&self.connection, *row)?;
        }
        Ok(rows.len())
    }

    fn reap_rows(&mut self, limit: usize) -> Result<usize, Failure> {
        let mut reaped = 0;
        while let Some(rows) = self.ended_rows.front()
            && reaped < limit
        {
            let found = session_rows::delete_range(&self.connection, rows, limit - reaped)?;
            reaped += found;
            if reaped < limit {
                // If the commit fails, the next process finds them again.
                self.ended_rows.pop_front();
            }
        }
        Ok(reaped)
    }

    fn insert_user(&mut self, record: &UserRecord) -> Result<Inserted, Failure> {
        let user = &record.user;
        if user_rows::is_email_taken(&self.connection, user.email.key(), user.id)? {
            return Ok(Inserted::EmailTaken);
        }
        if user_rows::by_id(&self.connection, user.id)?.is_some() {
            return Err(Failure::Refused("another user has this id".into()));
        }
        self.put_user(record)?;
        Ok(Inserted::Yes)
    }

    fn put_user(&mut self, record: &UserRecord) -> rusqlite::Result<()> {
        self.begin_change_of(record.user.id);
        user_rows::put(&self.connection, record)
    }

    fn begin_change_of(&mut self, user: UserId) {
        self.state.users.begin_change(user);
        self.changing_users.push(user);
    }

    fn update_user(&mut self, user: User, expected_version: u64) -> Result<Updated, Failure> {
        let Some(stored) = user_rows::by_id(&self.connection, user.id)?
            .filter(|stored| stored.user.version == expected_version)
        else {
            return Ok(Updated::VersionMoved);
        };
        if user_rows::is_email_taken(&self.connection, user.email.key(), user.id)? {
            return Ok(Updated::EmailTaken);
        }
        self.put_user(&UserRecord { user, ..stored })?;
        Ok(Updated::Yes)
    }

    fn replace_password(
        &mut self,
        id: UserId,
        expected: &Expected,
        hash: PasswordHash,
    ) -> Result<bool, Failure> {
        let stored = user_rows::by_id(&self.connection, id)?;
        let Some(stored) = stored.filter(|stored| expected.allows(stored)) else {
            return Ok(false);
        };
        let record = UserRecord {
            password_hash: Some(hash),
            ..stored
        };
        self.put_user(&record)?;
        Ok(true)
    }

    fn record_change(
        &mut self,
        user: UserId,
        expected: &Expected,
        pending: &PendingChange,
    ) -> Result<bool, Failure> {
        let is_free = |stored: &UserRecord| stored.pending.is_none() && expected.allows(stored);
        if !user_rows::by_id(&self.connection, user)?.is_some_and(|stored| is_free(&stored)) {
            return Ok(false);
        }
        self.begin_change_of(user);
        pending_rows::insert(&self.connection, user, pending)?;
        Ok(true)
    }

    fn apply_change(&mut self, user: UserId, id: ChangeId) -> Result<bool, Failure> {
        let Some(mut stored) = user_rows::by_id(&self.connection, user)? else {
            return Ok(false);
        };
        let Some(pending) = stored.pending.take_if(|pending| pending.id == id) else {
            return Ok(false);
        };
        self.begin_change_of(user);
        match pending.change.applied_to(stored) {
            Some(changed) => {
                pending_rows::delete(&self.connection, user)?;
                user_rows::put(&self.connection, &changed)?;
            }
            None => {
                user_rows::delete(&self.connection, user)?;
            }
        }
        Ok(true)
    }

    /// Writes down a part of the touches, and how far the clock got. Whether that was all.
    pub(super) fn flush(&mut self) -> bool {
        let is_clock_due = self.state.latest().since(self.clock) >= CLOCK_SLACK;
        let (slots, is_all) = {
            let mut touched = self.state.touched.lock();
            let count = touched.len().min(TOUCHES_AT_ONCE);
            let slots: Vec<Slot> = touched.drain(..count).collect();
            (slots, touched.is_empty())
        };
        if self.state.is_broken() || (slots.is_empty() && !is_clock_due) {
            return true;
        }
        let written = self.begin().and_then(|()| {
            let table = self.table.table();
            for found in slots.iter().filter_map(|slot| table.take_touch(*slot)) {
                let set = session_rows::set_last_seen(&self.connection, found.row, found.live.last_seen_at);
                self.note(set, "writing touches down")
                    .ok_or(NotWritten::CommitFailed)?;
            }
            self.commit()
        });
        if written.is_err() {
            self.roll_back();
            let table = self.table.table();
            let returned = slots.into_iter().filter(|slot| table.return_touch(*slot));
            self.state.touched.lock().extend(returned);
            // Not at once again: a disk that is full stays so for a while.
            return true;
        }
        is_all
    }

    fn close(mut self) {
        self.checkpointer.take();
        while !self.flush() {}
        if !self.state.is_broken() {
            self.note(checkpoint::truncate(&self.connection), "emptying the log");
        }
    }
}

impl Command {
    /// Answers that it was not done.
    fn refuse(self, why: NotWritten) {
        match self {
            Self::Create(_, _, reply) => refuse(reply, Operation::Create, why),
            Self::Rotate(_, _, reply) => refuse(reply, Operation::Rotate, why),
            Self::Destroy(_, _, reply) => refuse(reply, Operation::Destroy, why),
            Self::RevokeUser(_, _, _, reply) => refuse(reply, Operation::RevokeUser, why),
            Self::RevokeEveryone(reply) => refuse(reply, Operation::RevokeEveryone, why),
            Self::Reap(_, _, reply) | Self::ReapRows(_, reply) => refuse(reply, Operation::Sweep, why),
            Self::InsertUser(_, reply) => refuse(reply, Operation::InsertUser, why),
            Self::UpdateUser(_, _, reply) => refuse(reply, Operation::UpdateUser, why),
            Self::ReplacePassword(_, _, _, reply) => refuse(reply, Operation::ReplacePassword, why),
            Self::RecordChange(_, _, _, reply) => refuse(reply, Operation::RecordChange, why),
            Self::ApplyChange(_, _, reply) => refuse(reply, Operation::ApplyChange, why),
            Self::DeleteUser(_, reply) => refuse(reply, Operation::DeleteUser, why),
            Self::Flush | Self::Close => {}
            #[cfg(test)]
            Self::Intervene(_) => {}
        }
    }
}

fn refuse<T>(reply: ReplySender<T>, operation: Operation, why: NotWritten) {
    reply.send(Err(StoreError::new(operation, why)));
}

/// Keeps an answer until the commit has happened.
///
/// # Errors
/// What makes the commit fail; the answer then says so.
fn hold<T: Send + 'static>(
    answers: &mut Vec<PendingAnswer>,
    reply: ReplySender<T>,
    operation: Operation,
    outcome: Result<T, Failure>,
) -> Result<(), Box<dyn StdError + Send + Sync>> {
    match outcome {
        Ok(value) => {
            let ReplySender { sender, runtime } = reply;
            let give = Box::new(move |committed: Result<(), NotWritten>| {
                let _ = sender.send(
                    committed
                        .map(|()| value)
                        .map_err(|why| StoreError::new(operation, why)),
                );
            });
            answers.push(PendingAnswer { give, runtime });
            Ok(())
        }
        Err(Failure::Refused(why)) => {
            reply.send(Err(StoreError::new(operation, why)));
            Ok(())
        }
        Err(Failure::Commit(error)) => {
            let ReplySender { sender, runtime } = reply;
            let give = Box::new(move |_| {
                let _ = sender.send(Err(StoreError::new(operation, NotWritten::CommitFailed)));
            });
            answers.push(PendingAnswer { give, runtime });
            Err(error)
        }
    }
}
