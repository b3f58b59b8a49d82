//! One connection: the state that its task and its worker's reaper share, and when it must close.

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

/// The state of a connection that its task and the reaper share.
#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    begun: AtomicU64,
    ended: AtomicU64,
    /// In HTTP/1 bytes that arrive while no request is open are the beginning of the next request. In HTTP/2 they may be anything.
    is_http_1: AtomicBool,
    has_unread: AtomicBool,
    is_closing: AtomicBool,
    waker: AtomicWaker,
}

impl ConnectionState {
    pub(super) fn begin_request(&self, version: http::Version) {
        self.begin_requests(1);
        if version <= http::Version::HTTP_11 {
            self.is_http_1.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn begin_requests(&self, count: u64) {
        self.begun.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn end_requests(&self, count: u64) {
        self.ended.fetch_add(count, Ordering::Relaxed);
        // The bytes so far belonged to this request.
        self.has_unread.store(false, Ordering::Relaxed);
    }

    pub(super) fn note_bytes(&self) {
        self.has_unread.store(true, Ordering::Relaxed);
    }

    /// Whether bytes have arrived since this was last asked.
    pub(super) fn take_bytes_arrived(&self) -> bool {
        self.has_unread.swap(false, Ordering::Relaxed)
    }

    /// Whether a further request has begun to arrive, given that none is open.
    fn is_receiving_header(&self) -> bool {
        self.is_http_1.load(Ordering::Relaxed) && self.has_unread.load(Ordering::Relaxed)
    }

    fn start_closing(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the connection has to go. Wakes the task once it has.
    ///
    /// One flag and one waker for each connection, because a channel shared by all would be locked at every poll.
    pub(super) fn must_close(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.is_closing.load(Ordering::Acquire)
    }

    /// Drives a connection to its end, and starts its graceful shutdown when the reaper says so.
    pub(super) async fn drive<C: GracefulConnection>(&self, connection: C) -> Result<(), C::Error> {
        let mut connection = pin!(connection);
        let mut was_asked = false;
        poll_fn(|cx| {
            if !was_asked && self.must_close(cx) {
                was_asked = true;
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx)
        })
        .await
    }
}

/// A connection as the reaper sees it.
#[derive(Debug)]
pub(super) struct ConnectionHandle {
    state: Arc<ConnectionState>,
    task: JoinHandle<()>,
    opened_at: Instant,
    /// Requests begun when the reaper last looked.
    begun: u64,
    /// When the reaper last saw a request, or the opening.
    quiet_since: Instant,
    /// Since when a further request's header has been arriving.
    header_since: Option<Instant>,
    closing_since: Option<Instant>,
    age_limit: Option<Duration>,
}

impl ConnectionHandle {
    pub(super) fn new(
        state: Arc<ConnectionState>,
        task: JoinHandle<()>,
        age_limit: Option<Duration>,
    ) -> Self {
        let now = Instant::now();
        Self {
            state,
            task,
            opened_at: now,
            begun: 0,
            quiet_since: now,
            header_since: None,
            closing_since: None,
            age_limit,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.task.is_finished()
    }

    /// Requests that are being answered.
    pub(super) fn open_requests(&self) -> u64 {
        // In this order: a request that ends in between counts as ended, never as ended without having begun.
        let ended = self.state.ended.load(Ordering::Relaxed);
        self.state.begun.load(Ordering::Relaxed).saturating_sub(ended)
    }

    /// Asks the connection to finish what is open and take nothing new.
    pub(super) fn start_closing(&mut self, now: Instant) {
        if self.closing_since.is_none() {
            self.closing_since = Some(now);
            self.state.start_closing();
        }
    }

    /// Cuts the connection off.
    pub(super) fn cut(&self) {
        self.task.abort();
    }

    /// Asks the connection to close, or cuts it off, if it is time.
    pub(super) fn inspect(&mut self, now: Instant, options: &Options, closing_timeout: Duration) {
        let open = self.open_requests();
        let begun = self.state.begun.load(Ordering::Relaxed);
        if open > 0 || begun != self.begun {
            self.begun = begun;
            self.quiet_since = now;
            self.header_since = None;
        }
        if open == 0 && self.state.is_receiving_header() {
            self.header_since.get_or_insert(now);
        }
        let quiet_for = now.duration_since(self.quiet_since);
        let age = now.duration_since(self.opened_at);
        match self.closing_since {
            Some(since) => {
                // Where no answer can be under way, only the GOAWAY has to get through.
                let grace = match begun == 0 || self.header_since.is_some() {
                    true => options.linger_timeout / 4,
                    false => options.linger_timeout,
                };
                let closing_for = now.duration_since(since);
                let is_quiet = open == 0 && quiet_for.min(closing_for) >= grace;
                if is_quiet || closing_for >= closing_timeout {
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
                    self.start_closing(now);
                }
            }
        }
    }
}
