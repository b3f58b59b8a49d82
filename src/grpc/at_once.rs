//! The hot call, answered where it arrives: no task, no box and no copy that the transport does not need.
//!
//! This serves one case only: the whole request has arrived, it is a plain `UserIdForSession`, and the store has the answer at
//! hand. Everything else, from a slow body to a field that this version does not know, goes to the generated code. What both
//! answer is the same to the byte; a test holds them together.

use super::{call::Panicked, convert, status};
use crate::{
    auth::{Auth, AuthError, Checked},
    domain::AuthMethod,
    pb,
};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use http_body::{Body as HttpBody, Frame, SizeHint};
use prost::Message as _;
use std::{
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    task::{Context, Poll},
};
use tonic::{Status, body::Body};

/// The hot call's path.
pub(super) const CHECK: &str = "/auth.v1.AuthService/UserIdForSession";

/// gRPC's frame around a message: a flag that says whether it is compressed, and its length.
const FRAME_BYTES: usize = 5;

/// `session_token` as the wire spells it: field 1, length-delimited.
const TOKEN_TAG: u8 = 0x0a;

const UUID_CHARS: usize = 36;

/// The body of an answer: what the generated code makes, or one message that is already encoded.
pub struct AnswerBody(Kind);

enum Kind {
    Generated(Body),
    Message(Bytes),
    /// The message has been sent; what is left is to say that all went well.
    Trailers,
    Nothing,
}

impl From<Body> for AnswerBody {
    fn from(body: Body) -> Self {
        Self(Kind::Generated(body))
    }
}

impl HttpBody for AnswerBody {
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
pub(super) fn is_candidate<B>(request: &Request<B>) -> bool {
    let is_plain =
        |value: &HeaderValue| matches!(value.as_bytes(), b"application/grpc" | b"application/grpc+proto");
    let headers = request.headers();
    request.uri().path() == CHECK
        && request.method() == Method::POST
        && headers.get(CONTENT_TYPE).is_some_and(is_plain)
        && !headers.contains_key("grpc-encoding")
        // A deadline needs no watch where nothing is waited for, but one that has passed must not be missed.
        && headers.get("grpc-timeout").is_none_or(|timeout| !timeout.as_bytes().starts_with(b"0"))
}

/// The answer to a request whose body is this one frame, or `None`: the generated code has to see it.
pub(super) fn answer(auth: &Auth, frame: &[u8]) -> Option<Response<AnswerBody>> {
    let token = token_in(frame)?;
    let Ok(checked) = panic::catch_unwind(AssertUnwindSafe(|| auth.check_at_once(token))) else {
        return Some(
            status::internal(&Panicked)
                .into_http::<Body>()
                .map(AnswerBody::from),
        );
    };
    Some(match checked? {
        Ok(checked) => {
            let mut response = Response::new(AnswerBody(Kind::Message(encode(&checked))));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            response
        }
        Err(refused) => refusal(refused),
    })
}

fn refusal(refused: AuthError) -> Response<AnswerBody> {
    Status::from(refused).into_http::<Body>().map(AnswerBody::from)
}

/// The token of a framed `UserIdForSessionRequest` that holds nothing else.
fn token_in(frame: &[u8]) -> Option<&str> {
    let (header, message) = frame.split_at_checked(FRAME_BYTES)?;
    let &[flag, a, b, c, d] = header else { return None };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    let &[tag, text_length, ref text @ ..] = message else {
        return None;
    };
    // A length below 128 is one byte on the wire, and every token's is.
    let is_plain = flag == 0
        && length == message.len()
        && tag == TOKEN_TAG
        && text_length < 128
        && usize::from(text_length) == text.len();
    is_plain.then(|| std::str::from_utf8(text).ok()).flatten()
}

/// The framed `UserIdForSessionResponse`, as prost would encode it.
fn encode(checked: &Checked) -> Bytes {
    let Checked { session, at } = checked;
    let valid_until = session.valid_until();
    let authenticated_at = convert::timestamp(session.authenticated_at);
    let valid_for = convert::wire_duration(valid_until.since(*at));
    let valid_until = convert::timestamp(valid_until);
    let auth_method: pb::AuthMethod = match session.auth_method {
        AuthMethod::Password => pb::AuthMethod::Password,
        AuthMethod::Caller => pb::AuthMethod::Caller,
    };

    // Two ids of 38 bytes, two instants and a span of at most 20, a method of two.
    let mut buffer = BytesMut::with_capacity(FRAME_BYTES + 2 * (2 + UUID_CHARS) + 3 * 20 + 2);
    buffer.put_bytes(0, FRAME_BYTES);
    put_uuid(&mut buffer, 1, session.user_id.as_uuid());
    put_uuid(&mut buffer, 2, session.id.as_uuid());
    prost::encoding::message::encode(3, &authenticated_at, &mut buffer);
    buffer.put_slice(&[4 << 3, auth_method as u8]);
    prost::encoding::message::encode(5, &valid_until, &mut buffer);
    prost::encoding::message::encode(6, &valid_for, &mut buffer);
    let length = u32::try_from(buffer.len() - FRAME_BYTES).unwrap_or(u32::MAX);
    buffer[1..FRAME_BYTES].copy_from_slice(&length.to_be_bytes());
    debug_assert_eq!(
        pb::UserIdForSessionResponse::decode(&buffer[FRAME_BYTES..]),
        Ok(pb::UserIdForSessionResponse::from(*checked)),
    );
    buffer.freeze()
}

fn put_uuid(buffer: &mut BytesMut, field: u8, id: &uuid::Uuid) {
    let mut text = [0; UUID_CHARS];
    id.hyphenated().encode_lower(&mut text);
    buffer.put_slice(&[field << 3 | 2, UUID_CHARS as u8]);
    buffer.put_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{LiveSession, SessionId, SessionSpan, Timestamp, UserId};
    use proptest::prelude::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], &length[..], message].concat()
    }

    proptest! {
        #[test]
        fn an_answer_is_what_the_generated_code_would_encode(
            created in 0i64..1 << 47,
            since in 0i64..1 << 40,
            lifetime: u32,
            idle: u32,
            by_password: bool,
        ) {
            let created_at = Timestamp::from_millis(created);
            let session = LiveSession {
                id: SessionId::new(created_at, [1; 10]),
                user_id: UserId::new(created_at, [2; 10]),
                last_seen_at: Timestamp::from_millis(created + since),
                authenticated_at: Timestamp::from_millis(created + since / 2),
                auth_method: if by_password { AuthMethod::Password } else { AuthMethod::Caller },
                span: SessionSpan::from_secs(lifetime, idle),
                grace_ends_at: None,
            };
            let checked = Checked { session, at: Timestamp::from_millis(created + since) };
            let generated = pb::UserIdForSessionResponse::from(checked).encode_to_vec();
            prop_assert_eq!(encode(&checked), framed(&generated));
        }

        #[test]
        fn a_token_is_found_where_prost_finds_it(token in ".{0,60}", junk in proptest::collection::vec(any::<u8>(), 0..80)) {
            let request = pb::UserIdForSessionRequest { session_token: token.clone() };
            let found = framed(&request.encode_to_vec());
            match token.is_empty() || token.len() > 127 {
                true => prop_assert_eq!(token_in(&found), None),
                false => prop_assert_eq!(token_in(&found), Some(token.as_str())),
            }
            // Whatever else arrives is either left to the generated code or read as it would be.
            if let Some(token) = token_in(&junk) {
                let decoded = pb::UserIdForSessionRequest::decode(&junk[FRAME_BYTES..]).unwrap();
                prop_assert_eq!(decoded.session_token, token);
            }
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
