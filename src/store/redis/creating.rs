//! How a session comes to life.
//!
//! The session is stored first and indexed second. What a creation has acknowledged is therefore always in the index; what is in the
//! index and not stored is gone for good. If the creation fails in between, a session is left that nobody has the token of: it can
//! only expire.
//!
//! The index changes in one script, and that is when the creation happens: the session takes its place, and those that it replaces
//! or evicts move to a second set, from which they are taken when they are dead, before the creation is acknowledged. Nobody needs
//! to wait for that: whoever reads the index, for a list, a revocation or another creation, reads the second set with it, and first
//! ends what is in there. So a creation that is cut off has either not happened, or is finished by whoever sees the new session.
//! Until then both the new session and the replaced one are counted, and a token of the replaced one still proves it: nobody can
//! know by then that it was replaced.

use super::{
    Shared,
    ending::{Ended, Which, keep_millis},
    finding::{Gone, Member},
    keys::Place,
    link::failure,
    record::{Kind, Record},
    scripts,
};
use crate::{
    domain::{Revocation, SessionId, Timestamp, TokenDigest, UserId},
    store::{Created, NewSession},
};
use futures_util::future::{try_join, try_join_all};
use redis::RedisResult;

/// What became of a session's place in the index.
enum Admission {
    EpochMoved,
    Taken { leaving: Vec<Member> },
    Full { members: Vec<Member> },
}

impl Shared {
    pub(super) async fn create(&self, new: &NewSession, now: Timestamp) -> RedisResult<Created> {
        let live = &new.session.live;
        self.allow_lifetime(live.span.lifetime()).await?;
        let stored = self.store_under_epoch(new, now);
        let (users_epoch, replaced) = try_join(stored, self.replaced(new.replaces.as_ref(), now)).await?;
        let Some(users_epoch) = users_epoch else {
            return Ok(Created::EpochMoved);
        };
        let (replaced, told) = match replaced {
            Ok(replaced) => (Some(replaced), Vec::new()),
            Err(Replaced::None) => (None, Vec::new()),
            Err(Replaced::EndedBefore(revocation)) => (None, vec![revocation]),
        };
        let Some(leaving) = self.index_new(new, users_epoch, replaced, now).await? else {
            self.take_back(new).await?;
            return Ok(Created::EpochMoved);
        };
        self.end_leaving(live.user_id, leaving, told, now).await?;
        Ok(Created::Yes)
    }

    /// Stores the session, unless everyone's epoch has moved. Gives what the user's epoch must not exceed.
    pub(super) async fn store_under_epoch(
        &self,
        new: &NewSession,
        now: Timestamp,
    ) -> RedisResult<Option<u64>> {
        // Asked a second time if its shard knows a later revocation. Either that is under way, and then the epoch has moved before
        // this second look; or a server that took over has lost the last numbers: with a fresh one, nobody is locked out.
        for is_last in [false, true] {
            // The birth is read before the epochs are compared: see `ending`.
            let (birth, everyones_epoch) = self.birth().await?;
            let Some(users_epoch) = new.epoch.count().checked_sub(everyones_epoch) else {
                return Ok(None);
            };
            if self.store_new(new, birth, now).await? {
                return Ok(Some(users_epoch));
            }
            if !is_last {
                self.next_number(false).await?;
            }
        }
        Ok(None)
    }

    /// The number of the last revocation, and everyone's epoch at the same moment.
    pub(super) async fn birth(&self) -> RedisResult<(u64, u64)> {
        let mut cmd = redis::cmd("MGET");
        cmd.arg(self.keys.clock()).arg(self.keys.everyones_epoch());
        let (last, epoch): (Option<String>, Option<u64>) =
            redis::from_redis_value(self.wire.read(&cmd).await?)?;
        let birth = match &last {
            Some(last) => last.split(' ').next().and_then(|number| number.parse().ok()),
            None => Some(0),
        };
        let birth = birth.ok_or_else(|| failure("a number of another form"))?;
        Ok((birth, epoch.unwrap_or(0)))
    }

    /// The living session that a token to be replaced proves.
    pub(super) async fn replaced(
        &self,
        digest: Option<&TokenDigest>,
        now: Timestamp,
    ) -> RedisResult<Result<Member, Replaced>> {
        let Some(digest) = digest else {
            return Ok(Err(Replaced::None));
        };
        if let Some((digest, seen)) = self.find(digest, now).await? {
            return Ok(Ok(Member {
                id: seen.record.id(),
                digest,
            }));
        }
        let ended = self.look(digest, None).await?;
        Ok(Err(
            match ended.filter(|seen| seen.record.kind() == Kind::Ended) {
                Some(seen) => Replaced::EndedBefore(Revocation::Session {
                    session: seen.record.id(),
                    user: seen.record.user(),
                }),
                None => Replaced::None,
            },
        ))
    }

    /// Stores the session and whose it is. `false` if a revocation since its birth is known in its shard.
    pub(super) async fn store_new(&self, new: &NewSession, birth: u64, now: Timestamp) -> RedisResult<bool> {
        let live = &new.session.live;
        let place = Place::of(&new.digest);
        let mut store = scripts::CREATE.on(&[
            self.keys.session(&place),
            self.keys.living(place.shard),
            self.keys.everyones_mark(place.shard),
            self.keys.users_mark(place.shard, live.user_id),
        ]);
        store
            .arg(birth)
            .arg(Record::of(&new.session, birth).bytes())
            .arg(keep_millis(live.valid_until(), now))
            .arg(live.valid_until().as_millis())
            .arg(place.member);
        let mut own = redis::cmd("SET");
        own.arg(self.keys.owner(live.id))
            .arg(&live.user_id.to_bytes()[..])
            .arg("PX")
            .arg(keep_millis(live.expires_at(), now));
        let (stored, _) = try_join(self.wire.write(&store), self.wire.write(&own)).await?;
        Ok(redis::from_redis_value::<i64>(stored)? == 1)
    }

    /// Puts the session into the index, and says which sessions leave it. `None` if the epoch has moved.
    pub(super) async fn index_new(
        &self,
        new: &NewSession,
        users_epoch: u64,
        replaced: Option<Member>,
        now: Timestamp,
    ) -> RedisResult<Option<Vec<Member>>> {
        let user = new.session.live.user_id;
        let mut dead = None;
        // Asked twice at most: told which ones are dead, the script decides by itself who leaves.
        for _ in 0..2 {
            match self
                .take_place(new, users_epoch, replaced, dead.as_deref(), now)
                .await?
            {
                Admission::EpochMoved => return Ok(None),
                Admission::Taken { leaving } => return Ok(Some(leaving)),
                Admission::Full { members } => {
                    let found = members.iter().map(|member| self.find_member(user, *member, now));
                    let found = try_join_all(found).await?;
                    let is_dead = |found: &Result<Option<_>, Gone>| !matches!(found, Ok(Some(_)));
                    let dead_now = members.iter().zip(&found).filter(|(_, found)| is_dead(found));
                    dead = Some(dead_now.map(|(member, _)| *member).collect::<Vec<_>>());
                }
            }
        }
        Err(failure("an index that cannot decide"))
    }

    async fn take_place(
        &self,
        new: &NewSession,
        users_epoch: u64,
        replaced: Option<Member>,
        dead: Option<&[Member]>,
        now: Timestamp,
    ) -> RedisResult<Admission> {
        let live = &new.session.live;
        let member = Member {
            id: live.id,
            digest: new.digest,
        };
        let mut cmd = scripts::ADD.on(&[
            self.keys.index(live.user_id),
            self.keys.leaving(live.user_id),
            self.keys.users_epoch(live.user_id),
        ]);
        let replaced = replaced.map(Member::to_bytes);
        cmd.arg(users_epoch)
            .arg(&member.to_bytes()[..])
            .arg(new.max_per_user.max(1))
            .arg(keep_millis(live.expires_at(), now))
            .arg(replaced.as_ref().map_or(&[][..], |member| &member[..]))
            .arg(u8::from(dead.is_some()));
        for member in dead.unwrap_or_default() {
            cmd.arg(&member.to_bytes()[..]);
        }
        let (outcome, members): (u8, redis::Value) = redis::from_redis_value(self.wire.write(&cmd).await?)?;
        let members = Member::all(members)?;
        Ok(match outcome {
            0 => Admission::EpochMoved,
            1 => Admission::Taken { leaving: members },
            _ => Admission::Full { members },
        })
    }

    /// Removes a session that was stored and got no place.
    async fn take_back(&self, new: &NewSession) -> RedisResult<()> {
        let place = Place::of(&new.digest);
        let mut unstore = scripts::TAKE_BACK.on(&[self.keys.session(&place), self.keys.living(place.shard)]);
        unstore.arg(place.member);
        let mut disown = redis::cmd("DEL");
        disown.arg(self.keys.owner(new.session.live.id));
        try_join(self.wire.write(&unstore), self.wire.write(&disown))
            .await
            .map(drop)
    }

    /// Ends the sessions that creations of this user replace or evict, tells it, and then forgets them.
    pub(super) async fn end_leaving(
        &self,
        user: UserId,
        leaving: Vec<Member>,
        mut told: Vec<Revocation>,
        now: Timestamp,
    ) -> RedisResult<()> {
        let by = getrandom::u64().map_err(|_| failure("no randomness"))?;
        let ended = leaving.iter().map(|member| self.end_leaver(*member, by, now));
        let ended: Vec<Option<Ended>> = try_join_all(ended).await?;
        // One that was dead already may have been ended by a creation that failed before it could tell.
        told.extend(ended.iter().flatten().map(Ended::revocation));
        self.tell(&told).await?;
        let left = leaving.iter().zip(&ended).map(|(member, ended)| {
            let owner = ended.as_ref().map_or(user, |ended| ended.user);
            self.forget_left(user, owner, member.id)
        });
        try_join_all(left).await.map(drop)
    }

    /// Ends a session that is to leave, whoever's it is and wherever it has moved since it was told to.
    async fn end_leaver(&self, member: Member, by: u64, now: Timestamp) -> RedisResult<Option<Ended>> {
        let which = Which::Session(member.id);
        if let Some(ended) = self.end_session(member.digest, which, by, now).await? {
            return Ok(Some(ended));
        }
        match self.find_by_id(member.id).await? {
            Some((_, moved)) if moved.digest != member.digest => {
                self.end_session(moved.digest, which, by, now).await
            }
            Some(_) | None => Ok(None),
        }
    }

    async fn forget_left(&self, user: UserId, owner: UserId, id: SessionId) -> RedisResult<()> {
        self.forget_one(owner, id).await?;
        let mut cmd = scripts::LEFT.on(&[self.keys.leaving(user)]);
        cmd.arg(&id.to_bytes()[..]);
        self.wire.write(&cmd).await.map(drop)
    }
}

/// Why a token that is to be replaced proves nothing.
pub(super) enum Replaced {
    /// There is none, or it never proved anything here.
    None,
    /// Its session has ended, perhaps in a creation that failed before it could tell.
    EndedBefore(Revocation),
}
