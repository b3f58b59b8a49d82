//! One connection: what its task and its worker's patrol tell each other, and when it has to go.

use super::Options;
use futures_util::task::AtomicWaker;
use hyper_util::server::graceful::GracefulConnection;
use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Context,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// What is known of a connection on both sides: by the task that serves it and by the patrol that watches it.
#[derive(Debug, Default)]
pub(super) struct Presence {
    begun: AtomicU64,
    ended: AtomicU64,
    /// Only there do bytes without a request mean that one is on its way.
    is_http_1: AtomicBool,
    has_unread: AtomicBool,
    is_leaving: AtomicBool,
    waker: AtomicWaker,
}

impl Presence {
    pub(super) fn request_begins(&self, version: http::Version) {
        self.requests_begin(1);
        if version <= http::Version::HTTP_11 {
            self.is_http_1.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn requests_begin(&self, count: u64) {
        self.begun.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn requests_end(&self, count: u64) {
        self.ended.fetch_add(count, Ordering::Relaxed);
        // What has arrived until now was this request.
        self.has_unread.store(false, Ordering::Relaxed);
    }

    pub(super) fn bytes_arrive(&self) {
        self.has_unread.store(true, Ordering::Relaxed);
    }

    /// Whether bytes have arrived since this was last asked.
    pub(super) fn has_heard(&self) -> bool {
        self.has_unread.swap(false, Ordering::Relaxed)
    }

    /// Whether a further request has begun to arrive, given that none is open.
    fn hears_a_header(&self) -> bool {
        self.is_http_1.load(Ordering::Relaxed) && self.has_unread.load(Ordering::Relaxed)
    }

    fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the connection has to go. Wakes the task once it has.
    ///
    /// One flag and one waker for each connection, because a channel shared by all would be locked at every poll.
    pub(super) fn is_told_to_leave(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.is_leaving.load(Ordering::Acquire)
    }

    /// Drives a connection to its end, and asks it to leave when the patrol says so.
    pub(super) async fn attend<C: GracefulConnection>(&self, connection: C) -> Result<(), C::Error> {
        let mut connection = pin!(connection);
        let mut has_been_told = false;
        poll_fn(|cx| {
            if !has_been_told && self.is_told_to_leave(cx) {
                has_been_told = true;
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx)
        })
        .await
    }
}

/// A connection as the patrol sees it.
#[derive(Debug)]
pub(super) struct Watched {
    presence: Arc<Presence>,
    task: JoinHandle<()>,
    opened_at: Instant,
    /// Requests begun when the patrol last looked.
    begun: u64,
    /// When the patrol last saw a request, or the opening.
    quiet_since: Instant,
    /// Since when a further request's header has been arriving.
    header_since: Option<Instant>,
    leaving_since: Option<Instant>,
    age_limit: Option<Duration>,
}

impl Watched {
    pub(super) fn new(presence: Arc<Presence>, task: JoinHandle<()>, age_limit: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            presence,
            task,
            opened_at: now,
            begun: 0,
            quiet_since: now,
            header_since: None,
            leaving_since: None,
            age_limit,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.task.is_finished()
    }

    /// Requests that are being answered.
    pub(super) fn open_requests(&self) -> u64 {
        // In this order: a request that ends in between counts as ended, never as ended without having begun.
        let ended = self.presence.ended.load(Ordering::Relaxed);
        self.presence.begun.load(Ordering::Relaxed).saturating_sub(ended)
    }

    /// Asks the connection to finish what is open and take nothing new.
    pub(super) fn leave(&mut self, now: Instant) {
        if self.leaving_since.is_none() {
            self.leaving_since = Some(now);
            self.presence.leave();
        }
    }

    /// Cuts the connection off.
    pub(super) fn cut(&self) {
        self.task.abort();
    }

    /// Asks the connection to leave, or cuts it off, if it is time.
    pub(super) fn inspect(&mut self, now: Instant, options: &Options, leaving_timeout: Duration) {
        let open = self.open_requests();
        let begun = self.presence.begun.load(Ordering::Relaxed);
        if open > 0 || begun != self.begun {
            self.begun = begun;
            self.quiet_since = now;
            self.header_since = None;
        }
        if open == 0 && self.presence.hears_a_header() {
            self.header_since.get_or_insert(now);
        }
        let quiet_for = now.duration_since(self.quiet_since);
        let age = now.duration_since(self.opened_at);
        match self.leaving_since {
            Some(since) => {
                // Where no answer can be under way, there is only the request to leave that has to get through.
                let grace = match begun == 0 || self.header_since.is_some() {
                    true => options.quiet_grace / 4,
                    false => options.quiet_grace,
                };
                let leaving_for = now.duration_since(since);
                let is_quiet = open == 0 && quiet_for.min(leaving_for) >= grace;
                if is_quiet || leaving_for >= leaving_timeout {
                    self.cut();
                }
            }
            None => {
                let never_asked = begun == 0 && age >= options.header_timeout;
                let is_trickling = self
                    .header_since
                    .is_some_and(|since| now.duration_since(since) >= options.header_timeout);
                let is_idle = quiet_for >= options.idle_timeout;
                let is_old = self.age_limit.is_some_and(|limit| age >= limit);
                if never_asked || is_trickling || is_idle || is_old {
                    self.leave(now);
                }
            }
        }
    }
}
