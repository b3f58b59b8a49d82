//! How a session gets another token.
//!
//! The new token's digest is in another shard, so a session moves in steps. It first *arrives* at the new place, where its new token
//! proves nothing yet, and which is forgotten after a minute. Then it *departs* from the old place, in one script that finds it there
//! or not: of two rotations one departs, and what is destroyed or revoked does not depart. From then on the old place says where the
//! session is, and the old token, if it has a grace, proves it there; whoever wants to end the session follows. At last it *arrives*:
//! what has been ended meanwhile at the new place does not.
//!
//! A failure before the departure leaves the session where it is. After it, the old token works until the end of its grace or for a
//! minute at most, and the new one, which nobody has been given, not at all.

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

/// How long a session waits at its new place. Much longer than a verb may take.
const ARRIVING_TTL: Duration = Duration::from_secs(60);

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
            Kind::Session | Kind::Arriving => return Ok(None),
            // Perhaps a rotation that failed before it could tell.
            Kind::Moved | Kind::Ended => {
                self.tell(&[told]).await?;
                return Ok(None);
            }
        }
        let arriving = seen.record.arriving(rotation.authenticated_at);
        let place = Place::of(&rotation.to);
        let mut cmd = redis::cmd("SET");
        cmd.arg(self.keys.session(&place))
            .arg(arriving.bytes())
            .arg("PX")
            .arg(millis(ARRIVING_TTL));
        self.wire.write(&cmd).await?;
        let Some(departed) = self.depart(rotation, seen.record, now).await? else {
            let mut cmd = redis::cmd("DEL");
            cmd.arg(self.keys.session(&place));
            self.wire.write(&cmd).await?;
            return Ok(None);
        };
        // What was touched or noted since the first look has moved as well.
        let arrived = departed.arrived(rotation.authenticated_at);
        if !self.arrive(&rotation.to, &arrived, now).await? {
            return Ok(None);
        }
        self.reindex(rotation, &arrived).await?;
        try_join(self.tell(&[told]), self.shorten(rotation, now)).await?;
        let session = arrived.session();
        session
            .map(Some)
            .ok_or_else(|| failure("a session of another form"))
    }

    /// Leaves at the old place where the session has gone. Gives the session as it was at that moment, or nothing if it was not there.
    async fn depart(&self, rotation: &Rotation, seen: Record, now: Timestamp) -> RedisResult<Option<Record>> {
        let place = Place::of(&rotation.from);
        let id = seen.id();
        let works_until = u64::try_from(rotation.grace_until.as_millis()).unwrap_or(0);
        let note = [
            b"m".as_slice(),
            &id.to_bytes(),
            &seen.user().to_bytes(),
            &works_until.to_be_bytes(),
            rotation.to.as_bytes(),
        ]
        .concat();
        // Until the index has the new place, it leads there by the old one.
        let expires_at = seen.live().map_or(now, |live| live.expires_at());
        let mut cmd = scripts::DEPART.on(&[
            self.keys.session(&place),
            self.keys.living(place.shard),
            self.keys.everyones_mark(place.shard),
        ]);
        cmd.arg(&id.to_bytes()[..])
            .arg(note)
            .arg(keep_millis(expires_at, now))
            .arg(place.member);
        let reply = self.wire.write(&cmd).await?;
        // The same request has been carried out before.
        if reply == Value::Int(1) {
            return Ok(Some(seen));
        }
        let Value::BulkString(record) = reply else {
            return Ok(None);
        };
        Record::from_stored(record)
            .map(Some)
            .ok_or_else(|| failure("a record that this version does not know"))
    }

    async fn arrive(&self, to: &TokenDigest, arrived: &Record, now: Timestamp) -> RedisResult<bool> {
        let Some(live) = arrived.live() else {
            return Err(failure("a session of another form"));
        };
        let place = Place::of(to);
        let mut cmd = scripts::ARRIVE.on(&[
            self.keys.session(&place),
            self.keys.living(place.shard),
            self.keys.everyones_mark(place.shard),
        ]);
        cmd.arg(arrived.bytes())
            .arg(keep_millis(live.valid_until(), now))
            .arg(live.valid_until().as_millis())
            .arg(place.member);
        Ok(redis::from_redis_value::<i64>(self.wire.write(&cmd).await?)? == 1)
    }

    async fn reindex(&self, rotation: &Rotation, arrived: &Record) -> RedisResult<()> {
        let member = |digest| {
            let id = arrived.id();
            Member { id, digest }.to_bytes()
        };
        let mut cmd = scripts::MOVE.on(&[self.keys.index(arrived.user())]);
        cmd.arg(&member(rotation.from)[..]).arg(&member(rotation.to)[..]);
        self.wire.write(&cmd).await.map(drop)
    }

    /// Keeps the note at the old place no longer than the old token works, and a minute for those who look for it in vain.
    async fn shorten(&self, rotation: &Rotation, now: Timestamp) -> RedisResult<()> {
        let mut cmd = redis::cmd("PEXPIRE");
        cmd.arg(self.keys.session(&Place::of(&rotation.from)))
            .arg(millis(rotation.grace_until.since(now) + ARRIVING_TTL));
        self.wire.write(&cmd).await.map(drop)
    }
}
