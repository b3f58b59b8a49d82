//! Checks that are worth writing down, gathered and written together.

use super::{pool::ConnectionPool, server_error::ServerError};
use crate::{
    domain::{LiveSession, SessionId, Timestamp, last_seen_slack},
    error_chain::chain,
};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_postgres::types::ToSql;

/// How long touches are gathered: half of the slack of the shortest idle timeout there is is twice as long.
const GATHERED_FOR: Duration = Duration::from_millis(25);

/// How long to wait after the server could not be asked.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Sessions whose touches are kept in memory. Of more, those that come last are not noted: a session then ends earlier, not later.
const MOST_GATHERED: usize = 262_144;

/// Touches that are written in one statement, which locks as many rows for as long as it takes.
const WRITTEN_AT_ONCE: usize = 2_000;

/// How long a statement may be on its way and still count, if the session's slack allows as much.
const LATE_AFTER: Duration = Duration::from_millis(500);

/// Touches that are not written yet.
#[derive(Default)]
pub(super) struct Touches {
    gathered: Mutex<HashMap<SessionId, Touch>>,
    came: Notify,
}

#[derive(Clone, Copy)]
struct Touch {
    session: LiveSession,
    seen_at: Timestamp,
    /// `seen_at` by the clock of this process.
    noted_at: Instant,
}

impl Touches {
    /// Notes that a session was seen.
    pub(super) fn note(&self, session: &LiveSession, seen_at: Timestamp) {
        let touch = Touch {
            session: *session,
            seen_at,
            noted_at: Instant::now(),
        };
        if self.keep(touch) {
            self.came.notify_one();
        }
    }

    /// Whether the touch is kept; the latest of a session's is.
    fn keep(&self, touch: Touch) -> bool {
        let mut gathered = self.gathered.lock();
        let is_full = gathered.len() >= MOST_GATHERED;
        match gathered.entry(touch.session.id) {
            Entry::Occupied(mut kept) if kept.get().seen_at < touch.seen_at => {
                kept.insert(touch);
            }
            Entry::Vacant(place) if !is_full => {
                place.insert(touch);
            }
            Entry::Occupied(_) | Entry::Vacant(_) => return false,
        }
        true
    }

    /// Writes what is noted, for as long as the store is open.
    pub(super) async fn write_down(self: Arc<Self>, pool: Arc<ConnectionPool>) {
        loop {
            self.came.notified().await;
            sleep(GATHERED_FOR).await;
            let mut touches: Vec<_> = self.gathered.lock().drain().map(|(_, touch)| touch).collect();
            while !touches.is_empty() {
                let now = touches.split_off(touches.len().saturating_sub(WRITTEN_AT_ONCE));
                if let Err(error) = write(&pool, &now).await {
                    tracing::debug!(cause = %chain(&error), "touches were not written");
                    for touch in now.into_iter().chain(touches) {
                        self.keep(touch);
                    }
                    sleep(RETRY_AFTER).await;
                    self.came.notify_one();
                    break;
                }
            }
        }
    }
}

/// Writes touches that are not older than what is written, of sessions that still live.
///
/// A session that has expired was perhaps refused already, and must not come back because a touch was long on its way. So a
/// touch counts only if the session lives on beyond the moment at which the statement runs at the latest: the server's clock
/// is read first, and a statement that it gets later than agreed does nothing.
async fn write(pool: &Arc<ConnectionPool>, touches: &[Touch]) -> Result<(), ServerError> {
    pool.ask(async |connection| {
        let (client, statements) = (&connection.client, &connection.statements);
        let server_millis: i64 = client.query_one(&statements.clock, &[]).await?.try_get(0)?;
        let asked_at = Instant::now();
        let mut ids = Vec::with_capacity(touches.len());
        let [mut seen_at, mut valid_until, mut alive_at, mut late_at] = [(); 4].map(|()| Vec::new());
        for touch in touches {
            let leeway = (last_seen_slack(touch.session.span.idle_timeout()) / 2).min(LATE_AFTER);
            let age = asked_at.saturating_duration_since(touch.noted_at);
            let touched = LiveSession {
                last_seen_at: touch.seen_at,
                // The session goes on without the token that it was found by.
                grace_ends_at: None,
                ..touch.session
            };
            ids.push(touch.session.id.as_uuid());
            seen_at.push(touch.seen_at.as_millis());
            valid_until.push(touched.valid_until().as_millis());
            alive_at.push(touch.seen_at.after(age).after(leeway).as_millis());
            late_at.push(Timestamp::from_millis(server_millis).after(leeway).as_millis());
        }
        let values: [&(dyn ToSql + Sync); 5] = [&ids, &seen_at, &valid_until, &alive_at, &late_at];
        client.execute(&statements.touch, &values).await?;
        Ok(())
    })
    .await
}
