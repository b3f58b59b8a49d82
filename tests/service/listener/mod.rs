//! The listener, over real sockets: its limits, how it spreads connections, how it drains.

mod clients;
mod drain;
mod limits;
mod raw;
mod requests;
mod spread;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use sessiond::{
    listener::{Listener, Options, Peer, Protocol, RequestBody, Serving},
    shutdown::{self, Trigger},
};
use std::{convert::Infallible, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};
use testkit::waiting::{PATIENCE, in_time};
use tokio::sync::{Semaphore, mpsc};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What `/large` answers with.
const LARGE_CHUNK: &[u8] = &[7; 16 * 1024];
const LARGE_CHUNKS: usize = 64;

/// A served listener. What it serves, beside the paths that [`special`] is for: `/slow` answers once `gate` lets it; `/detached` answers at once and goes on by itself until
/// `gate` lets it; everything else answers at once with the name of the thread and, on the web, the peer's address.
struct Server {
    address: SocketAddr,
    gate: Arc<Semaphore>,
    /// A message for each request to `/slow` that has begun, and for each to `/detached` that is through; [`special`] says what
    /// else.
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
            tower::service_fn(move |request| Box::pin(answer(request, Arc::clone(&gate), begin.clone())))
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
    request: Request<RequestBody>,
    gate: Arc<Semaphore>,
    begin: mpsc::UnboundedSender<()>,
) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/slow" {
        let _ = begin.send(());
        gate.acquire().await.unwrap().forget();
        return Ok(empty());
    }
    if request.uri().path() == "/detached" {
        tokio::spawn(async move {
            gate.acquire().await.unwrap().forget();
            let _ = begin.send(());
        });
        return Ok(empty());
    }
    if request.uri().path() != "/" {
        return Ok(special(request, begin).await);
    }
    let peer = request.extensions().get::<Peer>();
    let peer = peer.map(|peer| peer.address.to_string()).unwrap_or_default();
    let text = format!("{} {peer}", std::thread::current().name().unwrap());
    Ok(streamed(stream::iter([Ok(Frame::data(Bytes::from(text)))])))
}

/// `/echo` sends the body and the trailers back, with a message for each frame that it has read; `/empty` answers with nothing;
/// `/large` answers with many chunks, with a message for each that it makes; `/endless` never answers and `/endless-body` never
/// stops, each with a message when it begins and one when it is dropped; the others are broken in their ways.
async fn special(request: Request<RequestBody>, begin: mpsc::UnboundedSender<()>) -> Response<Body> {
    match request.uri().path() {
        "/echo" => {
            let mut body = request.into_body();
            let mut frames = Vec::new();
            while let Some(frame) = body.frame().await {
                frames.push(Ok(frame.unwrap()));
                let _ = begin.send(());
            }
            streamed(stream::iter(frames))
        }
        "/large" => streamed(stream::iter(0..LARGE_CHUNKS).map(move |_| {
            let _ = begin.send(());
            Ok(Frame::data(Bytes::from_static(LARGE_CHUNK)))
        })),
        "/endless" => {
            let _open = TwoMessages::begin(begin);
            std::future::pending().await
        }
        "/endless-body" => {
            let open = TwoMessages::begin(begin);
            streamed(stream::pending().inspect(move |_| {
                let _ = &open;
            }))
        }
        "/broken" => streamed(stream::iter([Err(std::io::Error::other("broken"))])),
        "/panic" => panic!("a defect"),
        "/hop" => Response::builder()
            .header("connection", "close, x-named")
            .header("x-named", "1")
            .header("keep-alive", "1")
            .header("te", "trailers")
            .header("x-kept", "1")
            .body(Empty::new().map_err(|never| match never {}).boxed_unsync())
            .unwrap(),
        _ => empty(),
    }
}

/// Sends one message now and one when dropped.
struct TwoMessages(mpsc::UnboundedSender<()>);

impl TwoMessages {
    fn begin(messages: mpsc::UnboundedSender<()>) -> Self {
        let _ = messages.send(());
        Self(messages)
    }
}

impl Drop for TwoMessages {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn empty() -> Response<Body> {
    Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync())
}

fn streamed(
    frames: impl Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send + 'static,
) -> Response<Body> {
    Response::new(StreamBody::new(frames).boxed_unsync())
}

/// Limits that no test reaches by accident.
fn options(protocol: Protocol) -> Options {
    Options {
        workers: NonZeroUsize::new(2).unwrap(),
        header_timeout: PATIENCE * 3,
        drain_timeout: PATIENCE * 3,
        linger_timeout: Duration::from_millis(100),
        ..Options::new(protocol)
    }
}
