//! Noting when sessions were last checked: collected for a moment, then written for many at once.

use super::Context;
use crate::{
    domain::{SessionId, Timestamp, TokenDigest},
    error_chain::chain,
    store::redis::{layout::HOUR, protocol::Touched},
};
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

/// How often what was collected is written.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);

/// Sessions to be touched that are remembered while the store is away; the touches of more are lost, which only shortens sessions.
const COLLECTED_SESSIONS: usize = 100_000;

const CONCURRENT_TOUCHES: usize = 256;

/// A session that was checked.
#[derive(Debug, Clone, Copy)]
struct Touch {
    id: SessionId,
    at: Timestamp,
    noted_at: Instant,
}

/// The sessions that were checked since the last writing, by the token that was checked.
#[derive(Default)]
pub(crate) struct Touches(Mutex<HashMap<TokenDigest, Touch>>);

impl Touches {
    pub(crate) fn note(&self, id: SessionId, digest: &TokenDigest, at: Timestamp) {
        let touch = Touch {
            id,
            at,
            noted_at: Instant::now(),
        };
        self.add(*digest, touch);
    }

    fn add(&self, digest: TokenDigest, touch: Touch) {
        let mut collected = self.0.lock();
        let is_full = collected.len() >= COLLECTED_SESSIONS;
        match collected.entry(digest) {
            Entry::Occupied(mut known) if known.get().at < touch.at => drop(known.insert(touch)),
            Entry::Vacant(vacant) if !is_full => drop(vacant.insert(touch)),
            Entry::Occupied(_) | Entry::Vacant(_) => {}
        }
    }

    fn take(&self) -> HashMap<TokenDigest, Touch> {
        std::mem::take(&mut self.0.lock())
    }
}

/// Writes touches, for ever.
pub(crate) async fn write_touches(context: Context, touches: Arc<Touches>) {
    loop {
        tokio::time::sleep(WRITE_INTERVAL).await;
        stream::iter(touches.take())
            .for_each_concurrent(CONCURRENT_TOUCHES, |(digest, touch)| {
                write_touch(&context, &touches, digest, touch)
            })
            .await;
    }
}

async fn write_touch(context: &Context, touches: &Touches, digest: TokenDigest, touch: Touch) {
    match context.db.touch(&digest, touch.id, touch.at).await {
        Ok(Touched::Done) => {}
        Ok(Touched::Moved(to)) => touches.add(to, touch),
        // A touch that comes late revives nothing; one that comes so late would change nothing.
        Err(error) if touch.noted_at.elapsed() < HOUR => {
            tracing::debug!(cause = %chain(&error), "could not note that a session was checked; trying again");
            touches.add(digest, touch);
        }
        Err(_) => {}
    }
}
