//! The one hand that changes the table: decides each change as if all before it were done, and shows them once they are.

use super::{
    EveryoneRevoked, Leftovers, SHARDS, SLOT_BYTES, SessionTable, Slot, UserShard,
    compact_table::CompactTable,
    is_leftover,
    record::{Record, flag},
    shard::{Entry, OldToken, Shard, shard_of},
    user_shard,
};
use crate::{
    domain::{LiveSession, Revocation, SessionId, Timestamp, TokenDigest, UserId},
    store::{NewSession, RevocationLog, Rotation, SessionKey},
};
use crossbeam_utils::sync::ShardedLockWriteGuard;
use parking_lot::RwLockWriteGuard;
use std::{
    collections::HashMap,
    hash::BuildHasher as _,
    sync::{Arc, atomic::Ordering},
};

/// So many sessions of a user take longer to look at than to remember the number of.
const CROWD: usize = 8;

/// Users whose number of sessions is remembered, at most; about 2 MB.
const CROWDS_KEPT: usize = 65_536;

/// Owns every change of a [`SessionTable`].
#[derive(Debug)]
pub(in crate::store) struct TableWriter {
    table: Arc<SessionTable>,
    by_id: Box<[CompactTable<SLOT_BYTES>]>,
    /// The old token of each session that has one in its grace.
    old_tokens: HashMap<SessionId, TokenDigest>,
    /// Users with many sessions, and how many they have at most: so that their sessions need not all be looked at for each
    /// that is added. A user who is not here may have any number.
    crowded: HashMap<UserId, usize>,
    last_row: u64,
    staged: Vec<Staged>,
    /// Epochs of users as staged, where that differs from what is committed.
    epochs: HashMap<UserId, u64>,
    everyone: u64,
    revoked_through: u64,
}

/// What one operation changes: readers see all of it at once.
#[derive(Debug, Default)]
struct Staged {
    changes: Vec<Change>,
    revocations: Vec<Revocation>,
}

#[derive(Debug)]
enum Change {
    /// A session comes to life.
    Created(Slot, UserId),
    /// A session ends.
    Ended(Slot, UserId),
    /// A session gets a new token, and with it a new place.
    Rotated {
        from: Slot,
        to: Slot,
        id: SessionId,
        user: UserId,
        /// The old token, if it has a grace.
        kept: Option<TokenDigest>,
        /// The one before it, whose grace ends.
        dropped: Option<TokenDigest>,
    },
    UserEpoch(UserId, u64),
    Everyone(EveryoneRevoked),
}

/// A session that ended with a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct StagedEnd {
    pub(in crate::store) row: u64,
    pub(in crate::store) id: SessionId,
    pub(in crate::store) user: UserId,
}

/// What a creation came to.
#[derive(Debug)]
pub(in crate::store) enum Creation {
    /// Nothing is changed.
    EpochMoved,
    /// The session gets this row, and others end for it.
    Row(u64, Vec<StagedEnd>),
}

/// Why a session cannot be taken in. It does not happen with random tokens and ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::store) enum Refused {
    #[error("another session has this token or id")]
    Taken,
    #[error("a shard of the table is full")]
    Full,
}

/// A session that got a new token.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct StagedRotation {
    pub(in crate::store) row: u64,
    pub(in crate::store) live: LiveSession,
}

/// An end of all of a user's sessions.
#[derive(Debug)]
pub(in crate::store) struct UserRevoked {
    /// Where the user's own counter stands now.
    pub(in crate::store) epoch: u64,
    /// What counts for sessions: the sum with everyone's.
    pub(in crate::store) sum: u64,
    /// The row of the session that was spared.
    pub(in crate::store) spared: Option<u64>,
    /// The rows of those that were not.
    pub(in crate::store) rows: Vec<u64>,
    /// How many of them lived.
    pub(in crate::store) living: u64,
}

/// A session as the writer sees it.
#[derive(Debug, Clone, Copy)]
struct LocatedSession {
    at: Slot,
    row: u64,
    live: LiveSession,
}

impl LocatedSession {
    fn ended(self) -> StagedEnd {
        StagedEnd {
            row: self.row,
            id: self.live.id,
            user: self.live.user_id,
        }
    }
}

impl TableWriter {
    /// An empty table.
    pub(in crate::store) fn new() -> Self {
        Self {
            table: Arc::new(SessionTable::new()),
            by_id: (0..SHARDS).map(|_| CompactTable::default()).collect(),
            old_tokens: HashMap::new(),
            crowded: HashMap::new(),
            last_row: 0,
            staged: Vec::new(),
            epochs: HashMap::new(),
            everyone: 0,
            revoked_through: 0,
        }
    }

    /// What readers read.
    pub(in crate::store) fn table(&self) -> &Arc<SessionTable> {
        &self.table
    }

    /// Stages the creation of a session.
    ///
    /// # Errors
    /// [`Refused`], with nothing staged.
    pub(in crate::store) fn create(&mut self, new: &NewSession, now: Timestamp) -> Result<Creation, Refused> {
        let live = &new.session.live;
        if self.epoch(live.user_id) != new.epoch.count() {
            return Ok(Creation::EpochMoved);
        }
        if self.is_taken(&new.digest, live.id, now) {
            return Err(Refused::Taken);
        }
        let row = self.last_row + 1;
        let at = self.insert(&new.digest, live, row)?;
        let mut ended = Vec::new();
        if let Some(replaced) = new.replaces.and_then(|digest| self.find(&digest, now)) {
            self.set_flag(replaced.at, flag::DYING);
            ended.push(replaced);
        }
        let others_allowed = new.max_per_user.saturating_sub(1) as usize;
        if !self.has_room(live.user_id, others_allowed) {
            let mut others = self.sessions_of(live.user_id, |seen| seen.at != at);
            self.note_crowd(live.user_id, others.len() + 1);
            others.retain(|seen| self.lives(seen, now));
            if others.len() > others_allowed {
                others.sort_unstable_by_key(|seen| seen.live.id);
                for evicted in &others[..others.len() - others_allowed] {
                    self.set_flag(evicted.at, flag::DYING);
                    ended.push(*evicted);
                }
            }
        }
        self.last_row = row;
        let mut staged = Staged::default();
        for seen in &ended {
            staged.end(*seen);
        }
        staged.changes.push(Change::Created(at, live.user_id));
        self.staged.push(staged);
        Ok(Creation::Row(
            row,
            ended.into_iter().map(LocatedSession::ended).collect(),
        ))
    }

    /// Whether it is certain without counting that the user, who has got one more session, has at most so many others.
    fn has_room(&mut self, user: UserId, others_allowed: usize) -> bool {
        let Some(sessions) = self.crowded.get_mut(&user) else {
            return false;
        };
        *sessions += 1;
        *sessions - 1 <= others_allowed
    }

    /// Remembers how many sessions a user has at most, if that is worth it.
    fn note_crowd(&mut self, user: UserId, sessions: usize) {
        if sessions < CROWD {
            self.crowded.remove(&user);
            return;
        }
        if self.crowded.len() >= CROWDS_KEPT {
            self.crowded.clear();
        }
        self.crowded.insert(user, sessions);
    }

    /// Stages a session's new token; `None`, with nothing staged, if `from` proves no session by itself.
    ///
    /// # Errors
    /// [`Refused`], with nothing staged.
    pub(in crate::store) fn rotate(
        &mut self,
        rotation: &Rotation,
        now: Timestamp,
    ) -> Result<Option<StagedRotation>, Refused> {
        let Some(seen) = self
            .find_current(&rotation.from)
            .filter(|seen| self.lives(seen, now))
        else {
            return Ok(None);
        };
        if self.is_token_taken(&rotation.to, now) {
            return Err(Refused::Taken);
        }
        let live = LiveSession {
            authenticated_at: rotation.authenticated_at.unwrap_or(seen.live.authenticated_at),
            ..seen.live
        };
        let (id, user) = (live.id, live.user_id);
        self.set_flag(seen.at, flag::DYING);
        let to = match self.insert(&rotation.to, &live, seen.row) {
            Ok(to) => to,
            Err(refused) => {
                self.clear_flag(seen.at, flag::DYING);
                return Err(refused);
            }
        };
        let dropped = self.old_tokens.remove(&id);
        let kept = (now < rotation.grace_until).then_some(rotation.from);
        if let Some(digest) = kept {
            self.old_tokens.insert(id, digest);
            // Readers come here only once they no longer see the record under the old token.
            self.insert_old_token(digest, rotation.grace_until, id, to);
        }
        self.staged.push(Staged {
            changes: vec![Change::Rotated {
                from: seen.at,
                to,
                id,
                user,
                kept,
                dropped,
            }],
            revocations: vec![Revocation::Session { session: id, user }],
        });
        Ok(Some(StagedRotation { row: seen.row, live }))
    }

    /// Stages the end of a session; `None`, with nothing staged, if there is none.
    pub(in crate::store) fn destroy(&mut self, key: SessionKey, now: Timestamp) -> Option<StagedEnd> {
        let seen = match key {
            SessionKey::Token(digest) => self.find(&digest, now),
            SessionKey::Id(id) => self.find_id(id).filter(|seen| self.lives(seen, now)),
        }?;
        self.set_flag(seen.at, flag::DYING);
        let mut staged = Staged::default();
        staged.end(seen);
        self.staged.push(staged);
        Some(seen.ended())
    }

    /// Stages the end of all of a user's sessions.
    pub(in crate::store) fn revoke_user(
        &mut self,
        user: UserId,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> UserRevoked {
        let spared = except
            .and_then(|id| self.find_id(id))
            .filter(|seen| seen.live.user_id == user && self.lives(seen, now));
        let spared_at = spared.map(|seen| seen.at);
        // Those that ended with everyone's are counted there, and left to the sweep.
        let ended = self.sessions_of(user, |seen| {
            Some(seen.at) != spared_at && seen.row > self.revoked_through
        });
        for seen in &ended {
            self.set_flag(seen.at, flag::DYING);
        }
        let epoch = self.user_epoch(user) + 1;
        self.epochs.insert(user, epoch);
        let mut changes: Vec<_> = ended.iter().map(|seen| Change::Ended(seen.at, user)).collect();
        changes.push(Change::UserEpoch(user, epoch));
        let except = spared.map(|seen| seen.live.id);
        self.staged.push(Staged {
            changes,
            revocations: vec![Revocation::User { user, except }],
        });
        UserRevoked {
            epoch,
            sum: epoch + self.everyone,
            spared: spared.map(|seen| seen.row),
            rows: ended.iter().map(|seen| seen.row).collect(),
            living: ended.iter().filter(|seen| !seen.live.is_expired(now)).count() as u64,
        }
    }

    /// Stages the end of everyone's sessions.
    pub(in crate::store) fn revoke_everyone(&mut self) -> EveryoneRevoked {
        let revoked = EveryoneRevoked {
            rows: self.revoked_through + 1..=self.last_row,
            count: self.everyone + 1,
        };
        self.everyone = revoked.count;
        self.revoked_through = self.last_row;
        self.staged.push(Staged {
            changes: vec![Change::Everyone(revoked.clone())],
            revocations: vec![Revocation::Everyone],
        });
        revoked
    }

    /// Stages the removal of sessions that have ended, and says which rows they had.
    pub(in crate::store) fn reap(&mut self, leftovers: &Leftovers, now: Timestamp) -> Vec<u64> {
        let mut rows = Vec::new();
        let mut changes = Vec::new();
        for leftover in &leftovers.sessions {
            let shard = self.table.shard(leftover.at.shard()).read();
            let record = shard.record(leftover.at.in_shard());
            // The place may have changed hands since it was looked at.
            if record.id() == leftover.id && is_leftover(record, self.revoked_through, now) {
                record.set(flag::DYING);
                rows.push(record.row());
                changes.push(Change::Ended(leftover.at, record.user_id()));
            }
        }
        for digest in &leftovers.old_tokens {
            self.drop_old_token(digest, now);
        }
        self.staged.push(Staged {
            changes,
            revocations: Vec::new(),
        });
        rows
    }

    /// Shows readers everything that is staged, operation by operation, and publishes its revocations. Where a session that was
    /// touched since it was last written down has a new place, that place.
    pub(in crate::store) fn commit(&mut self, log: &RevocationLog) -> Vec<Slot> {
        let mut touched = Vec::new();
        for staged in std::mem::take(&mut self.staged) {
            self.show(&staged.changes, &mut touched);
            // After the table: a client that receives the revocation and checks again must not get the old answer.
            for revocation in staged.revocations {
                log.publish(revocation);
            }
            for change in staged.changes {
                self.clean_up(change);
            }
        }
        self.epochs.clear();
        touched
    }

    /// Takes everything back that is staged. Readers have seen none of it.
    pub(in crate::store) fn roll_back(&mut self) {
        for staged in std::mem::take(&mut self.staged).into_iter().rev() {
            for change in staged.changes.into_iter().rev() {
                match change {
                    Change::Created(at, _) => self.erase(at),
                    Change::Ended(at, _) => self.clear_flag(at, flag::DYING),
                    Change::Rotated {
                        from,
                        to,
                        id,
                        user: _,
                        kept,
                        dropped,
                    } => {
                        if let Some(digest) = kept {
                            self.remove_old_token(&digest);
                            self.old_tokens.remove(&id);
                        }
                        self.old_tokens.extend(dropped.map(|digest| (id, digest)));
                        self.erase(to);
                        self.clear_flag(from, flag::DYING);
                    }
                    Change::UserEpoch(..) | Change::Everyone(_) => {}
                }
            }
        }
        self.epochs.clear();
        // Sessions that were not counted any more are there again.
        self.crowded.clear();
        self.everyone = self.table.everyone.load(Ordering::Acquire);
        self.revoked_through = self.table.revoked_through();
    }

    /// Takes in a session that was committed by a former process, with its old token.
    ///
    /// # Errors
    /// [`Refused`], with nothing changed.
    pub(in crate::store) fn load(
        &mut self,
        digest: &TokenDigest,
        live: &LiveSession,
        row: u64,
        old_token: Option<(TokenDigest, Timestamp)>,
    ) -> Result<(), Refused> {
        let is_old_taken = old_token.is_some_and(|(old, _)| self.is_token_known(&old));
        if is_old_taken || self.is_token_known(digest) || self.find_id(live.id).is_some() {
            return Err(Refused::Taken);
        }
        let at = self.insert(digest, live, row)?;
        if let Some((old, until)) = old_token {
            self.old_tokens.insert(live.id, old);
            self.insert_old_token(old, until, live.id, at);
        }
        self.clear_flag(at, flag::PENDING);
        self.table.living.fetch_add(1, Ordering::Relaxed);
        self.last_row = self.last_row.max(row);
        Ok(())
    }

    /// Takes over where epochs stood: everyone's, or with a user theirs.
    pub(in crate::store) fn load_epoch(&mut self, user: Option<UserId>, count: u64) {
        match user {
            Some(user) => {
                let number = user_shard(self.table.hash_user(user));
                self.set_user_epoch(&mut self.table.users[number].write(), user, count);
            }
            None => {
                self.everyone = count;
                self.table.everyone.store(count, Ordering::Release);
            }
        }
    }

    /// The row numbers up to this one are taken.
    pub(in crate::store) fn load_last_row(&mut self, row: u64) {
        self.last_row = self.last_row.max(row);
    }

    /// The user's epoch as staged.
    pub(in crate::store) fn epoch(&self, user: UserId) -> u64 {
        self.everyone + self.user_epoch(user)
    }

    fn user_epoch(&self, user: UserId) -> u64 {
        match self.epochs.get(&user) {
            Some(count) => *count,
            None => {
                let hash = self.table.hash_user(user);
                self.table
                    .user_epoch(&self.table.users_of(hash).read(), hash, user)
            }
        }
    }

    fn lives(&self, seen: &LocatedSession, now: Timestamp) -> bool {
        let shard = self.table.shard(seen.at.shard()).read();
        seen.row > self.revoked_through && shard.record(seen.at.in_shard()).live_at(now).is_some()
    }

    /// The living session that a token proves, also in its grace.
    fn find(&self, digest: &TokenDigest, now: Timestamp) -> Option<LocatedSession> {
        let seen = self
            .find_current(digest)
            .or_else(|| self.find_id(self.old_token(digest, now)?))?;
        self.lives(&seen, now).then_some(seen)
    }

    /// The session that has this very token.
    fn find_current(&self, digest: &TokenDigest) -> Option<LocatedSession> {
        let number = shard_of(digest);
        let shard = self.table.shard(number).read();
        let slot = shard.find(digest, Record::is_visible_to_writer)?;
        Some(located(Slot::new(number, slot), shard.record(slot)))
    }

    /// The session whose old token this is, while its grace lasts.
    fn old_token(&self, digest: &TokenDigest, now: Timestamp) -> Option<SessionId> {
        let old = *self.table.shard(shard_of(digest)).read().old_token(digest)?;
        // One whose grace a later rotation ended stays in the shard until that is committed.
        (now < old.until && self.old_tokens.get(&old.id) == Some(digest)).then_some(old.id)
    }

    fn find_id(&self, id: SessionId) -> Option<LocatedSession> {
        let hash = self.hash_id(id);
        let is_it = |bits| {
            let at = Slot::from_bits(bits);
            let shard = self.table.shard(at.shard()).read();
            let record = shard.record(at.in_shard());
            record.id() == id && record.is_visible_to_writer()
        };
        let at = Slot::from_bits(self.by_id[id_table(hash)].find(hash, is_it)?);
        let shard = self.table.shard(at.shard()).read();
        Some(located(at, shard.record(at.in_shard())))
    }

    /// The user's sessions, as the writer sees them, that are `wanted`.
    fn sessions_of(&self, user: UserId, wanted: impl Fn(&LocatedSession) -> bool) -> Vec<LocatedSession> {
        let hash = self.table.hash_user(user);
        let mut sessions = Vec::new();
        let users = self.table.users_of(hash).read();
        self.table.for_each_of(&users, hash, user, |at, record| {
            if record.is_visible_to_writer() {
                let seen = located(at, record);
                if wanted(&seen) {
                    sessions.push(seen);
                }
            }
        });
        sessions
    }

    fn is_taken(&self, digest: &TokenDigest, id: SessionId, now: Timestamp) -> bool {
        self.is_token_taken(digest, now) || self.find_id(id).is_some()
    }

    fn is_token_taken(&self, digest: &TokenDigest, now: Timestamp) -> bool {
        self.find_current(digest).is_some() || self.old_token(digest, now).is_some()
    }

    fn is_token_known(&self, digest: &TokenDigest) -> bool {
        let shard = self.table.shard(shard_of(digest)).read();
        shard.find(digest, |_| true).is_some() || shard.old_token(digest).is_some()
    }

    fn set_flag(&self, at: Slot, flag: u32) {
        self.table
            .shard(at.shard())
            .write()
            .record(at.in_shard())
            .set(flag);
    }

    fn clear_flag(&self, at: Slot, flag: u32) {
        self.table
            .shard(at.shard())
            .write()
            .record(at.in_shard())
            .clear(flag);
    }

    fn hash_id(&self, id: SessionId) -> u64 {
        self.table.hasher.hash_one(id.to_bytes())
    }

    /// Takes a pending record in, at the head of its user's chain.
    fn insert(&mut self, digest: &TokenDigest, live: &LiveSession, row: u64) -> Result<Slot, Refused> {
        let table = Arc::clone(&self.table);
        let user = live.user_id;
        let hash = table.hash_user(user);
        let mut users = table.users_of(hash).write();
        let head = table.head(&users, hash, user);
        let next = head.unwrap_or(Slot::NONE);
        let number = shard_of(digest);
        let inserted = table.shard(number).write().insert(digest, live, row, next);
        let at = Slot::new(number, inserted.ok_or(Refused::Full)?);
        match head {
            Some(head) => users.heads.replace(hash, head.bits(), at.bits()),
            None => users.heads.insert(hash, at.bits()),
        }
        drop(users);
        let hash = self.hash_id(live.id);
        self.by_id[id_table(hash)].insert(hash, at.bits());
        Ok(at)
    }

    /// Takes a record out that no reader sees any more, or ever saw.
    fn erase(&mut self, at: Slot) {
        let table = Arc::clone(&self.table);
        let (id, user, next) = {
            let shard = table.shard(at.shard()).read();
            let record = shard.record(at.in_shard());
            (record.id(), record.user_id(), record.next)
        };
        let hash = self.hash_id(id);
        self.by_id[id_table(hash)].remove(hash, at.bits());
        let hash = table.hash_user(user);
        let mut users = table.users_of(hash).write();
        match table.head(&users, hash, user) {
            Some(head) if head == at => match next == Slot::NONE {
                true => users.heads.remove(hash, at.bits()),
                false => users.heads.replace(hash, at.bits(), next.bits()),
            },
            Some(head) => unlink(&table, head, at, next),
            None => {}
        }
        table.shard(at.shard()).write().remove(at.in_shard());
    }

    /// Shows readers what one operation changed, all at once.
    fn show(&mut self, changes: &[Change], touched: &mut Vec<Slot>) {
        let table = Arc::clone(&self.table);
        // By far the most frequent.
        if let [Change::Created(at, _)] = changes {
            self.clear_flag(*at, flag::PENDING);
            table.living.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut locked = Locked::of(&table, changes);
        for change in changes {
            match change {
                Change::Created(at, _) => {
                    locked
                        .shard(at.shard())
                        .record(at.in_shard())
                        .clear(flag::PENDING);
                    table.living.fetch_add(1, Ordering::Relaxed);
                }
                Change::Ended(at, _) => {
                    let record = locked.shard(at.shard()).record(at.in_shard());
                    record.set(flag::DEAD);
                    if record.row() > table.revoked_through() {
                        table.living.fetch_sub(1, Ordering::Relaxed);
                    }
                }
                Change::Rotated {
                    from, to, dropped, ..
                } => {
                    let record = locked.shard(to.shard()).record(to.in_shard());
                    let former = locked.shard(from.shard()).record(from.in_shard());
                    record.inherit_last_seen(&former);
                    if former.has(flag::TOUCHED) && !record.set(flag::TOUCHED) {
                        touched.push(*to);
                    }
                    former.set(flag::DEAD);
                    record.clear(flag::PENDING);
                    if let Some(digest) = dropped {
                        locked.shard_mut(shard_of(digest)).remove_old_token(digest);
                    }
                }
                Change::UserEpoch(user, count) => {
                    let number = user_shard(table.hash_user(*user));
                    self.set_user_epoch(locked.users(number), *user, *count);
                }
                Change::Everyone(revoked) => {
                    table.everyone.store(revoked.count, Ordering::Release);
                    table
                        .revoked_through
                        .store(*revoked.rows.end(), Ordering::Release);
                    table.living.store(0, Ordering::Relaxed);
                }
            }
        }
    }

    /// Frees what a change has left, once nobody sees it.
    fn clean_up(&mut self, change: Change) {
        match change {
            Change::Ended(at, _) => {
                let id = self.table.shard(at.shard()).read().record(at.in_shard()).id();
                if let Some(digest) = self.old_tokens.remove(&id) {
                    self.remove_old_token(&digest);
                }
                self.erase(at);
            }
            Change::Rotated { from, .. } => self.erase(from),
            Change::Created(..) | Change::UserEpoch(..) | Change::Everyone(_) => {}
        }
    }

    fn set_user_epoch(&self, users: &mut UserShard, user: UserId, count: u64) {
        let hash = self.table.hash_user(user);
        match users.epochs.find_mut(hash, |(other, _)| *other == user) {
            Some((_, old)) => *old = count,
            None => {
                users
                    .epochs
                    .insert_unique(hash, (user, count), |(user, _)| self.table.hash_user(*user));
            }
        }
    }

    fn insert_old_token(&self, digest: TokenDigest, until: Timestamp, id: SessionId, at: Slot) {
        let old = OldToken {
            digest,
            until,
            id,
            at,
        };
        self.table.shard(shard_of(&digest)).write().insert_old_token(old);
    }

    fn remove_old_token(&self, digest: &TokenDigest) {
        self.table
            .shard(shard_of(digest))
            .write()
            .remove_old_token(digest);
    }

    fn drop_old_token(&mut self, digest: &TokenDigest, now: Timestamp) {
        let mut shard = self.table.shard(shard_of(digest)).write();
        if let Some(old) = shard.old_token(digest)
            && old.until <= now
            && self.old_tokens.get(&old.id) == Some(digest)
        {
            self.old_tokens.remove(&old.id);
            shard.remove_old_token(digest);
        }
    }
}

#[cfg(test)]
impl TableWriter {
    pub(super) fn table_bytes(&self) -> usize {
        self.by_id.iter().map(CompactTable::bytes).sum()
    }

    pub(super) fn last_row(&self) -> u64 {
        self.last_row
    }

    pub(super) fn entries(&self) -> usize {
        self.table.entries() + self.by_id.iter().map(CompactTable::len).sum::<usize>() + self.old_tokens.len()
    }
}

impl Staged {
    fn end(&mut self, seen: LocatedSession) {
        let (session, user) = (seen.live.id, seen.live.user_id);
        self.changes.push(Change::Ended(seen.at, user));
        self.revocations.push(Revocation::Session { session, user });
    }
}

fn located(at: Slot, record: Entry<'_>) -> LocatedSession {
    LocatedSession {
        at,
        row: record.row(),
        live: record.live(),
    }
}

fn id_table(hash: u64) -> usize {
    (hash >> 16) as u32 as usize % SHARDS
}

/// Takes `at` out of the chain that begins at `head`, another record, and lets it go on with `next`.
fn unlink(table: &SessionTable, head: Slot, at: Slot, next: Slot) {
    let mut before = head;
    while before != Slot::NONE {
        let mut shard = table.shard(before.shard()).write();
        let record = shard.record_mut(before.in_shard());
        if record.next == at {
            record.next = next;
            return;
        }
        before = record.next;
    }
}

/// Every shard that one operation changes, locked in the one order.
struct Locked<'a> {
    users: Vec<(usize, RwLockWriteGuard<'a, UserShard>)>,
    shards: Vec<(usize, ShardedLockWriteGuard<'a, Shard>)>,
}

impl<'a> Locked<'a> {
    fn of(table: &'a SessionTable, changes: &[Change]) -> Self {
        let mut users = Vec::new();
        let mut shards = Vec::new();
        for change in changes {
            match change {
                Change::Created(at, user) | Change::Ended(at, user) => {
                    users.push(*user);
                    shards.push(at.shard());
                }
                Change::Rotated {
                    from,
                    to,
                    id: _,
                    user,
                    kept: _,
                    dropped,
                } => {
                    users.push(*user);
                    shards.extend([from.shard(), to.shard()]);
                    shards.extend(dropped.as_ref().map(shard_of));
                }
                Change::UserEpoch(user, _) => users.push(*user),
                Change::Everyone(_) => {}
            }
        }
        let mut users: Vec<_> = users
            .into_iter()
            .map(|user| user_shard(table.hash_user(user)))
            .collect();
        for numbers in [&mut users, &mut shards] {
            numbers.sort_unstable();
            numbers.dedup();
        }
        Self {
            users: users
                .into_iter()
                .map(|number| (number, table.users[number].write()))
                .collect(),
            shards: shards
                .into_iter()
                .map(|number| (number, table.shard(number).write()))
                .collect(),
        }
    }

    fn users(&mut self, number: usize) -> &mut UserShard {
        let place = self.users.partition_point(|(other, _)| *other < number);
        &mut self.users[place].1
    }

    fn shard(&self, number: usize) -> &Shard {
        let place = self.shards.partition_point(|(other, _)| *other < number);
        &self.shards[place].1
    }

    fn shard_mut(&mut self, number: usize) -> &mut Shard {
        let place = self.shards.partition_point(|(other, _)| *other < number);
        &mut self.shards[place].1
    }
}
