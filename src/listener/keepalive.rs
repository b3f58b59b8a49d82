//! Pings an HTTP/2 client that has been silent.

use h2::{Ping, PingPong};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

pub(super) struct Keepalive {
    pings: PingPong,
    interval: Duration,
    timeout: Duration,
    active_at: Instant,
    is_ping_pending: bool,
    /// When the next ping is due; after the ping, when its answer is.
    alarm: Pin<Box<Sleep>>,
}

impl Keepalive {
    pub(super) fn new(pings: PingPong, interval: Duration, timeout: Duration) -> Self {
        Self {
            pings,
            interval,
            timeout,
            active_at: Instant::now(),
            is_ping_pending: false,
            alarm: Box::pin(sleep(interval)),
        }
    }

    /// Bytes have arrived.
    pub(super) fn note_activity(&mut self) {
        self.active_at = Instant::now();
    }

    /// Pings when it is time; ready when an answer is overdue. Must be polled after the connection, which reads the answers, and
    /// wakes the same task.
    pub(super) fn poll_timed_out(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_ping_pending && matches!(self.pings.poll_pong(cx), Poll::Ready(Ok(_))) {
            self.is_ping_pending = false;
            self.alarm.as_mut().reset(self.active_at + self.interval);
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            if self.is_ping_pending {
                return Poll::Ready(());
            }
            let due_at = self.active_at + self.interval;
            let now = Instant::now();
            if now < due_at {
                self.alarm.as_mut().reset(due_at);
            } else {
                // It fails only if the connection is closing, which needs no answer.
                self.is_ping_pending = self.pings.send_ping(Ping::opaque()).is_ok();
                self.alarm.as_mut().reset(now + self.timeout);
            }
        }
    }
}
