//! `UserIdForSession`, answered where it arrives: no task, no box and no copy that the transport does not need.
//!
//! This serves one case only: the whole request has arrived, and it is plain. If the store has the answer at
//! hand, that is all; if it has to be waited for, the answer takes a box and a task. Everything else, from a slow body to a field
//! that this version does not know, goes to the generated code. What all three answer is the same to the byte; a test of the
//! service holds them together.

use super::codec;
use crate::{
    auth::{Auth, AuthError, Checked},
    contract::{GRPC_TIMEOUT, USER_ID_FOR_SESSION},
    grpc::{call::Panicked, status},
};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    convert::Infallible,
    future::Future,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    task::{Context, Poll},
};
use tonic::{Status, body::Body};

/// gRPC's frame around a message: a flag that says whether it is compressed, and its length.
const FRAME_BYTES: usize = 5;

/// The body of a response: what the generated code makes, or one message that is already encoded.
pub struct ResponseBody(Kind);

enum Kind {
    Generated(Body),
    Message(Bytes),
    /// The message has been sent; what is left is to say that all went well.
    Trailers,
    Nothing,
}

impl Default for ResponseBody {
    fn default() -> Self {
        Self(Kind::Nothing)
    }
}

impl From<Body> for ResponseBody {
    fn from(body: Body) -> Self {
        Self(Kind::Generated(body))
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Kind::Generated(body) = &mut self.0 {
            return Pin::new(body).poll_frame(cx);
        }
        match std::mem::replace(&mut self.0, Kind::Nothing) {
            Kind::Message(message) => {
                self.0 = Kind::Trailers;
                Poll::Ready(Some(Ok(Frame::data(message))))
            }
            Kind::Trailers => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Kind::Nothing | Kind::Generated(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Generated(body) => body.is_end_stream(),
            Kind::Message(_) | Kind::Trailers => false,
            Kind::Nothing => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Generated(body) => body.size_hint(),
            Kind::Message(message) => SizeHint::with_exact(message.len() as u64),
            Kind::Trailers | Kind::Nothing => SizeHint::with_exact(0),
        }
    }
}

/// Whether this may be the hot call in its plain form. Its body decides the rest.
pub(in crate::grpc) fn is_candidate<B>(request: &Request<B>) -> bool {
    // A deadline needs no watch where nothing is waited for, but one that has passed must not be missed.
    let is_over = |(name, value): (&HeaderName, &HeaderValue)| {
        *name == GRPC_TIMEOUT && value.as_bytes().starts_with(b"0")
    };
    request.uri().path() == USER_ID_FOR_SESSION
        && has_plain_messages(request)
        && !request.headers().iter().any(is_over)
}

/// Whether the messages of this call are neither compressed nor something else than protobuf.
pub(in crate::grpc) fn has_plain_messages<B>(request: &Request<B>) -> bool {
    let is_plain =
        |value: &HeaderValue| matches!(value.as_bytes(), b"application/grpc" | b"application/grpc+proto");
    // There are few, so looking at all of them is less work than looking two of them up.
    let mut content_type = None;
    for (name, value) in request.headers() {
        if name == CONTENT_TYPE {
            content_type = content_type.or(Some(value));
        } else if name == "grpc-encoding" {
            return false;
        }
    }
    request.method() == Method::POST && content_type.is_some_and(is_plain)
}

/// What a request whose body is one frame comes to.
pub(in crate::grpc) enum Attempt<C> {
    /// The store had the answer at hand.
    Ready(Response<ResponseBody>),
    /// The store has to be asked.
    Pending(C),
    /// The generated code has to see it.
    Declined,
}

/// Answers a request whose body is this one frame, as far as that can be done without waiting.
pub(in crate::grpc) fn answer(
    auth: &Auth,
    frame: &Bytes,
) -> Attempt<impl Future<Output = Result<Response<ResponseBody>, Infallible>> + Send + 'static> {
    let Some(token) = token_in(frame) else {
        return Attempt::Declined;
    };
    match panic::catch_unwind(AssertUnwindSafe(|| auth.check_at_once(token))) {
        Ok(Some(checked)) => Attempt::Ready(response(checked)),
        Ok(None) => {
            let (auth, frame) = (auth.clone(), frame.clone());
            Attempt::Pending(async move {
                // There is one: it was found above. What is kept is the frame, which is not copied.
                let token = token_in(&frame).unwrap_or_default();
                Ok(response(auth.check(token).await))
            })
        }
        Err(_) => Attempt::Ready(status::internal(&Panicked).into_http()),
    }
}

fn response(checked: Result<Checked, AuthError>) -> Response<ResponseBody> {
    match checked {
        Ok(checked) => {
            let mut response = Response::new(ResponseBody(Kind::Message(encode(&checked))));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            response
        }
        Err(refused) => Status::from(refused).into_http(),
    }
}

/// The token of a framed `UserIdForSessionRequest` that holds nothing else.
fn token_in(frame: &[u8]) -> Option<&str> {
    let (header, message) = frame.split_at_checked(FRAME_BYTES)?;
    let &[flag, a, b, c, d] = header else { return None };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    (flag == 0 && length == message.len())
        .then(|| codec::token_in(message))
        .flatten()
}

/// The framed `UserIdForSessionResponse`.
fn encode(checked: &Checked) -> Bytes {
    let response = codec::EncodedResponse::of(checked);
    let response = response.as_bytes();
    let mut buffer = BytesMut::with_capacity(FRAME_BYTES + response.len());
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(response.len()).unwrap_or(u32::MAX));
    buffer.put_slice(response);
    buffer.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb;
    use proptest::prelude::*;
    use prost::Message as _;

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], &length[..], message].concat()
    }

    proptest! {
        #[test]
        fn a_response_is_what_the_generated_code_would_encode(checked in codec::tests::checked()) {
            let generated = pb::UserIdForSessionResponse::from(checked).encode_to_vec();
            prop_assert_eq!(encode(&checked), framed(&generated));
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_generated_code() {
        let request = pb::UserIdForSessionRequest {
            session_token: "ses_x".into(),
        }
        .encode_to_vec();
        let good = framed(&request);
        assert_eq!(token_in(&good), Some("ses_x"));
        let compressed = [&[1], &good[1..]].concat();
        let with_unknown_field = framed(&[&request[..], &[0x10, 1]].concat());
        let two_messages = [&good[..], &good[..]].concat();
        for frame in [
            &compressed[..],
            &with_unknown_field,
            &two_messages,
            &good[..good.len() - 1],
            &[],
            &[0; 5],
        ] {
            assert_eq!(token_in(frame), None);
        }
    }
}
