//! The body of a response that is one encoded message and succeeds.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};
use tonic::Status;

/// One framed message, then the trailers that say OK.
pub(in crate::grpc) struct MessageBody(Next);

enum Next {
    Message(Bytes),
    Trailers,
    Nothing,
}

impl MessageBody {
    pub(super) fn new(message: Bytes) -> Self {
        Self(Next::Message(message))
    }
}

impl Body for MessageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match std::mem::replace(&mut self.0, Next::Nothing) {
            Next::Message(message) => {
                self.0 = Next::Trailers;
                Poll::Ready(Some(Ok(Frame::data(message))))
            }
            Next::Trailers => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Next::Nothing => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Next::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Next::Message(message) => SizeHint::with_exact(message.len() as u64),
            Next::Trailers | Next::Nothing => SizeHint::with_exact(0),
        }
    }
}
