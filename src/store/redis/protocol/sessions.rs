//! Calls about the records of sessions, each in the slot of its shard.

use super::{Database, replies, scripts};
use crate::{
    domain::{LiveSession, Revocation, SessionId, Timestamp, TokenDigest, UserId},
    store::{
        NewSession, Rotation,
        redis::{
            connection::{check_batcher::CheckQuestion, failure},
            layout::{
                MARGIN, keep_millis,
                keys::{Location, SHARDS},
                marks::SequencedRevocation,
                millis,
                record::SessionRecord,
            },
            state::{ShardView, Snapshot},
        },
    },
};
use redis::{RedisResult, Value};
use std::time::Duration;

/// How long a tombstone is kept.
const TOMBSTONE_TTL: Duration = Duration::from_secs(60);

/// How long a forwarding note is kept when the move is settled and the old token works no more: for operations that are still
/// looking for it.
const SETTLED_NOTE_TTL: Duration = Duration::from_secs(60);

/// Unsettled moves of one shard that are read at once.
const MOVES_READ: u32 = 100;

/// How long a sweep keeps others from sweeping if its process dies in it.
const SWEEP_LOCK_TTL: Duration = Duration::from_secs(10);

/// Which records a call may end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum EndCondition {
    /// Whatever session is there.
    Any,
    /// This session.
    Session(SessionId),
    /// This session, if it was created before the revocation with this sequence.
    CreatedBefore(SessionId, u64),
}

/// What became of a record that was to be ended.
pub(crate) enum EndReply {
    /// There is none, or it does not meet the condition.
    NotFound,
    /// It was ended by this attempt, or had been before.
    Ended(EndedSession),
    /// The session has another token.
    Moved {
        session: SessionId,
        user: UserId,
        works_until: Timestamp,
        to: TokenDigest,
    },
}

/// A session that has ended.
pub(crate) struct EndedSession {
    pub id: SessionId,
    pub user: UserId,
    /// The session, if it lived until this attempt ended it.
    pub live: Option<LiveSession>,
    /// Whether this attempt ended it, it had not expired, and its end has not been counted.
    pub is_counted: bool,
    /// The revocation that had ended it before.
    pub revoked_by: Option<SequencedRevocation>,
}

impl EndedSession {
    pub(crate) fn revocation(&self) -> Revocation {
        Revocation::Session {
            session: self.id,
            user: self.user,
        }
    }
}

/// What became of a touch.
pub(crate) enum Touched {
    /// It is written, or there is nothing to write.
    Done,
    /// The session has another token.
    Moved(TokenDigest),
}

impl Database {
    /// What is stored under a token, and the marks that concern it. One round trip, unless the user is not known; `user` is whose
    /// it may be.
    pub(crate) async fn read_session(
        &self,
        digest: &TokenDigest,
        user: Option<UserId>,
    ) -> RedisResult<Option<Snapshot>> {
        if let Some(user) = user.or_else(|| self.user_hints.user_of(digest)) {
            let question = CheckQuestion {
                digest: *digest,
                user,
            };
            match replies::snapshot(self.checks.ask(question).await?)? {
                Some(snapshot) if snapshot.record.user() != user => {}
                snapshot => return Ok(snapshot),
            }
        }
        let location = Location::of(digest);
        let keys = [
            self.keys.session(&location),
            self.keys.everyone_mark(location.shard),
        ];
        let Value::Array(values) = self.pool.read(&scripts::READ_SESSION.on(&keys)).await? else {
            return Err(failure("a reply of another form"));
        };
        let mut values = values.into_iter();
        let mut value = || values.next().unwrap_or(Value::Nil);
        let snapshot = replies::snapshot([value(), value(), value()])?;
        if let Some(snapshot) = &snapshot {
            self.user_hints.note(digest, snapshot.record.user());
        }
        Ok(snapshot)
    }

    /// Stores a session. `false` if a revocation later than `created_after` is known in its shard.
    pub(crate) async fn store_session(
        &self,
        new: &NewSession,
        created_after: u64,
        now: Timestamp,
    ) -> RedisResult<bool> {
        let live = &new.session.live;
        let location = Location::of(&new.digest);
        let mut cmd = scripts::CREATE.on(&[
            self.keys.session(&location),
            self.keys.live_sessions(location.shard),
            self.keys.everyone_mark(location.shard),
            self.keys.user_mark(location.shard, live.user_id),
        ]);
        cmd.arg(created_after)
            .arg(SessionRecord::of(&new.session, created_after).bytes())
            .arg(keep_millis(live.valid_until(), now))
            .arg(live.valid_until().as_millis())
            .arg(location.member);
        Ok(redis::from_redis_value::<i64>(self.pool.write(&cmd).await?)? == 1)
    }

    /// Removes a session that was stored and whose creation was refused.
    pub(crate) async fn undo_create(&self, digest: &TokenDigest) -> RedisResult<()> {
        let location = Location::of(digest);
        let mut cmd = scripts::UNDO_CREATE.on(&[
            self.keys.session(&location),
            self.keys.live_sessions(location.shard),
        ]);
        cmd.arg(location.member);
        self.pool.write(&cmd).await.map(drop)
    }

    /// Ends what is stored under a digest.
    pub(crate) async fn end(
        &self,
        digest: &TokenDigest,
        condition: EndCondition,
        attempt: u64,
        now: Timestamp,
    ) -> RedisResult<EndReply> {
        let location = Location::of(digest);
        let mut cmd = scripts::END.on(&[
            self.keys.session(&location),
            self.keys.live_sessions(location.shard),
            self.keys.everyone_mark(location.shard),
        ]);
        match condition {
            EndCondition::Any => cmd.arg("").arg(""),
            EndCondition::Session(id) => cmd.arg(&id.to_bytes()[..]).arg(""),
            EndCondition::CreatedBefore(id, sequence) => cmd.arg(&id.to_bytes()[..]).arg(sequence),
        };
        cmd.arg(&attempt.to_be_bytes()[..])
            .arg(millis(TOMBSTONE_TTL))
            .arg(location.member);
        let Value::Array(parts) = self.pool.write(&cmd).await? else {
            return Ok(EndReply::NotFound);
        };
        let mut parts = parts.into_iter();
        let Some(Value::BulkString(record)) = parts.next() else {
            return Ok(EndReply::NotFound);
        };
        let mut part = || parts.next().unwrap_or(Value::Nil);
        let before = replies::existing_snapshot(record, part(), part())?;
        let (is_mine, was_live) = (part() == Value::Int(1), part() == Value::Int(1));
        let record = &before.record;
        if let Some((works_until, to)) = record.moved_to() {
            return Ok(EndReply::Moved {
                session: record.id(),
                user: record.user(),
                works_until,
                to,
            });
        }
        let live = record.live().filter(|live| is_mine && !live.is_expired(now));
        let revoked_by = before.marks.revocation_of(record);
        Ok(EndReply::Ended(EndedSession {
            id: record.id(),
            user: record.user(),
            live: live.filter(|_| revoked_by.is_none()),
            is_counted: was_live && live.is_some(),
            revoked_by: revoked_by.filter(|_| live.is_some()),
        }))
    }

    /// Puts a session where it will be, without anybody finding it there. It waits as long as it would have lived.
    pub(crate) async fn prepare_arrival(
        &self,
        to: &TokenDigest,
        waiting: &SessionRecord,
        now: Timestamp,
    ) -> RedisResult<()> {
        let live = waiting
            .live()
            .ok_or_else(|| failure("a session of another form"))?;
        let mut cmd = scripts::PREPARE_ARRIVAL.on(&[self.keys.session(&Location::of(to))]);
        cmd.arg(waiting.bytes()).arg(keep_millis(live.valid_until(), now));
        self.pool.write(&cmd).await.map(drop)
    }

    /// Removes what waits at a place that its session does not come to.
    pub(crate) async fn cancel_arrival(&self, to: &TokenDigest) -> RedisResult<()> {
        let mut cmd = redis::cmd("DEL");
        cmd.arg(self.keys.session(&Location::of(to)));
        self.pool.write(&cmd).await.map(drop)
    }

    /// Leaves a forwarding note in place of the session. Returns the note, or nothing if the session was not there.
    pub(crate) async fn depart(
        &self,
        rotation: &Rotation,
        record: &SessionRecord,
        now: Timestamp,
    ) -> RedisResult<Option<SessionRecord>> {
        let location = Location::of(&rotation.from);
        // Until the index has the new place, it leads there by the old one.
        let expires_at = record.live().map_or(now, |live| live.expires_at());
        let mut cmd = scripts::DEPART.on(&[
            self.keys.session(&location),
            self.keys.live_sessions(location.shard),
            self.keys.everyone_mark(location.shard),
            self.keys.unsettled_moves(location.shard),
        ]);
        cmd.arg(&record.id().to_bytes()[..])
            .arg(record.forwarding_note(rotation.grace_until, &rotation.to))
            .arg(keep_millis(expires_at, now))
            .arg(location.member);
        let Value::BulkString(note) = self.pool.write(&cmd).await? else {
            return Ok(None);
        };
        replies::record(note).map(Some)
    }

    /// Makes what waits at the new place the session that it is now. `false` if it was ended there.
    pub(crate) async fn arrive(
        &self,
        to: &TokenDigest,
        arrived: &SessionRecord,
        now: Timestamp,
    ) -> RedisResult<bool> {
        let live = arrived
            .live()
            .ok_or_else(|| failure("a session of another form"))?;
        let location = Location::of(to);
        let mut cmd = scripts::ARRIVE.on(&[
            self.keys.session(&location),
            self.keys.live_sessions(location.shard),
            self.keys.everyone_mark(location.shard),
        ]);
        cmd.arg(&live.id.to_bytes()[..])
            .arg(arrived.last_seen_bytes())
            .arg(keep_millis(live.valid_until(), now))
            .arg(live.valid_until().as_millis())
            .arg(location.member);
        Ok(redis::from_redis_value::<i64>(self.pool.write(&cmd).await?)? == 1)
    }

    /// Keeps a forwarding note no longer than the old token works, and a minute for operations that are still looking for it.
    pub(crate) async fn settle(
        &self,
        from: &TokenDigest,
        works_until: Timestamp,
        now: Timestamp,
    ) -> RedisResult<()> {
        let location = Location::of(from);
        let mut cmd = scripts::SETTLE.on(&[
            self.keys.session(&location),
            self.keys.unsettled_moves(location.shard),
        ]);
        cmd.arg(millis(works_until.since(now) + SETTLED_NOTE_TTL))
            .arg(location.member);
        self.pool.write(&cmd).await.map(drop)
    }

    /// Notes when a session was checked. It is never acknowledged, so it waits for no replica.
    pub(crate) async fn touch(
        &self,
        digest: &TokenDigest,
        id: SessionId,
        at: Timestamp,
    ) -> RedisResult<Touched> {
        let location = Location::of(digest);
        let at = u64::try_from(at.as_millis()).unwrap_or(0);
        let mut cmd = scripts::TOUCH.on(&[
            self.keys.session(&location),
            self.keys.live_sessions(location.shard),
            self.keys.everyone_mark(location.shard),
        ]);
        cmd.arg(&id.to_bytes()[..])
            .arg(at)
            .arg(&at.to_be_bytes()[..])
            .arg(millis(MARGIN))
            .arg(location.member);
        let Value::BulkString(to) = self.pool.read(&cmd).await? else {
            return Ok(Touched::Done);
        };
        let to = to.try_into().map_err(|_| failure("a digest of another length"))?;
        Ok(Touched::Moved(TokenDigest::from_bytes(to)))
    }

    /// What there is in a shard.
    pub(crate) async fn read_shard(&self, shard: usize, now: Timestamp) -> RedisResult<ShardView> {
        let mut cmd = scripts::READ_SHARD.on(&[
            self.keys.live_sessions(shard),
            self.keys.unsettled_moves(shard),
            self.keys.everyone_mark(shard),
        ]);
        cmd.arg(now.as_millis()).arg(MOVES_READ);
        let (live_sessions, moves, mark): (u64, Vec<String>, Option<u64>) =
            redis::from_redis_value(self.pool.read(&cmd).await?)?;
        Ok(ShardView {
            live_sessions,
            unsettled_moves: digests(moves.iter())?,
            everyone_mark: mark.unwrap_or(0),
        })
    }

    /// Live sessions of one shard, a few at a time, and the server's cursor for the next; 0: that was all.
    pub(crate) async fn scan_shard(
        &self,
        shard: usize,
        cursor: u64,
        now: Timestamp,
    ) -> RedisResult<(Vec<TokenDigest>, u64)> {
        let mut cmd = redis::cmd("ZSCAN");
        cmd.arg(self.keys.live_sessions(shard))
            .arg(cursor)
            .arg("COUNT")
            .arg(500);
        let (next, members): (u64, Vec<(String, f64)>) =
            redis::from_redis_value(self.pool.read(&cmd).await?)?;
        let live = members
            .iter()
            .filter(|(_, expires_at)| *expires_at > now.as_millis() as f64);
        Ok((digests(live.map(|(member, _)| member))?, next))
    }

    /// How many sessions of a shard have expired and are still there.
    pub(crate) async fn count_expired(&self, shard: usize, now: Timestamp) -> RedisResult<u64> {
        let mut cmd = redis::cmd("ZCOUNT");
        cmd.arg(self.keys.live_sessions(shard))
            .arg("-inf")
            .arg(now.as_millis());
        Ok(redis::from_redis_value(self.pool.read(&cmd).await?)?)
    }

    /// Frees up to `limit` expired sessions of a shard. Returns how many, and of which it is known whose they were.
    pub(crate) async fn free_expired(
        &self,
        shard: usize,
        limit: u64,
        now: Timestamp,
    ) -> RedisResult<(u64, Vec<(UserId, SessionId)>)> {
        let mut cmd = scripts::FREE_EXPIRED.on(&[self.keys.live_sessions(shard)]);
        cmd.arg(self.keys.sessions_of(shard))
            .arg(now.as_millis())
            .arg(limit);
        let freed: Vec<(Vec<u8>, Vec<u8>)> = redis::from_redis_value(self.pool.write(&cmd).await?)?;
        let ids = freed.iter().filter_map(|(_, record)| replies::ids_of(record));
        Ok((freed.len() as u64, ids.collect()))
    }

    /// Deals with up to `limit` sessions of a shard that were live before a revocation of everyone's: frees those that it ended.
    /// Returns how many it has dealt with, and which it has freed.
    pub(crate) async fn free_revoked(
        &self,
        shard: usize,
        sequence: u64,
        limit: u64,
    ) -> RedisResult<(u64, Vec<(UserId, SessionId)>)> {
        let mut cmd = scripts::FREE_REVOKED.on(&[
            self.keys.revoked_sessions(shard, sequence),
            self.keys.live_sessions(shard),
            self.keys.everyone_mark(shard),
        ]);
        cmd.arg(self.keys.sessions_of(shard)).arg(limit);
        let (dealt_with, freed): (u64, Vec<Vec<u8>>) = redis::from_redis_value(self.pool.write(&cmd).await?)?;
        let ids = freed.iter().filter_map(|record| replies::ids_of(record));
        Ok((dealt_with, ids.collect()))
    }

    /// Keeps other processes from sweeping. `false` if one of them sweeps.
    pub(crate) async fn lock_sweep(&self, holder: u64) -> RedisResult<bool> {
        let mut cmd = scripts::LOCK_SWEEP.on(&[self.keys.sweep_lock()]);
        cmd.arg(holder).arg(millis(SWEEP_LOCK_TTL));
        Ok(redis::from_redis_value::<i64>(self.pool.write(&cmd).await?)? == 1)
    }

    pub(crate) async fn unlock_sweep(&self, holder: u64) -> RedisResult<()> {
        let mut cmd = scripts::RELEASE_SWEEP.on(&[self.keys.sweep_lock()]);
        cmd.arg(holder);
        self.pool.write(&cmd).await.map(drop)
    }

    /// The shards, all of them.
    pub(crate) fn shards() -> std::ops::Range<usize> {
        0..SHARDS
    }
}

fn digests<'a>(members: impl Iterator<Item = &'a String>) -> RedisResult<Vec<TokenDigest>> {
    members
        .map(|member| Location::digest(member).ok_or_else(|| failure("a session of another name")))
        .collect()
}
