//! Noting when sessions were last checked: gathered for a moment, then written for many at once.

use super::{HOUR, MARGIN, Shared, ending::millis, keys::Place, link::failure, scripts};
use crate::domain::{SessionId, Timestamp, TokenDigest};
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use redis::{RedisResult, Value};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

/// How often what was gathered is written.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);

/// Sessions to be touched that are remembered while the store is away; the touches of more are lost, which only shortens sessions.
const GATHERED_SESSIONS: usize = 100_000;

const AT_ONCE: usize = 256;

/// A session that was checked.
#[derive(Debug, Clone, Copy)]
struct Touch {
    id: SessionId,
    at: Timestamp,
    noted_at: Instant,
}

/// The sessions that were checked since the last writing, by the token that was checked.
#[derive(Default)]
pub(super) struct Touches(Mutex<HashMap<TokenDigest, Touch>>);

impl Touches {
    pub(super) fn note(&self, id: SessionId, digest: &TokenDigest, at: Timestamp) {
        let touch = Touch {
            id,
            at,
            noted_at: Instant::now(),
        };
        self.add(*digest, touch);
    }

    fn add(&self, digest: TokenDigest, touch: Touch) {
        let mut gathered = self.0.lock();
        let is_full = gathered.len() >= GATHERED_SESSIONS;
        match gathered.entry(digest) {
            Entry::Occupied(mut known) if known.get().at < touch.at => drop(known.insert(touch)),
            Entry::Vacant(place) if !is_full => drop(place.insert(touch)),
            Entry::Occupied(_) | Entry::Vacant(_) => {}
        }
    }

    fn take(&self) -> HashMap<TokenDigest, Touch> {
        std::mem::take(&mut self.0.lock())
    }
}

/// What became of a touch.
enum Touched {
    /// It is written, or there is nothing to write.
    Done,
    /// The session has another token.
    Moved(TokenDigest),
}

impl Shared {
    /// Writes touches, for ever.
    pub(super) async fn write_touches(self: Arc<Self>) {
        loop {
            tokio::time::sleep(WRITE_INTERVAL).await;
            stream::iter(self.touches.take())
                .for_each_concurrent(AT_ONCE, |(digest, touch)| self.write_touch(digest, touch))
                .await;
        }
    }

    async fn write_touch(&self, digest: TokenDigest, touch: Touch) {
        match self.touch(&digest, &touch).await {
            Ok(Touched::Done) => {}
            Ok(Touched::Moved(to)) => self.touches.add(to, touch),
            // A touch that comes late revives nothing; one that comes so late would change nothing.
            Err(error) if touch.noted_at.elapsed() < HOUR => {
                tracing::debug!(%error, "could not note that a session was checked; trying again");
                self.touches.add(digest, touch);
            }
            Err(_) => {}
        }
    }

    async fn touch(&self, digest: &TokenDigest, touch: &Touch) -> RedisResult<Touched> {
        let place = Place::of(digest);
        let at = u64::try_from(touch.at.as_millis()).unwrap_or(0);
        let mut cmd = scripts::TOUCH.on(&[
            self.keys.session(&place),
            self.keys.living(place.shard),
            self.keys.everyones_mark(place.shard),
        ]);
        cmd.arg(&touch.id.to_bytes()[..])
            .arg(at)
            .arg(&at.to_be_bytes()[..])
            .arg(millis(MARGIN))
            .arg(place.member);
        // Nobody is told that a touch is written, so it waits for no replica.
        let reply = self.wire.read(&cmd).await?;
        let Value::BulkString(to) = reply else {
            return Ok(Touched::Done);
        };
        let to = to.try_into().map_err(|_| failure("a digest of another length"))?;
        Ok(Touched::Moved(TokenDigest::from_bytes(to)))
    }
}
