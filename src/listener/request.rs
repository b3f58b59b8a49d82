//! The service behind a listener, and a request that hyper has read: it carries its peer's address and counts as open until its
//! answer has been sent.

use super::{Peer, body::RequestBody, connection::ConnectionState};
use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    service::{Service as HyperService, service_fn},
};
use std::{
    error::Error as StdError,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tower::{Service, ServiceExt as _};

/// What can be served: axum's `Router` can. Implemented for every service that fits.
///
/// On a gRPC connection the future of an answer is polled once where the request is read, and moves to a task of its own only if it
/// has to wait; so it must be one that can still be moved (`Box::pin` makes any future so).
pub trait Serve:
    Service<
        Request<RequestBody>,
        Response = Response<Self::Body>,
        Error: Into<Box<dyn StdError + Send + Sync>>,
        Future: Send + Unpin + 'static,
    > + Clone
    + Send
    + 'static
{
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin + 'static;
}

impl<S, B> Serve for S
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    S::Future: Send + Unpin + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin + 'static,
{
    type Body = B;
}

/// The service for one connection that hyper reads.
pub(super) fn counted<S: Serve>(
    service: S,
    peer: Peer,
    state: Arc<ConnectionState>,
) -> impl HyperService<
    Request<Incoming>,
    Response = Response<CountedBody<S::Body>>,
    Error = Box<dyn StdError + Send + Sync>,
    Future: Send + 'static,
> + Send
+ 'static {
    service_fn(move |mut request: Request<Incoming>| {
        let open = OpenRequest::begin(&state, request.version());
        request.extensions_mut().insert(peer);
        let answer = service.clone().oneshot(request.map(RequestBody::from));
        async move {
            let response = answer.await.map_err(Into::into)?;
            Ok(response.map(|body| CountedBody { body, _open: open }))
        }
    })
}

/// Counts a request as open until it is dropped.
#[derive(Debug)]
pub(super) struct OpenRequest(Arc<ConnectionState>);

impl OpenRequest {
    fn begin(state: &Arc<ConnectionState>, version: http::Version) -> Self {
        state.begin_request(version);
        Self::begun(state)
    }

    /// For a request that was counted when it began.
    pub(super) fn begun(state: &Arc<ConnectionState>) -> Self {
        Self(Arc::clone(state))
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.end_requests(1);
    }
}

/// The body of an answer; the request is open as long as it lives.
#[derive(Debug)]
pub(super) struct CountedBody<B> {
    body: B,
    _open: OpenRequest,
}

impl<B: Body + Unpin> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
