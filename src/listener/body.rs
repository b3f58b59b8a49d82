//! The body of a request, whichever library reads its connection.

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    error::Error as StdError,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// The body of a request, as it arrives.
#[derive(Debug)]
pub struct RequestBody(BodySource);

#[derive(Debug)]
enum BodySource {
    Web(Incoming),
    Rpc(RecvStream),
}

impl From<Incoming> for RequestBody {
    fn from(body: Incoming) -> Self {
        Self(BodySource::Web(body))
    }
}

impl From<RecvStream> for RequestBody {
    fn from(body: RecvStream) -> Self {
        Self(BodySource::Rpc(body))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.0 {
            BodySource::Web(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            BodySource::Rpc(body) => poll_stream(body, cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            BodySource::Web(body) => body.is_end_stream(),
            BodySource::Rpc(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            BodySource::Web(body) => body.size_hint(),
            BodySource::Rpc(_) => SizeHint::default(),
        }
    }
}

fn poll_stream(body: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
    if let Some(data) = ready!(body.poll_data(cx)) {
        return Poll::Ready(until_no_error(data).map(|data| {
            data.map(|data| {
                // What has been taken out makes room for as much. It fails for more than was taken only.
                let _ = body.flow_control().release_capacity(data.len());
                Frame::data(data)
            })
        }));
    }
    let trailers = ready!(body.poll_trailers(cx)).transpose();
    Poll::Ready(trailers.and_then(|trailers| until_no_error(trailers.map(Frame::trailers))))
}

/// A reset without an error says that the rest is not coming because nobody needs it (RFC 9113 §8.1): the body ends there.
fn until_no_error<T>(read: Result<T, h2::Error>) -> Option<Result<T, h2::Error>> {
    match read {
        Err(error) if error.reason() == Some(Reason::NO_ERROR) => None,
        read => Some(read),
    }
}
