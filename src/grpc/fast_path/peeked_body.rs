//! A request body of which something has been read already.

use bytes::Bytes;
use http_body::{Body, Frame};
use std::{
    pin::Pin,
    task::{Context, Poll},
};

type Read<B> = Option<Result<Frame<Bytes>, <B as Body>::Error>>;

/// What has been read of a body without waiting: at most two frames, because clients send a message either in one frame that
/// ends the body, or in one that is followed by an empty one.
pub(super) struct Peeked<B: Body<Data = Bytes>> {
    first: Read<B>,
    second: Read<B>,
    /// Whether nothing comes after them.
    is_all: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Peeked<B> {
    /// Reads what is there.
    pub(super) fn read(body: &mut B, cx: &mut Context<'_>) -> Self {
        let mut ready = || match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(frame) => (frame, body.is_end_stream()),
            Poll::Pending => (None, false),
        };
        let (first, is_end) = ready();
        let (second, is_all) = match first.is_some() && !is_end {
            true => ready(),
            false => (None, is_end),
        };
        Self {
            first,
            second,
            is_all,
        }
    }

    /// The body's bytes, if they are whole and in one piece.
    pub(super) fn whole(&self) -> Option<&Bytes> {
        let is_empty = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(Bytes::is_empty);
        let is_last = match &self.second {
            None => true,
            Some(Ok(frame)) => is_empty(frame),
            Some(Err(_)) => false,
        };
        match &self.first {
            Some(Ok(frame)) if is_last && self.is_all => frame.data_ref(),
            Some(_) | None => None,
        }
    }

    /// Nothing has been read.
    fn none() -> Self {
        Self {
            first: None,
            second: None,
            is_all: false,
        }
    }

    /// The body as it was before it was read from.
    pub(super) fn before(self, rest: B) -> PeekedBody<B> {
        PeekedBody { peeked: self, rest }
    }
}

/// A body put together again.
pub(in crate::grpc) struct PeekedBody<B: Body<Data = Bytes>> {
    peeked: Peeked<B>,
    rest: B,
}

impl<B: Body<Data = Bytes> + Unpin> PeekedBody<B> {
    /// A body of which nothing has been read.
    pub(super) fn unread(body: B) -> Self {
        Peeked::none().before(body)
    }
}

// Nothing in it is ever pinned: the frames are moved out, and the rest is `Unpin` by itself.
impl<B: Body<Data = Bytes> + Unpin> Unpin for PeekedBody<B> {}

impl<B: Body<Data = Bytes> + Unpin> Body for PeekedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Self { peeked, rest } = self.get_mut();
        match peeked.first.take().or_else(|| peeked.second.take()) {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.peeked.first.is_none() && self.peeked.second.is_none() && self.rest.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker_ref;
    use http_body_util::{BodyExt as _, StreamBody};
    use std::convert::Infallible;

    fn body(frames: &[&'static [u8]]) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let frames: Vec<_> = frames
            .iter()
            .map(|bytes| Ok::<_, Infallible>(Frame::data(Bytes::from_static(bytes))))
            .collect();
        StreamBody::new(futures_util::stream::iter(frames))
    }

    #[tokio::test]
    async fn a_peeked_body_reads_as_if_nobody_had_peeked() {
        let bodies: [&[&[u8]]; 4] = [&[], &[b"a"], &[b"a", b""], &[b"a", b"b", b"c"]];
        for frames in bodies {
            let mut rest = body(frames);
            let peeked = Peeked::read(&mut rest, &mut Context::from_waker(noop_waker_ref()));
            let read = peeked.before(rest).collect().await.unwrap().to_bytes();
            assert_eq!(read, frames.concat());
        }
    }
}
