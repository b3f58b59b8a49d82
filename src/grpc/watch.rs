//! The stream of revocations: the entries of the log, with heartbeats in between.

use crate::{
    contract::{HEARTBEAT_INTERVAL, wire_duration},
    domain::Revocation,
    pb::{self, watch_revocations_response::Event},
    store::{Cursor, RevocationEvent, RevocationLog, Revocations, monotonic_millis},
};
use futures_util::{Stream, StreamExt as _, stream};
use std::{collections::VecDeque, pin::Pin, time::Duration};
use tokio::{
    sync::watch as signal,
    time::{Interval, MissedTickBehavior, interval},
};
use tonic::Status;

/// Entries taken from the log at a time.
const ENTRIES_AT_ONCE: usize = 256;

/// The messages that one subscriber is sent.
pub(super) type Watching = Pin<Box<dyn Stream<Item = Result<pb::WatchRevocationsResponse, Status>> + Send>>;

struct Subscriber {
    log: RevocationLog,
    reader: Revocations,
    started_at: i64,
    heartbeats: Interval,
    unsent: VecDeque<pb::WatchRevocationsResponse>,
}

/// Sends what follows the cursor, until the client goes or the server drains.
pub(super) fn watch(
    log: RevocationLog,
    after: Option<Cursor>,
    mut draining: signal::Receiver<bool>,
) -> Watching {
    let mut heartbeats = interval(HEARTBEAT_INTERVAL);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let subscriber = Subscriber {
        reader: log.read(after),
        started_at: monotonic_millis(),
        heartbeats,
        unsent: VecDeque::new(),
        log,
    };
    let drained = async move {
        // An error means that the server is gone, which ends the stream as well.
        let _ = draining.wait_for(|is_draining| *is_draining).await;
    };
    let messages = stream::unfold(subscriber, |mut subscriber| async move {
        Some((Ok(subscriber.next().await), subscriber))
    });
    Box::pin(messages.take_until(drained))
}

impl Subscriber {
    async fn next(&mut self) -> pb::WatchRevocationsResponse {
        loop {
            if let Some(message) = self.unsent.pop_front() {
                return message;
            }
            tokio::select! {
                biased;
                events = self.reader.next(ENTRIES_AT_ONCE) => self.queue(events),
                _ = self.heartbeats.tick() => self.beat(),
            }
        }
    }

    fn queue(&mut self, events: Vec<(Cursor, RevocationEvent)>) {
        self.unsent.extend(
            events
                .into_iter()
                .map(|(cursor, happened)| message(cursor, event(happened))),
        );
    }

    fn beat(&mut self) {
        // Read before the log: everything until then is sent before the heartbeat.
        let complete_until = self.log.complete_until();
        let events = self.reader.ready(ENTRIES_AT_ONCE);
        let has_more = events.len() == ENTRIES_AT_ONCE;
        self.queue(events);
        if has_more {
            return;
        }
        let complete_until = u64::try_from(complete_until.saturating_sub(self.started_at)).ok();
        let heartbeat = pb::Heartbeat {
            complete_until: complete_until.map(|millis| wire_duration(Duration::from_millis(millis))),
        };
        self.unsent
            .push_back(message(self.reader.cursor(), Event::Heartbeat(heartbeat)));
    }
}

fn message(cursor: Cursor, event: Event) -> pb::WatchRevocationsResponse {
    pb::WatchRevocationsResponse {
        cursor: cursor.to_string(),
        event: Some(event),
    }
}

fn event(happened: RevocationEvent) -> Event {
    match happened {
        RevocationEvent::Forget => Event::ForgetEverything(pb::ForgetEverything {}),
        RevocationEvent::Revoked(Revocation::Everyone) => Event::Everyone(pb::EveryoneRevoked {}),
        RevocationEvent::Revoked(Revocation::User { user, except }) => Event::User(pb::UserRevoked {
            user_id: user.to_string(),
            except_session_id: except.map(|id| id.to_string()).unwrap_or_default(),
        }),
        RevocationEvent::Revoked(Revocation::Session { session, user }) => {
            Event::Session(pb::SessionRevoked {
                session_id: session.to_string(),
                user_id: user.to_string(),
            })
        }
    }
}
