//! How a session gets another token.
//!
//! The new token's digest is in another shard, so a session moves in steps. It first *waits* at the new place, where nothing finds
//! it yet. Then it *departs* from the old place, in one script that finds it there or not: of two rotations one departs, and what is
//! destroyed or revoked does not depart. That is when the rotation happens: from then on the old place says where the session is,
//! and the old token, if it has a grace, proves it there. At last it *arrives*: what has been ended meanwhile at the new place does
//! not. Then the index gets the new place, everyone is told of the old token's end, and what was left at the old place is settled.
//!
//! Nobody waits for a session to arrive: whoever follows it there, by the old token, by the user's index or to count it, completes
//! its arrival first. All write the same: the session as it waits, last seen when it departed, which the old place tells. So a
//! rotation that is cut off has either not happened, and what waits at the new place is lost space until the session would have
//! expired; or it has, and the session lives on in lists and, in its grace, under the old token, until it expires or somebody
//! ends it. Its new token nobody has been given.
//!
//! The old place keeps its note until the index leads past it, and everyone has been told. If nobody gets that far, a sweep does.

use super::{
    Shared,
    ending::{keep_millis, millis},
    finding::Member,
    keys::Place,
    link::failure,
    record::{Kind, Record},
    scripts,
};
use crate::{
    domain::{Revocation, Session, Timestamp, TokenDigest},
    store::Rotation,
};
use futures_util::future::try_join;
use redis::{RedisResult, Value};
use std::time::Duration;

/// How long the old place keeps its note when it is settled and the old token works no more: for those who look for it in vain.
const SETTLED_NOTE_TTL: Duration = Duration::from_secs(60);

impl Shared {
    pub(super) async fn rotate(&self, rotation: &Rotation, now: Timestamp) -> RedisResult<Option<Session>> {
        let Some(seen) = self.look(&rotation.from, None).await? else {
            return Ok(None);
        };
        let told = Revocation::Session {
            session: seen.record.id(),
            user: seen.record.user(),
        };
        match seen.record.kind() {
            Kind::Session if seen.living(now).is_some() => {}
            Kind::Session => return Ok(self.confirmed(rotation.from, seen, now).await?.and(None)),
            Kind::Arriving => return Ok(None),
            // Perhaps a rotation that failed before it could tell.
            Kind::Moved | Kind::Ended => {
                self.tell(&[told]).await?;
                return Ok(None);
            }
        }
        let waiting = seen.record.arriving(rotation.authenticated_at);
        self.let_wait(&rotation.to, &waiting, now).await?;
        let Some(left) = self.depart(rotation, &seen.record, now).await? else {
            let mut cmd = redis::cmd("DEL");
            cmd.arg(self.keys.session(&Place::of(&rotation.to)));
            self.wire.write(&cmd).await?;
            // Whatever came between has to be seen to its end, as by a check.
            self.find(&rotation.from, now).await?;
            return Ok(None);
        };
        let arrived = waiting.arrived(&left);
        if !self.arrive(&rotation.to, &arrived, now).await? {
            self.arrived(&left, rotation.from, rotation.to, now).await?;
            return Ok(None);
        }
        try_join(
            self.reindex(&arrived, rotation.from, rotation.to),
            self.tell(&[told]),
        )
        .await?;
        self.settle(&rotation.from, rotation.grace_until, now).await?;
        let session = arrived.session();
        session
            .map(Some)
            .ok_or_else(|| failure("a session of another form"))
    }

    /// Puts a session where it will be, without anybody finding it there. It waits as long as it would have lived.
    pub(super) async fn let_wait(
        &self,
        to: &TokenDigest,
        waiting: &Record,
        now: Timestamp,
    ) -> RedisResult<()> {
        let live = waiting
            .live()
            .ok_or_else(|| failure("a session of another form"))?;
        let mut cmd = redis::cmd("SET");
        // Only once: the same request may come again, and late, when the session has arrived or ended.
        cmd.arg(self.keys.session(&Place::of(to)))
            .arg(waiting.bytes())
            .arg("NX")
            .arg("PX")
            .arg(keep_millis(live.valid_until(), now));
        self.wire.write(&cmd).await.map(drop)
    }

    /// Leaves at the old place a note of where the session has gone. Gives the note, or nothing if the session was not there.
    pub(super) async fn depart(
        &self,
        rotation: &Rotation,
        seen: &Record,
        now: Timestamp,
    ) -> RedisResult<Option<Record>> {
        let place = Place::of(&rotation.from);
        // Until the index has the new place, it leads there by the old one.
        let expires_at = seen.live().map_or(now, |live| live.expires_at());
        let mut cmd = scripts::DEPART.on(&[
            self.keys.session(&place),
            self.keys.living(place.shard),
            self.keys.everyones_mark(place.shard),
            self.keys.moving(place.shard),
        ]);
        cmd.arg(&seen.id().to_bytes()[..])
            .arg(seen.note_of_move(rotation.grace_until, &rotation.to))
            .arg(keep_millis(expires_at, now))
            .arg(place.member);
        let Value::BulkString(note) = self.wire.write(&cmd).await? else {
            return Ok(None);
        };
        Record::from_stored(note)
            .map(Some)
            .ok_or_else(|| failure("a record that this version does not know"))
    }

    /// Makes what waits at the new place the session that it is now. `false` if it has been ended there.
    pub(super) async fn arrive(
        &self,
        to: &TokenDigest,
        arrived: &Record,
        now: Timestamp,
    ) -> RedisResult<bool> {
        let Some(live) = arrived.live() else {
            return Err(failure("a session of another form"));
        };
        let place = Place::of(to);
        let mut cmd = scripts::ARRIVE.on(&[
            self.keys.session(&place),
            self.keys.living(place.shard),
            self.keys.everyones_mark(place.shard),
        ]);
        cmd.arg(&live.id.to_bytes()[..])
            .arg(arrived.last_seen_bytes())
            .arg(keep_millis(live.valid_until(), now))
            .arg(live.valid_until().as_millis())
            .arg(place.member);
        Ok(redis::from_redis_value::<i64>(self.wire.write(&cmd).await?)? == 1)
    }

    /// Lets the user's index lead to the new place, wherever it has the session.
    pub(super) async fn reindex(
        &self,
        arrived: &Record,
        from: TokenDigest,
        to: TokenDigest,
    ) -> RedisResult<()> {
        let member = |digest| {
            let id = arrived.id();
            Member { id, digest }.to_bytes()
        };
        let user = arrived.user();
        let mut cmd = scripts::MOVE.on(&[self.keys.index(user), self.keys.leaving(user)]);
        cmd.arg(&member(from)[..]).arg(&member(to)[..]);
        self.wire.write(&cmd).await.map(drop)
    }

    /// Keeps the note at the old place no longer than the old token works, and a minute for those who look for it in vain.
    async fn settle(&self, from: &TokenDigest, works_until: Timestamp, now: Timestamp) -> RedisResult<()> {
        let place = Place::of(from);
        let mut cmd = scripts::SETTLE.on(&[self.keys.session(&place), self.keys.moving(place.shard)]);
        cmd.arg(millis(works_until.since(now) + SETTLED_NOTE_TTL))
            .arg(place.member);
        self.wire.write(&cmd).await.map(drop)
    }

    /// Does all that is left to do after a departure, in place of whoever may not get that far.
    pub(super) async fn settle_move(&self, from: &TokenDigest, now: Timestamp) -> RedisResult<()> {
        let left = self.look(from, None).await?.map(|seen| seen.record);
        let moved = left.as_ref().and_then(|left| Some((left, left.moved_to()?)));
        let Some((left, (works_until, to))) = moved else {
            return self.settle(from, now, now).await;
        };
        if self.arrived(left, *from, to, now).await?.is_some() {
            self.reindex(left, *from, to).await?;
        }
        let told = Revocation::Session {
            session: left.id(),
            user: left.user(),
        };
        self.tell(&[told]).await?;
        self.settle(from, works_until, now).await
    }
}
