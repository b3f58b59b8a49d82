//! `UserIdForSession`, answered where it arrives: no task, no box and no copy that the transport does not need.
//!
//! This serves one case only: the whole request has arrived, and it is plain. If the store has the answer at hand, that is all; if it
//! has to be waited for, the call takes a box and a task, and goes on with the digest that it has.

use super::{codec, message_body::MessageBody};
use crate::{
    auth::{Auth, AuthError, Check, Checked, PendingCheck},
    contract::{GRPC_TIMEOUT, USER_ID_FOR_SESSION},
    grpc::{
        ResponseBody,
        call::{self, Panicked},
        status,
    },
};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_TYPE};
use std::{
    convert::Infallible,
    panic::{self, AssertUnwindSafe},
};
use tonic::Status;

/// gRPC's frame around a message: a flag that says whether it is compressed, and its length.
const FRAME_BYTES: usize = 5;

/// Whether the call's deadline has not passed yet. It needs no watch where nothing is waited for.
pub(super) fn may_start(headers: &HeaderMap) -> bool {
    let is_over = |(name, value): (&HeaderName, &HeaderValue)| {
        *name == GRPC_TIMEOUT && value.as_bytes().starts_with(b"0")
    };
    !headers.iter().any(is_over)
}

/// What a request whose body is one frame comes to.
pub(super) enum Attempt {
    /// The store had the answer at hand.
    Ready(Response<ResponseBody>),
    /// The store has to be waited for.
    Pending(PendingCheck),
    /// The generated code has to see it.
    Declined,
}

/// Answers a request whose body is this one frame, as far as that can be done without waiting.
pub(super) fn attempt(auth: &Auth, frame: &[u8], headers: &HeaderMap) -> Attempt {
    let Some(token) = token_in(frame) else {
        return Attempt::Declined;
    };
    match panic::catch_unwind(AssertUnwindSafe(|| auth.check(token))) {
        Ok(Check::Ready(outcome)) => Attempt::Ready(response(outcome, headers)),
        Ok(Check::Pending(check)) => Attempt::Pending(check),
        Err(_) => Attempt::Ready(status::internal(&Panicked).into_http()),
    }
}

/// Waits for the response to a call with these headers.
pub(super) async fn finish(
    check: PendingCheck,
    headers: HeaderMap,
) -> Result<Response<ResponseBody>, Infallible> {
    Ok(response(check.await, &headers))
}

/// Most checks log nothing, so only what does so is put into the call's span.
fn response(outcome: Result<Checked, AuthError>, headers: &HeaderMap) -> Response<ResponseBody> {
    match outcome {
        Ok(checked) => {
            let mut response = Response::new(MessageBody::new(encode(&checked)).into());
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            response
        }
        Err(error @ AuthError::InvalidSession) => Status::from(error).into_http(),
        Err(error) => call::span(headers, USER_ID_FOR_SESSION).in_scope(|| Status::from(error).into_http()),
    }
}

/// The token of a framed `UserIdForSessionRequest` that holds nothing else.
fn token_in(frame: &[u8]) -> Option<&[u8]> {
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
        assert_eq!(token_in(&good), Some(&b"ses_x"[..]));
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
