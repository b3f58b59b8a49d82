//! One HTTP/2 request being answered: its answer is waited for, then sent as fast as the client takes it.

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{
    HeaderMap, HeaderName, Response,
    header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE},
};
use http_body::Body;
use std::{
    error::Error as StdError,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Ends when h2 has taken the whole answer, or as soon as the client resets the stream, which drops the call.
pub(super) struct Reply<F, B> {
    stage: Stage<F, B>,
}

enum Stage<F, B> {
    Waiting {
        answer: F,
        stream: SendResponse<Bytes>,
    },
    Sending {
        body: B,
        stream: SendStream<Bytes>,
        /// What the client has no room for yet, and whether it is the last.
        held: Option<(Bytes, bool)>,
    },
}

impl<F, B> Reply<F, B> {
    pub(super) fn new(answer: F, stream: SendResponse<Bytes>) -> Self {
        Self {
            stage: Stage::Waiting { answer, stream },
        }
    }
}

impl<F, B, E> Future for Reply<F, B>
where
    F: Future<Output = Result<Response<B>, E>> + Unpin,
    E: Into<Box<dyn StdError + Send + Sync>>,
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Unpin,
{
    /// An error means that the client or the connection has gone.
    type Output = Result<(), h2::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Stage::Waiting { answer, stream } = &mut self.stage {
            let response = match Pin::new(answer).poll(cx) {
                Poll::Ready(Ok(response)) => response,
                Poll::Ready(Err(failure)) => {
                    stream.send_reset(reason_of(&*failure.into()));
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => return stream.poll_reset(cx).map(|reason| Err(reason?.into())),
            };
            let (mut head, body) = response.into_parts();
            strip_connection_headers(&mut head.headers);
            let is_last = body.is_end_stream();
            let stream = match stream.send_response(Response::from_parts(head, ()), is_last) {
                Ok(stream) => stream,
                Err(error) => {
                    stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Err(error));
                }
            };
            if is_last {
                return Poll::Ready(Ok(()));
            }
            self.stage = Stage::Sending {
                body,
                stream,
                held: None,
            };
        }
        let Stage::Sending { body, stream, held } = &mut self.stage else {
            return Poll::Ready(Ok(()));
        };
        poll_body(body, stream, held, cx)
    }
}

fn poll_body<B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Unpin>(
    body: &mut B,
    stream: &mut SendStream<Bytes>,
    held: &mut Option<(Bytes, bool)>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), h2::Error>> {
    loop {
        if let Some((_, is_last)) = held {
            let is_last = *is_last;
            // h2 would take any number of bytes into its memory, so the client's window is waited for first.
            while stream.capacity() == 0 {
                match ready!(stream.poll_capacity(cx)) {
                    Some(assigned) => assigned?,
                    // The client has reset the stream.
                    None => return Poll::Ready(Ok(())),
                };
            }
            let data = held.take().map(|(data, _)| data);
            stream.send_data(data.unwrap_or_default(), is_last)?;
            if is_last {
                return Poll::Ready(Ok(()));
            }
        }
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Pending => return stream.poll_reset(cx).map(|reason| Err(reason?.into())),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if data.is_empty() => {
                    let is_last = body.is_end_stream();
                    stream.send_data(data, is_last)?;
                    if is_last {
                        return Poll::Ready(Ok(()));
                    }
                }
                Ok(data) => {
                    // The least that can be reserved: what this stream reserves, the connection's other streams cannot use.
                    stream.reserve_capacity(1);
                    *held = Some((data, body.is_end_stream()));
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return Poll::Ready(stream.send_trailers(trailers));
                    }
                }
            },
            Poll::Ready(Some(Err(failure))) => {
                stream.send_reset(reason_of(&*failure.into()));
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(None) => return Poll::Ready(stream.send_data(Bytes::new(), true)),
        }
    }
}

/// The code that resets a stream after a failure: the one that another HTTP/2 peer has sent us, if the failure comes from there.
fn reason_of(failure: &(dyn StdError + 'static)) -> Reason {
    let mut cause = Some(failure);
    while let Some(failure) = cause {
        if let Some(reason) = failure.downcast_ref().and_then(h2::Error::reason) {
            return reason;
        }
        cause = failure.source();
    }
    Reason::INTERNAL_ERROR
}

/// Takes out what is about one HTTP/1 connection (RFC 9113 §8.2.2).
fn strip_connection_headers(headers: &mut HeaderMap) {
    if !headers.keys().any(is_of_connection) {
        return;
    }
    let named = headers.get(CONNECTION).and_then(|value| value.to_str().ok());
    let named: Vec<String> = named
        .into_iter()
        .flat_map(|names| names.split(','))
        .map(|name| name.trim().to_owned())
        .collect();
    let own: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_of_connection(name))
        .cloned()
        .collect();
    for name in own {
        headers.remove(name);
    }
    for name in named {
        headers.remove(name);
    }
}

fn is_of_connection(name: &HeaderName) -> bool {
    [CONNECTION, TRANSFER_ENCODING, UPGRADE, TE].contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}
