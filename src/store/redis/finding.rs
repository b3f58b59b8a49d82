//! Finding sessions: by token, by user, and how many there are.

use super::{
    Shared,
    keys::Place,
    link::failure,
    record::{Kind, Marks, Record, Revoked},
    scripts,
};
use crate::{
    domain::{LiveSession, Revocation, Session, SessionId, Timestamp, TokenDigest, UserId},
    store::{ScanCursor, ScanPage, redis::keys::SHARDS},
};
use futures_util::future::try_join_all;
use redis::{RedisResult, Value};
use std::sync::atomic::{AtomicU64, Ordering};

/// A record, and the marks of its shard that concern it.
pub(super) struct Seen {
    pub record: Record,
    pub marks: Marks,
    /// When the token that led here stops doing so, if it is an old one.
    pub grace_ends_at: Option<Timestamp>,
}

impl Seen {
    /// What Redis gave for a record and two marks; `None` if there is no record.
    fn from_reply(reply: Value) -> RedisResult<Option<Self>> {
        let Value::Array(values) = reply else {
            return Err(failure("a reply of another form"));
        };
        let mut values = values.into_iter();
        Self::from_values([values.next(), values.next(), values.next()])
    }

    /// As [`from_reply`](Self::from_reply).
    pub(super) fn from_values([record, everyone, user]: [Option<Value>; 3]) -> RedisResult<Option<Self>> {
        match record {
            Some(Value::BulkString(record)) => Self::new(record, everyone, user).map(Some),
            Some(Value::Nil) => Ok(None),
            _ => Err(failure("a reply of another form")),
        }
    }

    pub(super) fn new(record: Vec<u8>, everyone: Option<Value>, user: Option<Value>) -> RedisResult<Self> {
        let mark = |value: Option<Value>| match value {
            Some(Value::BulkString(mark)) => Some(mark),
            _ => None,
        };
        let record =
            Record::from_stored(record).ok_or_else(|| failure("a record that this version does not know"))?;
        let marks = Marks::from_stored(mark(everyone).as_deref(), mark(user).as_deref())
            .ok_or_else(|| failure("a mark that this version does not know"))?;
        Ok(Self {
            record,
            marks,
            grace_ends_at: None,
        })
    }

    /// The session that is stored here, if it lives and has arrived.
    pub(super) fn living(&self, now: Timestamp) -> Option<LiveSession> {
        match self.record.kind() {
            Kind::Session => {}
            Kind::Arriving | Kind::Moved | Kind::Ended => return None,
        }
        let live = LiveSession {
            grace_ends_at: self.grace_ends_at,
            ..self.record.live()?
        };
        (!live.is_expired(now) && self.marks.spare(&self.record)).then_some(live)
    }
}

/// Whose session a token is likely to prove: the last answer for it, or for another with the same place here.
///
/// With the user known, a check reads the session and its marks with one `MGET`, which costs Redis a quarter of a script. A wrong
/// guess is found out, because the record says whose it is: so nothing here has to be right, and threads may write over each other.
pub(super) struct Guesses(Vec<Guess>);

#[derive(Default)]
struct Guess {
    token: AtomicU64,
    user: [AtomicU64; 2],
}

/// 24 bytes each.
const GUESSES: usize = 1 << 16;

impl Guesses {
    pub(super) fn none() -> Self {
        Self(std::iter::repeat_with(Guess::default).take(GUESSES).collect())
    }

    fn place(&self, digest: &TokenDigest) -> (&Guess, u64) {
        let mut token = [0; 8];
        token.copy_from_slice(&digest.as_bytes()[8..16]);
        let token = u64::from_be_bytes(token);
        (&self.0[token as usize % GUESSES], token)
    }

    fn user_of(&self, digest: &TokenDigest) -> Option<UserId> {
        let (guess, token) = self.place(digest);
        let user = u128::from(guess.user[0].load(Ordering::Relaxed)) << 64
            | u128::from(guess.user[1].load(Ordering::Relaxed));
        (guess.token.load(Ordering::Relaxed) == token).then(|| UserId::from_bytes(user.to_be_bytes()))
    }

    fn note(&self, digest: &TokenDigest, user: UserId) {
        let (guess, token) = self.place(digest);
        let user = u128::from_be_bytes(user.to_bytes());
        guess.user[0].store((user >> 64) as u64, Ordering::Relaxed);
        guess.user[1].store(user as u64, Ordering::Relaxed);
        guess.token.store(token, Ordering::Relaxed);
    }
}

/// One of a user's sessions, as the index has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub id: SessionId,
    pub digest: TokenDigest,
}

impl Member {
    pub(super) fn to_bytes(self) -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[..16].copy_from_slice(&self.id.to_bytes());
        bytes[16..].copy_from_slice(self.digest.as_bytes());
        bytes
    }

    fn from_stored(bytes: &[u8]) -> Option<Self> {
        let (id, digest) = bytes.split_first_chunk()?;
        Some(Self {
            id: SessionId::from_bytes(*id),
            digest: TokenDigest::from_bytes(digest.try_into().ok()?),
        })
    }

    /// The members in a reply.
    pub(super) fn all(reply: Value) -> RedisResult<Vec<Self>> {
        let members: Vec<Vec<u8>> = redis::from_redis_value(reply)?;
        members
            .iter()
            .map(|bytes| Self::from_stored(bytes).ok_or_else(|| failure("an index entry of another form")))
            .collect()
    }
}

/// A range of the index that has one session's entries only.
pub(super) fn range_of(id: SessionId) -> [Vec<u8>; 2] {
    let bound = |end: &[u8]| [b"[".as_slice(), &id.to_bytes(), end].concat();
    [bound(&[]), bound(&[0xff; 33])]
}

/// How much of a place in a walk is the server's cursor within one shard: more than a set of any size needs.
const CURSOR_BITS: u32 = 56;

/// How often a list is read again because the index changed meanwhile, before it is good enough.
const LIST_READS: usize = 8;

/// How often sessions are counted again because some were between two places, before it is good enough.
const COUNT_READS: usize = 4;

/// Sessions of one shard whose moves are brought to their end at once.
const MOVING_AT_ONCE: u32 = 100;

impl Shared {
    /// What is stored under a token, with a user whose it may be. One round trip, unless the user is guessed wrong.
    pub(super) async fn look(&self, digest: &TokenDigest, user: Option<UserId>) -> RedisResult<Option<Seen>> {
        if let Some(user) = user.or_else(|| self.guesses.user_of(digest)) {
            match self.asking.ask(Place::of(digest), user).await? {
                Some(seen) if seen.record.user() != user => {}
                seen => return Ok(seen),
            }
        }
        let place = Place::of(digest);
        let cmd = scripts::CHECK.on(&[self.keys.session(&place), self.keys.everyones_mark(place.shard)]);
        let seen = Seen::from_reply(self.wire.read(&cmd).await?)?;
        if let Some(seen) = &seen {
            self.guesses.note(digest, seen.record.user());
        }
        Ok(seen)
    }

    /// The living session that a token proves, and under which digest it is stored.
    ///
    /// Whoever ended the session or its token may have failed before it could tell, and may never try again. So before anybody is
    /// told of an end, those who remember answers are: once by each process that comes across it.
    pub(super) async fn find(
        &self,
        digest: &TokenDigest,
        now: Timestamp,
    ) -> RedisResult<Option<(TokenDigest, Seen)>> {
        let Some(seen) = self.look(digest, None).await? else {
            return Ok(None);
        };
        let ended = Revocation::Session {
            session: seen.record.id(),
            user: seen.record.user(),
        };
        let is_expired = seen.record.live().is_some_and(|live| live.is_expired(now));
        // With everyone's sessions nothing else is done than to mark them as ended: they stay, and telling of each would be a flood.
        let is_everyones = seen.record.kind() != Kind::Moved
            && matches!(seen.marks.revoked(&seen.record), Some(Revoked::Everyone { .. }));
        let found = self.proven(seen, digest, now).await?;
        if found.is_none() && !is_expired && !is_everyones {
            self.tell_again(digest, ended).await?;
        }
        Ok(found)
    }

    /// The living session that the token of this record proves.
    async fn proven(
        &self,
        seen: Seen,
        digest: &TokenDigest,
        now: Timestamp,
    ) -> RedisResult<Option<(TokenDigest, Seen)>> {
        match seen.record.kind() {
            Kind::Session => self.confirmed(*digest, seen, now).await,
            Kind::Moved => match seen.record.moved_to() {
                Some((works_until, to)) if now < works_until => {
                    // In a box, because it is rare, and every check would carry it.
                    let mut arrived = Box::pin(self.arrived(&seen.record, *digest, to, now)).await?;
                    if let Some((_, seen)) = &mut arrived {
                        seen.grace_ends_at = Some(works_until);
                    }
                    Ok(arrived)
                }
                Some(_) | None => Ok(None),
            },
            // Nobody has been given the token of what has not arrived.
            Kind::Arriving | Kind::Ended => Ok(None),
        }
    }

    /// The session that was found here, if it lives.
    ///
    /// Whoever revoked it may have got no further. So before anybody learns that it was revoked, all are that were to be.
    pub(super) async fn confirmed(
        &self,
        digest: TokenDigest,
        seen: Seen,
        now: Timestamp,
    ) -> RedisResult<Option<(TokenDigest, Seen)>> {
        if seen.living(now).is_some() {
            return Ok(Some((digest, seen)));
        }
        let has_expired = seen.record.live().is_none_or(|live| live.is_expired(now));
        let is_session = seen.record.kind() == Kind::Session;
        if let Some(revoked) = seen.marks.revoked(&seen.record)
            && is_session
            && !has_expired
        {
            Box::pin(self.finish_revocation(revoked, now)).await?;
        }
        Ok(None)
    }

    /// The session that has moved from one place to the other, if it lives, as a session that has arrived.
    ///
    /// Whoever has moved it may be dead. So nobody waits for them: who follows a session completes its arrival.
    pub(super) async fn arrived(
        &self,
        left: &Record,
        from: TokenDigest,
        to: TokenDigest,
        now: Timestamp,
    ) -> RedisResult<Option<(TokenDigest, Seen)>> {
        let Some(mut seen) = self.look(&to, Some(left.user())).await? else {
            return Ok(None);
        };
        if seen.record.id() != left.id() {
            return Ok(None);
        }
        let is_arriving = seen.record.kind() == Kind::Arriving;
        if is_arriving {
            seen.record = seen.record.arrived(left);
        }
        let Some((to, seen)) = self.confirmed(to, seen, now).await? else {
            return Ok(None);
        };
        if is_arriving {
            if !self.arrive(&to, &seen.record, now).await? {
                return Ok(None);
            }
            self.reindex(&seen.record, from, to).await?;
        }
        Ok(Some((to, seen)))
    }

    /// The living session that an entry of a user's index names; `Err` inside if there is nothing at all.
    pub(super) async fn find_member(
        &self,
        user: UserId,
        member: Member,
        now: Timestamp,
    ) -> RedisResult<Result<Option<(TokenDigest, Seen)>, Gone>> {
        let Some(seen) = self.look(&member.digest, Some(user)).await? else {
            return Ok(Err(Gone));
        };
        if seen.record.id() != member.id {
            return Ok(Err(Gone));
        }
        Ok(Ok(match seen.record.moved_to() {
            Some((_, to)) => self.arrived(&seen.record, member.digest, to, now).await?,
            None => self.confirmed(member.digest, seen, now).await?,
        }))
    }

    /// A user's index, oldest session first. Those that a creation has put out of it have ended when this answers: whoever sees the
    /// new session never afterwards sees what it replaced.
    pub(super) async fn members(&self, user: UserId, now: Timestamp) -> RedisResult<Vec<Member>> {
        let cmd = scripts::BOTH.on(&[self.keys.index(user), self.keys.leaving(user)]);
        let (members, leaving): (Value, Value) = redis::from_redis_value(self.wire.read(&cmd).await?)?;
        let leaving = Member::all(leaving)?;
        if !leaving.is_empty() {
            self.end_leaving(user, leaving, Vec::new(), now).await?;
        }
        Member::all(members)
    }

    pub(super) async fn list(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: u32,
        now: Timestamp,
    ) -> RedisResult<Vec<Session>> {
        let mut members = self.members(user, now).await?;
        let mut reads = 0;
        loop {
            let sessions = self.living_of(user, &members, before, limit, now).await?;
            reads += 1;
            // A creation changes the index before it ends what it replaces: while the index stays the same, both sides of that are
            // seen, or neither.
            let again = self.members(user, now).await?;
            if again == members || reads == LIST_READS {
                return Ok(sessions);
            }
            members = again;
        }
    }

    async fn living_of(
        &self,
        user: UserId,
        members: &[Member],
        before: Option<SessionId>,
        limit: u32,
        now: Timestamp,
    ) -> RedisResult<Vec<Session>> {
        let limit = limit as usize;
        let wanted: Vec<_> = members
            .iter()
            .rev()
            .filter(|member| before.is_none_or(|before| member.id < before))
            .collect();
        let mut sessions = Vec::new();
        let mut gone = Vec::new();
        for page in wanted.chunks(limit.clamp(16, 256)) {
            if sessions.len() >= limit {
                break;
            }
            let found = try_join_all(page.iter().map(|member| self.find_member(user, **member, now)));
            for (member, found) in page.iter().zip(found.await?) {
                match found {
                    Ok(Some((_, seen))) => {
                        let session = seen.record.session();
                        sessions.push(session.ok_or_else(|| failure("a session of another form"))?);
                    }
                    Ok(None) => {}
                    Err(Gone) => gone.push(**member),
                }
            }
        }
        sessions.truncate(limit);
        self.forget_members(user, &gone).await;
        Ok(sessions)
    }

    /// Takes entries out of a user's index whose sessions are gone. A session is stored before it is indexed, so what is gone will
    /// not come. Whether it works decides nothing: the next one who finds them tries again.
    pub(super) async fn forget_members(&self, user: UserId, gone: &[Member]) {
        if gone.is_empty() {
            return;
        }
        let mut cmd = redis::cmd("ZREM");
        cmd.arg(self.keys.index(user));
        for member in gone {
            cmd.arg(&member.to_bytes()[..]);
        }
        if let Err(error) = self.wire.write(&cmd).await {
            tracing::debug!(%error, "could not tidy the index of a user's sessions");
        }
    }

    /// The living sessions of one shard, a few at a time. A place is the shard and, within it, the server's own cursor.
    pub(super) async fn scan(&self, from: ScanCursor, now: Timestamp) -> RedisResult<ScanPage> {
        let place = from.number();
        let (shard, cursor) = (place >> CURSOR_BITS, place & ((1 << CURSOR_BITS) - 1));
        let Some(shard) = usize::try_from(shard).ok().filter(|shard| *shard < SHARDS) else {
            return Err(failure("a walk to a place that there is not"));
        };
        let mut cmd = redis::cmd("ZSCAN");
        cmd.arg(self.keys.living(shard)).arg(cursor).arg("COUNT").arg(500);
        let (next, members): (u64, Vec<(String, f64)>) =
            redis::from_redis_value(self.wire.read(&cmd).await?)?;
        let living = members
            .into_iter()
            .filter(|(_, expires_at)| *expires_at > now.as_millis() as f64);
        let digests = living.map(|(member, _)| Place::digest(&member));
        let digests = digests
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| failure("a session of another name"))?;
        if next >> CURSOR_BITS != 0 {
            return Err(failure("a cursor that is too large"));
        }
        let shard = shard as u64;
        let next = match next {
            0 => (shard + 1 < SHARDS as u64).then(|| ScanCursor::from((shard + 1) << CURSOR_BITS)),
            next => Some(ScanCursor::from(shard << CURSOR_BITS | next)),
        };
        Ok(ScanPage { digests, next })
    }

    /// Everybody's living sessions: each shard keeps the expiry of each of its own. Those that are between two places are brought to
    /// their end first, and so is a revocation of everyone's sessions that some shards know of and others do not.
    pub(super) async fn count(&self, now: Timestamp) -> RedisResult<u64> {
        let mut reads = 0;
        loop {
            let shards = (0..SHARDS).map(|shard| self.count_shard(shard, now));
            let shards = try_join_all(shards).await?;
            reads += 1;
            let moving: Vec<_> = shards.iter().flat_map(|shard| &shard.moving).collect();
            let last = shards.iter().map(|shard| shard.everyones_mark).max().unwrap_or(0);
            let is_marked = shards.iter().all(|shard| shard.everyones_mark == last);
            if reads == COUNT_READS || moving.is_empty() && is_marked {
                return Ok(shards.iter().map(|shard| shard.living).sum());
            }
            if !is_marked {
                let revoked = Revoked::Everyone { number: last };
                self.finish_revocation(revoked, now).await?;
            }
            try_join_all(moving.into_iter().map(|from| self.settle_move(from, now))).await?;
        }
    }

    pub(super) async fn count_shard(&self, shard: usize, now: Timestamp) -> RedisResult<ShardCount> {
        let mut cmd = scripts::COUNT.on(&[
            self.keys.living(shard),
            self.keys.moving(shard),
            self.keys.everyones_mark(shard),
        ]);
        cmd.arg(now.as_millis()).arg(MOVING_AT_ONCE);
        let (living, moving, mark): (u64, Vec<String>, Option<u64>) =
            redis::from_redis_value(self.wire.read(&cmd).await?)?;
        let moving = moving.iter().map(|member| Place::digest(member));
        let moving = moving.collect::<Option<_>>();
        Ok(ShardCount {
            living,
            moving: moving.ok_or_else(|| failure("a session of another name"))?,
            everyones_mark: mark.unwrap_or(0),
        })
    }
}

/// What there is in a shard.
pub(super) struct ShardCount {
    living: u64,
    /// Places that sessions are moving away from: some, if there are many.
    pub moving: Vec<TokenDigest>,
    /// The number of the last revocation of everyone's sessions; 0: there was none.
    pub everyones_mark: u64,
}

/// There is no record under this digest.
pub(super) struct Gone;
