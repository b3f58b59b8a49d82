//! The stream of revocations, and for how long what was received on it may be trusted.
//!
//! A heartbeat says until how long after the stream's start everything that was revoked has been sent, and the stream started
//! after our request. So what the cache holds is true at least until our request plus that span, by a clock of ours that nobody
//! sets, and is trusted for the bound beyond that: a network that delays, buffers or stops the stream makes the trust expire by
//! itself.

use super::{cache::Cache, rpc::CallerCredential};
use crate::{
    domain::{Revocation, SessionId},
    jitter,
    pb::{
        self, WatchRevocationsRequest, WatchRevocationsResponse, auth_service_client::AuthServiceClient,
        watch_revocations_response::Event,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, transport::Endpoint};

/// After so long a stream is requested anew: the time since its start is counted by two clocks, and what they drift apart in this
/// time (at 200 ppm: 120 ms) is all that they ever do.
const RENEW_AFTER: Duration = Duration::from_secs(600);
/// How long the connection for a stream may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before a broken stream is requested again: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Follows the stream for one cache.
pub(super) struct RevocationStream {
    cache: Arc<Cache>,
    endpoint: Endpoint,
    credential: CallerCredential,
    /// How old the last sure knowledge may be.
    bound: Duration,
    /// Where the stream stood after the last message; empty before the first.
    cursor: String,
    /// Whether the log says that the stream is being followed.
    is_followed: bool,
}

/// Why a stream is no longer followed.
enum StreamEnd {
    /// It is old. What was received on it holds.
    DueForRenewal,
    /// Nothing can be received on it, because of this.
    Broken(&'static str),
}

impl RevocationStream {
    pub(super) fn new(
        cache: Arc<Cache>,
        endpoint: Endpoint,
        credential: CallerCredential,
        bound: Duration,
    ) -> Self {
        Self {
            cache,
            endpoint,
            credential,
            bound,
            cursor: String::new(),
            is_followed: false,
        }
    }

    /// Follows the stream until the task is stopped.
    pub(super) async fn run(mut self) {
        let (first, longest) = PAUSES;
        let mut pause = first;
        loop {
            match self.follow().await {
                StreamEnd::DueForRenewal => {}
                StreamEnd::Broken(reason) => {
                    self.cache.distrust();
                    if std::mem::take(&mut self.is_followed) {
                        tracing::warn!(
                            reason,
                            "lost the stream of revocations: every check goes to sessiond"
                        );
                        pause = first;
                    } else {
                        tracing::debug!(reason, "no stream of revocations yet");
                    }
                    sleep(jitter::retry_pause(pause)).await;
                    pause = (pause * 2).min(longest);
                }
            }
        }
    }

    /// Requests the stream on a connection of its own, so that a dead one is not used again, and follows it to its end.
    async fn follow(&mut self) -> StreamEnd {
        let Ok(Ok(channel)) = timeout(CONNECT_TIMEOUT, self.endpoint.connect()).await else {
            return StreamEnd::Broken("no connection");
        };
        let mut service = AuthServiceClient::with_interceptor(channel, self.credential.clone());
        let requested_at = self.cache.now();
        let request = WatchRevocationsRequest {
            cursor: self.cursor.clone(),
        };
        let mut stream = match timeout(self.bound, service.watch_revocations(request)).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return StreamEnd::Broken(self.refused(&status)),
            Err(_) => return StreamEnd::Broken("no answer"),
        };
        loop {
            let message = match timeout(self.bound, stream.message()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return StreamEnd::Broken("the stream ended"),
                Ok(Err(status)) => return StreamEnd::Broken(self.refused(&status)),
                Err(_) => return StreamEnd::Broken("silence"),
            };
            if let Some(complete_until) = self.apply(message) {
                let now = self.cache.now();
                // What is revoked after now is unknown, whatever the server's clock says.
                let complete_until = requested_at.after(complete_until).min(now);
                let trusted_until = complete_until.after(self.bound);
                if trusted_until <= now {
                    return StreamEnd::Broken("heartbeats come too late");
                }
                self.cache.trust_until(trusted_until);
                if !std::mem::replace(&mut self.is_followed, true) {
                    tracing::info!("following the stream of revocations");
                }
            }
            self.cache.publish_liveness();
            if self.cache.now().since(requested_at) >= RENEW_AFTER {
                return StreamEnd::DueForRenewal;
            }
        }
    }

    /// Applies a message to the cache. Returns what a heartbeat says, if it can: until how long after the stream's start
    /// everything has been sent.
    fn apply(&mut self, message: WatchRevocationsResponse) -> Option<Duration> {
        let complete_until = match message.event {
            Some(Event::Heartbeat(heartbeat)) => {
                let span = heartbeat.complete_until;
                span.and_then(|span| Duration::try_from(span).ok())
            }
            event => {
                // An event that this version does not know, or cannot read, may concern anyone.
                self.cache
                    .revoke(revocation(event).unwrap_or(Revocation::Everyone));
                None
            }
        };
        self.cursor = message.cursor;
        complete_until
    }

    fn refused(&mut self, status: &Status) -> &'static str {
        if matches!(status.code(), Code::InvalidArgument | Code::OutOfRange) {
            // Without a cursor the stream begins with the word to forget everything.
            self.cursor.clear();
        }
        if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) {
            tracing::error!(code = ?status.code(), "sessiond refuses this program the stream of revocations");
        }
        "the stream was refused or cut"
    }
}

fn revocation(event: Option<Event>) -> Option<Revocation> {
    match event? {
        Event::Session(pb::SessionRevoked { session_id, user_id }) => Some(Revocation::Session {
            session: session_id.parse().ok()?,
            user: user_id.parse().ok()?,
        }),
        Event::User(pb::UserRevoked {
            user_id,
            except_session_id,
        }) => {
            let except: Option<SessionId> = match except_session_id.as_str() {
                "" => None,
                id => Some(id.parse().ok()?),
            };
            Some(Revocation::User {
                user: user_id.parse().ok()?,
                except,
            })
        }
        Event::Everyone(pb::EveryoneRevoked {}) | Event::ForgetEverything(pb::ForgetEverything {}) => {
            Some(Revocation::Everyone)
        }
        Event::Heartbeat(_) => None,
    }
}
