//! How sessions end: one by its token or id, all of a user's, everyone's.
//!
//! One session ends in its own shard: its record becomes a note that it ended. The note outlives the verb for a minute, so that a
//! verb that failed half-way, after the end and before the telling, finds out on the next attempt whom to tell about.
//!
//! All sessions of a user end by a mark in every shard, which a check reads together with the session. Nothing has to be found for
//! that, so nothing can be missed: neither a session that is just being created or rotated, nor one that the index has lost. The
//! order of a revocation is what makes it safe:
//!
//! 1. The user's epoch moves, so that a creation whose epoch was read before it is refused.
//! 2. The revocation gets its number, greater than all numbers before. A creation takes the last number as the session's birth
//!    and reads the epoch *after* that: what is born with this number or a later one has seen the epoch move.
//! 3. Every shard gets the number as its mark; by then whatever was born before it is dead, and the revocation may be acknowledged.
//! 4. The records are ended one by one. That only frees space and counts.
//!
//! If it fails in between, some shards may know the mark and others not. Nobody notices: whoever comes across a session that a mark
//! has ended brings the mark to all shards, tells of it, and ends the records, before anybody learns of that one. So a revocation
//! that is cut off has either not happened, or is finished by whoever sees the first of its ends. (That the epoch has moved may be
//! seen before, by a login that is refused.) Whoever tries again takes a greater number, and marks only ever grow; sessions created
//! since are born with a number that no mark of the failed attempt exceeds.
//!
//! A user's marks expire after the longest lifetime of any session and an hour: the sessions that they ended have long been gone. The
//! numbers cannot be given out again, because they follow the server's time. The user's epoch, a plain count, expires with them;
//! only a login that took longer than that could be deceived by its starting over.

use super::{
    HOUR, MARGIN, Shared,
    finding::{Member, Seen, range_of},
    keys::{Place, SHARDS},
    link::failure,
    record::Revoked,
    scripts,
};
use crate::{
    domain::{LiveSession, Revocation, SessionId, Timestamp, TokenDigest, UserId},
    store::SessionKey,
};
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    future::{try_join, try_join_all},
    stream,
};
use redis::{RedisResult, Value};
use std::time::Duration;
use tokio::time::timeout;

/// How long it is remembered that a session ended.
const ENDED_NOTE_TTL: Duration = Duration::from_secs(60);

/// A session on the move is followed this often. It has moved once, or twice while it is looked for.
const MOVES: usize = 4;

/// Records that are ended at once.
const AT_ONCE: usize = 64;

/// Which records may be ended.
#[derive(Clone, Copy)]
pub(super) enum Which {
    /// Whatever session is there.
    Any,
    /// This one.
    Session(SessionId),
    /// This one, if it was born before the number.
    Older(SessionId, u64),
}

/// What became of a record that was to be ended.
pub(super) enum Fate {
    /// There is none, or another than it had to be.
    None,
    /// It was ended by this caller, or had been before.
    Ended(Ended),
    /// The session is not here any more.
    Moved {
        ids: (SessionId, UserId),
        works_until: Timestamp,
        to: TokenDigest,
    },
}

pub(super) struct Ended {
    pub id: SessionId,
    pub user: UserId,
    /// The session, if it lived until this caller ended it.
    pub live: Option<LiveSession>,
    /// Whether it was ended by this caller, had not expired, and nobody has counted its end.
    pub is_counted: bool,
    /// The revocation that had ended it when this caller came.
    revoked: Option<Revoked>,
}

impl Ended {
    pub(super) fn revocation(&self) -> Revocation {
        Revocation::Session {
            session: self.id,
            user: self.user,
        }
    }
}

impl Shared {
    /// Ends what is stored under a digest.
    async fn end_record(
        &self,
        digest: &TokenDigest,
        which: Which,
        by: u64,
        now: Timestamp,
    ) -> RedisResult<Fate> {
        let place = Place::of(digest);
        let mut cmd = scripts::END.on(&[
            self.keys.session(&place),
            self.keys.living(place.shard),
            self.keys.everyones_mark(place.shard),
        ]);
        match which {
            Which::Any => cmd.arg("").arg(""),
            Which::Session(id) => cmd.arg(&id.to_bytes()[..]).arg(""),
            Which::Older(id, birth) => cmd.arg(&id.to_bytes()[..]).arg(birth),
        };
        cmd.arg(&by.to_be_bytes()[..])
            .arg(millis(ENDED_NOTE_TTL))
            .arg(place.member);
        let Value::Array(parts) = self.wire.write(&cmd).await? else {
            return Ok(Fate::None);
        };
        let mut parts = parts.into_iter();
        let Some(Value::BulkString(record)) = parts.next() else {
            return Ok(Fate::None);
        };
        let seen = Seen::new(record, parts.next(), parts.next())?;
        let is_mine = parts.next() == Some(Value::Int(1));
        let was_living = parts.next() == Some(Value::Int(1));
        let record = &seen.record;
        if let Some((works_until, to)) = record.moved_to() {
            return Ok(Fate::Moved {
                ids: (record.id(), record.user()),
                works_until,
                to,
            });
        }
        let live = record.live().filter(|live| is_mine && !live.is_expired(now));
        let revoked = seen.marks.revoked(record);
        Ok(Fate::Ended(Ended {
            id: record.id(),
            user: record.user(),
            live: live.filter(|_| revoked.is_none()),
            is_counted: was_living && live.is_some(),
            revoked: revoked.filter(|_| live.is_some()),
        }))
    }

    /// Ends a session that was stored under `digest` a moment ago, wherever it has moved.
    pub(super) async fn end_session(
        &self,
        mut digest: TokenDigest,
        which: Which,
        by: u64,
        now: Timestamp,
    ) -> RedisResult<Option<Ended>> {
        for _ in 0..MOVES {
            match self.end_record(&digest, which, by, now).await? {
                Fate::None => return Ok(None),
                Fate::Ended(ended) => return Ok(Some(ended)),
                Fate::Moved { to, .. } => digest = to,
            }
        }
        Err(failure("a session that moves on and on"))
    }

    /// Removes what is left of sessions that have ended: their places in a user's index, and whose they were.
    async fn forget(&self, user: UserId, ids: &[SessionId]) -> RedisResult<()> {
        stream::iter(ids.to_vec())
            .map(|id| self.forget_one(user, id))
            .buffer_unordered(AT_ONCE)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await
    }

    pub(super) async fn forget_one(&self, user: UserId, id: SessionId) -> RedisResult<()> {
        let [from, to] = range_of(id);
        let mut unlist = redis::cmd("ZREMRANGEBYLEX");
        unlist.arg(self.keys.index(user)).arg(from).arg(to);
        let mut disown = redis::cmd("DEL");
        disown.arg(self.keys.owner(id));
        try_join(self.wire.write(&unlist), self.wire.write(&disown))
            .await
            .map(drop)
    }

    pub(super) async fn destroy(
        &self,
        key: SessionKey,
        now: Timestamp,
    ) -> RedisResult<Option<(SessionId, UserId)>> {
        let by = getrandom::u64().map_err(|_| failure("no randomness"))?;
        let ended = match key {
            SessionKey::Token(digest) => match self.end_record(&digest, Which::Any, by, now).await? {
                Fate::None => None,
                Fate::Ended(ended) => Some(ended),
                Fate::Moved { ids, works_until, to } => {
                    let moved = match now < works_until {
                        true => self.end_record(&to, Which::Session(ids.0), by, now).await?,
                        false => Fate::None,
                    };
                    match moved {
                        Fate::Ended(ended) => Some(ended),
                        // The grace is over, or a second rotation has ended it: before the caller hears so, whoever remembers does.
                        Fate::None | Fate::Moved { .. } => {
                            let (session, user) = ids;
                            self.tell_again(&digest, Revocation::Session { session, user })
                                .await?;
                            None
                        }
                    }
                }
            },
            SessionKey::Id(id) => match self.find_by_id(id).await? {
                Some((_, member)) => {
                    self.end_session(member.digest, Which::Session(id), by, now)
                        .await?
                }
                None => None,
            },
        };
        let Some(ended) = ended else {
            return Ok(None);
        };
        if let Some(revoked) = ended.revoked {
            self.finish_revocation(revoked, now).await?;
        }
        self.tell(&[ended.revocation()]).await?;
        self.forget(ended.user, &[ended.id]).await?;
        Ok(ended.live.map(|live| (live.id, live.user_id)))
    }

    /// Where the session with this id is stored, living or not.
    pub(super) async fn find_by_id(&self, id: SessionId) -> RedisResult<Option<(UserId, Member)>> {
        let mut cmd = redis::cmd("GET");
        cmd.arg(self.keys.owner(id));
        let Some(user) = redis::from_redis_value::<Option<Vec<u8>>>(self.wire.read(&cmd).await?)? else {
            return Ok(None);
        };
        let user = user.try_into().map(UserId::from_bytes);
        let user = user.map_err(|_| failure("an owner of another form"))?;
        Ok(self.member(user, id).await?.map(|member| (user, member)))
    }

    /// A user's session by its id. Also one that is on its way out, and may still live.
    async fn member(&self, user: UserId, id: SessionId) -> RedisResult<Option<Member>> {
        let [from, to] = range_of(id);
        let mut cmd = redis::cmd("ZRANGEBYLEX");
        cmd.arg(self.keys.index(user)).arg(from).arg(to);
        if let Some(member) = Member::all(self.wire.read(&cmd).await?)?.first() {
            return Ok(Some(*member));
        }
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(self.keys.leaving(user)).arg(0).arg(-1);
        let leaving = Member::all(self.wire.read(&cmd).await?)?;
        Ok(leaving.into_iter().find(|member| member.id == id))
    }

    pub(super) async fn revoke_user(
        &self,
        user: UserId,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> RedisResult<u64> {
        let except = match except {
            Some(id) if self.lives(user, id, now).await? => Some(id),
            Some(_) | None => None,
        };
        let mut cmd = scripts::MOVE_EPOCH.on(&[self.keys.users_epoch(user)]);
        cmd.arg(millis(self.longest_lifetime() + HOUR));
        self.wire.write(&cmd).await?;
        let number = self.next_number(false).await?;
        self.carry_through(user, except, number, now).await
    }

    /// Does all that is left to do once a revocation has its number.
    async fn carry_through(
        &self,
        user: UserId,
        except: Option<SessionId>,
        number: u64,
        now: Timestamp,
    ) -> RedisResult<u64> {
        self.mark_user(user, except, number).await?;
        self.tell(&[Revocation::User { user, except }]).await?;
        let ended = self.end_older(user, except, number, now).await?;
        let revoked = Revoked::User { user, number, except };
        self.told.note(revoked.name());
        Ok(ended)
    }

    async fn mark_user(&self, user: UserId, except: Option<SessionId>, number: u64) -> RedisResult<()> {
        let marked = try_join_all((0..SHARDS).map(|shard| self.mark_user_in(shard, user, except, number)));
        marked.await.map(drop)
    }

    pub(super) async fn mark_user_in(
        &self,
        shard: usize,
        user: UserId,
        except: Option<SessionId>,
        number: u64,
    ) -> RedisResult<()> {
        let spared = except.map(SessionId::to_bytes);
        let mut cmd = scripts::MARK_USER.on(&[self.keys.users_mark(shard, user)]);
        cmd.arg(number)
            .arg(spared.as_ref().map_or(&[][..], |id| &id[..]))
            .arg(millis(self.longest_lifetime() + HOUR));
        self.wire.write(&cmd).await.map(drop)
    }

    /// Brings a revocation to its end that somebody has come across, in place of whoever may not have got that far: once by each
    /// process.
    pub(super) async fn finish_revocation(&self, revoked: Revoked, now: Timestamp) -> RedisResult<()> {
        let name = revoked.name();
        if self.told.has(name) {
            return Ok(());
        }
        let turn = timeout(self.timeout, self.finishing.acquire()).await;
        let _turn = turn.map_err(|_| failure("a revocation is not finished in time"))?;
        if self.told.has(name) {
            return Ok(());
        }
        // A server that took over may have lost the last numbers: what was created there since is older by its number only.
        let (last, _) = self.birth().await?;
        if last >= revoked.number() {
            match revoked {
                Revoked::Everyone { number } => {
                    self.mark_everyone(number, now).await?;
                    self.tell(&[Revocation::Everyone]).await?;
                }
                Revoked::User { user, number, except } => {
                    self.carry_through(user, except, number, now).await?;
                }
            }
        }
        self.told.note(name);
        Ok(())
    }

    /// Ends the records of a user's sessions that a revocation has ended, and says how many of them lived until then.
    async fn end_older(
        &self,
        user: UserId,
        except: Option<SessionId>,
        number: u64,
        now: Timestamp,
    ) -> RedisResult<u64> {
        let by = getrandom::u64().map_err(|_| failure("no randomness"))?;
        let members = self.members(user, now).await?;
        let ended: Vec<Ended> = stream::iter(members.into_iter().filter(|member| Some(member.id) != except))
            .map(|member| self.end_session(member.digest, Which::Older(member.id, number), by, now))
            .buffer_unordered(AT_ONCE)
            .try_filter_map(|ended| std::future::ready(Ok(ended)))
            .try_collect()
            .await?;
        let ids: Vec<_> = ended.iter().map(|ended| ended.id).collect();
        self.forget(user, &ids).await?;
        Ok(ended.iter().filter(|ended| ended.is_counted).count() as u64)
    }

    async fn lives(&self, user: UserId, id: SessionId, now: Timestamp) -> RedisResult<bool> {
        let members = self.members(user, now).await?;
        let Some(member) = members.into_iter().find(|member| member.id == id) else {
            return Ok(false);
        };
        let found = self.find_member(user, member, now).await?;
        Ok(found.is_ok_and(|found| found.is_some()))
    }

    /// Marks every shard, and says how many living sessions that ended and under which number.
    pub(super) async fn revoke_everyone(&self, now: Timestamp) -> RedisResult<(u64, u64)> {
        let number = self.next_number(true).await?;
        let ended = self.mark_everyone(number, now).await?;
        self.tell(&[Revocation::Everyone]).await?;
        self.told.note(Revoked::Everyone { number }.name());
        Ok((ended, number))
    }

    pub(super) async fn mark_everyone(&self, number: u64, now: Timestamp) -> RedisResult<u64> {
        let ended = try_join_all((0..SHARDS).map(|shard| self.mark_everyone_in(shard, number, now)));
        Ok(ended.await?.iter().sum())
    }

    /// Marks one shard, and says how many living sessions there that ended.
    pub(super) async fn mark_everyone_in(
        &self,
        shard: usize,
        number: u64,
        now: Timestamp,
    ) -> RedisResult<u64> {
        let mut cmd = scripts::MARK_EVERYONE.on(&[
            self.keys.everyones_mark(shard),
            self.keys.living(shard),
            self.keys.set_aside(shard, number),
        ]);
        cmd.arg(number)
            .arg(now.as_millis())
            .arg(millis(self.longest_lifetime() + HOUR));
        Ok(redis::from_redis_value(self.wire.write(&cmd).await?)?)
    }

    /// Frees what everyone's revocation of this number has ended, shard by shard and a few at a time.
    pub(super) async fn clear(&self, number: u64) -> RedisResult<()> {
        for shard in 0..SHARDS {
            while self.clear_some(shard, number, AT_ONCE as u64).await?.0 > 0 {}
        }
        Ok(())
    }

    /// Deals with up to `limit` sessions that everyone's revocation of this number has set aside in a shard. Says how many it has
    /// dealt with, and how many of them it has freed.
    pub(super) async fn clear_some(&self, shard: usize, number: u64, limit: u64) -> RedisResult<(u64, u64)> {
        let mut cmd = scripts::CLEAR.on(&[
            self.keys.set_aside(shard, number),
            self.keys.living(shard),
            self.keys.everyones_mark(shard),
        ]);
        cmd.arg(self.keys.sessions_of(shard)).arg(limit);
        let (cleared, freed): (u64, Vec<Vec<u8>>) = redis::from_redis_value(self.wire.write(&cmd).await?)?;
        let forgotten = freed.iter().filter_map(|record| ids_of(record));
        try_join_all(forgotten.map(|(user, id)| self.forget_one(user, id))).await?;
        Ok((cleared, freed.len() as u64))
    }

    /// A number greater than all before.
    pub(super) async fn next_number(&self, is_for_everyone: bool) -> RedisResult<u64> {
        let mut cmd = scripts::NEXT_NUMBER.on(&[
            self.keys.clock(),
            self.keys.longest_lifetime(),
            self.keys.everyones_epoch(),
        ]);
        cmd.arg(u8::from(is_for_everyone));
        let (number, longest): (u64, Option<u64>) = redis::from_redis_value(self.wire.write(&cmd).await?)?;
        self.note_longest_lifetime(longest.unwrap_or(0));
        Ok(number)
    }
}

/// Which session that was, and whose, from the beginning of its record. `None` if Redis had forgotten it already.
pub(super) fn ids_of(record: &[u8]) -> Option<(UserId, SessionId)> {
    let (_, ids) = record.split_first()?;
    let (id, user) = ids.split_first_chunk::<16>()?;
    let user = UserId::from_bytes(user.try_into().ok()?);
    Some((user, SessionId::from_bytes(*id)))
}

/// How long Redis keeps a session that ends at `expires_at`: longer than the session lives, so that clocks that differ a little end
/// none early. Counted from now, so that the server's idea of the date does not matter.
pub(super) fn keep_millis(expires_at: Timestamp, now: Timestamp) -> u64 {
    millis(expires_at.since(now) + MARGIN)
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
