//! The body of a response, whichever way it was made.

use super::{fast_path::MessageBody, protocol};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tonic::{Status, body::Body};

/// The body of a response.
#[derive(Default)]
pub struct ResponseBody(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    /// What the generated code makes.
    Generated(Body),
    /// What the fast path makes.
    Message(MessageBody),
}

impl From<Body> for ResponseBody {
    fn from(body: Body) -> Self {
        Self(Kind::Generated(body))
    }
}

impl From<MessageBody> for ResponseBody {
    fn from(body: MessageBody) -> Self {
        Self(Kind::Message(body))
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Generated(body) => Pin::new(body).poll_frame(cx).map_ok(|mut frame| {
                if let Some(trailers) = frame.trailers_mut() {
                    protocol::complete(trailers);
                }
                frame
            }),
            Kind::Message(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Generated(body) => body.is_end_stream(),
            Kind::Message(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Generated(body) => body.size_hint(),
            Kind::Message(body) => body.size_hint(),
        }
    }
}
