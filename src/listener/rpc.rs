//! A gRPC connection: HTTP/2 and nothing else, read with h2 itself.
//!
//! hyper would give every request a task of its own. Most of them are checks, whose answer is at hand when they arrive: the
//! connection's task answers those where it reads them, as many as have arrived, and then sends all their answers at once.

use super::{
    HEADER_BYTES, Options,
    activity_stream::ActivityStream,
    body::RequestBody,
    connection::ConnectionState,
    keepalive::Keepalive,
    reply::Reply,
    request::{OpenRequest, Serve},
};
use crate::error_chain::chain;
use bytes::Bytes;
use futures_util::FutureExt as _;
use h2::{
    Reason, RecvStream,
    server::{Builder, Connection, SendResponse},
};
use http::Request;
use std::{
    error::Error as StdError,
    future::poll_fn,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::TcpStream;
use tower::ServiceExt as _;

/// What a stream and a connection may send ahead of being read. A request is far smaller.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes of one answer that wait to be sent.
const SEND_BUFFER_BYTES: usize = 400 * 1024;

/// Requests that are answered before their answers are sent, and before it is another connection's turn. So few that the client
/// works on the first ones while the next are being answered, so many that a write to the socket is shared by enough of them.
const MAX_REQUESTS_PER_TURN: usize = 16;

/// How gRPC connections are spoken to.
#[derive(Debug, Clone)]
pub(super) struct Rpc {
    protocol: Builder,
    keepalive_interval: Duration,
    keepalive_timeout: Duration,
}

impl Rpc {
    pub(super) fn new(options: &Options) -> Self {
        let mut protocol = Builder::new();
        protocol
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(options.streams_per_connection)
            .max_header_list_size(HEADER_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES);
        Self {
            protocol,
            keepalive_interval: options.keepalive_interval,
            keepalive_timeout: options.keepalive_timeout,
        }
    }

    /// Serves a connection to its end. Asked to close, it finishes what is open.
    pub(super) async fn serve<S: Serve>(
        self,
        socket: TcpStream,
        service: S,
        state: Arc<ConnectionState>,
    ) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let socket = ActivityStream::new(socket, Arc::clone(&state));
        let mut connection = self.protocol.handshake(socket).await?;
        let keepalive = connection
            .ping_pong()
            .map(|pings| Keepalive::new(pings, self.keepalive_interval, self.keepalive_timeout));
        let mut served = RpcConnection {
            connection,
            service,
            state,
            keepalive,
            is_closing: false,
            arrived: Vec::new(),
        };
        poll_fn(|cx| served.poll(cx)).await.map_err(Into::into)
    }
}

struct RpcConnection<S> {
    connection: Connection<ActivityStream, Bytes>,
    service: S,
    state: Arc<ConnectionState>,
    /// `None` after the client has left a ping unanswered.
    keepalive: Option<Keepalive>,
    is_closing: bool,
    /// Requests that have been read and not answered.
    arrived: Vec<(Request<RecvStream>, SendResponse<Bytes>)>,
}

impl<S: Serve> RpcConnection<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if !self.is_closing && self.state.must_close(cx) {
            self.is_closing = true;
            self.connection.graceful_shutdown();
        }
        let is_turn_over = loop {
            // This also sends what was answered in the turn before.
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok(request))) => self.arrived.push(request),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => break false,
            }
            if self.arrived.len() >= MAX_REQUESTS_PER_TURN {
                break true;
            }
        };
        if let Some(keepalive) = &mut self.keepalive {
            if self.state.take_bytes_arrived() {
                keepalive.note_activity();
            }
            if keepalive.poll_timed_out(cx).is_ready() {
                self.keepalive = None;
                self.connection.abrupt_shutdown(Reason::NO_ERROR);
                cx.waker().wake_by_ref();
            }
        }
        if !self.arrived.is_empty() {
            self.answer_arrived(cx);
        }
        if is_turn_over {
            cx.waker().wake_by_ref();
        }
        // With the first answer h2 has woken this task, which will send them all when it is polled again.
        Poll::Pending
    }

    fn answer_arrived(&mut self, cx: &mut Context<'_>) {
        self.state.begin_requests(self.arrived.len() as u64);
        let mut ended = 0;
        let mut arrived = std::mem::take(&mut self.arrived);
        for (request, stream) in arrived.drain(..) {
            if self.take(request.map(RequestBody::from), stream, cx).is_ready() {
                ended += 1;
            }
        }
        self.arrived = arrived;
        self.state.end_requests(ended);
    }

    /// Answers a request that is ready at its first poll, and returns ready; a task of its own answers any other.
    fn take(
        &mut self,
        request: Request<RequestBody>,
        stream: SendResponse<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        // A panic must not take the other requests with it: as in a task of its own, only its stream is reset.
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| match self.service.poll_ready(cx) {
            Poll::Ready(_) => {
                let mut reply = Reply::new(self.service.call(request), stream);
                match Pin::new(&mut reply).poll(cx) {
                    // A client that disconnects is no failure of ours.
                    Poll::Ready(Ok(()) | Err(_)) => Poll::Ready(()),
                    Poll::Pending => {
                        self.spawn(reply);
                        Poll::Pending
                    }
                }
            }
            Poll::Pending => {
                let answer = Box::pin(self.service.clone().oneshot(request));
                self.spawn(Reply::new(answer, stream));
                Poll::Pending
            }
        }));
        outcome.unwrap_or(Poll::Ready(()))
    }

    fn spawn<F: Future<Output = Result<(), h2::Error>> + Send + 'static>(&self, reply: F) {
        let open = OpenRequest::begun(&self.state);
        tokio::spawn(reply.map(move |outcome| {
            // A client that disconnects is no failure of ours.
            if let Err(error) = outcome {
                tracing::debug!(cause = %chain(&error), "request failed");
            }
            drop(open);
        }));
    }
}
