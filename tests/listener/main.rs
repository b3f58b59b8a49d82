//! The listener, over real sockets: its limits, how it spreads connections, how it drains.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod clients;
mod drain;
mod limits;
mod spread;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use sessiond::{
    listener::{Listener, Options, Peer, Protocol, Serving},
    shutdown::{self, Trigger},
};
use std::{convert::Infallible, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};
use tokio::sync::{Semaphore, mpsc};

/// Longer than anything here may take on a busy machine; no test waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A served listener. What it serves: `/slow` answers once `gate` lets it; `/detached` answers at once and goes on by itself until
/// `gate` lets it; everything else answers at once with the name of the thread and the peer's address.
struct Server {
    address: SocketAddr,
    gate: Arc<Semaphore>,
    /// A message for each request to `/slow` that has begun, and for each to `/detached` that is through.
    begun: mpsc::UnboundedReceiver<()>,
    trigger: Trigger,
    serving: Serving,
}

impl Server {
    fn start(options: Options) -> Self {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_address();
        let (trigger, shutdown) = shutdown::channel();
        let gate = Arc::new(Semaphore::new(0));
        let (begin, begun) = mpsc::unbounded_channel();
        let gate_of_service = Arc::clone(&gate);
        let make_service = move || {
            let gate = Arc::clone(&gate_of_service);
            let begin = begin.clone();
            tower::service_fn(move |request| answer(request, Arc::clone(&gate), begin.clone()))
        };
        let serving = listener.serve(options, shutdown, make_service).unwrap();
        Self {
            address,
            gate,
            begun,
            trigger,
            serving,
        }
    }

    /// Waits until another request to `/slow` has begun.
    async fn request_begun(&mut self) {
        in_time(self.begun.recv()).await.unwrap();
    }
}

async fn answer(
    request: Request<Incoming>,
    gate: Arc<Semaphore>,
    begin: mpsc::UnboundedSender<()>,
) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/slow" {
        let _ = begin.send(());
        gate.acquire().await.unwrap().forget();
        return Ok(Response::new(Empty::new().boxed_unsync()));
    }
    if request.uri().path() == "/detached" {
        tokio::spawn(async move {
            gate.acquire().await.unwrap().forget();
            let _ = begin.send(());
        });
        return Ok(Response::new(Empty::new().boxed_unsync()));
    }
    let peer = request.extensions().get::<Peer>().unwrap().address;
    let text = format!("{} {peer}", std::thread::current().name().unwrap());
    let frame = Frame::data(Bytes::from(text));
    let body = http_body_util::StreamBody::new(futures_util::stream::iter([Ok(frame)]));
    Ok(Response::new(body.boxed_unsync()))
}

/// Limits that no test reaches by accident.
fn options(protocol: Protocol) -> Options {
    Options {
        workers: NonZeroUsize::new(2).unwrap(),
        header_timeout: PATIENCE * 3,
        drain_timeout: PATIENCE * 3,
        quiet_grace: Duration::from_millis(100),
        ..Options::new(protocol)
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it takes too long")
}
