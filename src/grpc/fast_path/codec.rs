//! A codec for the messages of the hot calls: byte for byte what prost makes of them, without its allocations.

use crate::{auth::Checked, contract::wire_duration, pb};
use bytes::BufMut;

/// `session_token`, and each of `session_tokens`, as the wire spells it: field 1, length-delimited.
const TOKEN_TAG: u8 = 0x0a;

/// `checks` in a response and `found` in a check: field 1 as well.
const CHECK_TAG: u8 = 0x0a;
const FOUND_TAG: u8 = 0x0a;
/// `failure` in a check: field 2, a number.
const FAILURE_TAG: u8 = 0x10;

/// Lengths and reasons below this take one byte on the wire.
const ONE_BYTE: usize = 128;

const UUID_CHARS: usize = 36;

/// A tag, a length, seconds as long as they can get and nanoseconds as long as they can get.
const INSTANT_BYTES: usize = 2 + (1 + 10) + (1 + 5);

/// A response, at most: two ids, three instants or spans, and a method.
const RESPONSE_BYTES: usize = 2 * (2 + UUID_CHARS) + 3 * INSTANT_BYTES + 2;

/// What one check adds to a response with many, at most.
pub(super) const CHECK_BYTES: usize = 2 * (1 + 2) + RESPONSE_BYTES;

/// The one token of a `UserIdForSessionRequest`; `None` for a message that prost has to look at.
pub(super) fn token_in(message: &[u8]) -> Option<&[u8]> {
    match split_token(message)? {
        (token, []) => Some(token),
        (_, _) => None,
    }
}

/// The tokens of a request with many; `None` for a message that prost has to look at.
pub(super) fn tokens_in(mut message: &[u8]) -> Option<Vec<&[u8]>> {
    // As many as there are if they are tokens.
    let mut tokens = Vec::with_capacity(message.len() / 49 + 1);
    while !message.is_empty() {
        let (token, rest) = split_token(message)?;
        tokens.push(token);
        message = rest;
    }
    Some(tokens)
}

fn split_token(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let &[TOKEN_TAG, length, ref rest @ ..] = message else {
        return None;
    };
    if usize::from(length) >= ONE_BYTE {
        return None;
    }
    rest.split_at_checked(length.into())
}

/// A number is written as a word of this many bytes, of which those behind it are written over by what follows.
const SPARE_BYTES: usize = 8;

/// Numbers of more bits are written byte by byte. Five bytes of seven bits each.
const WORD_BITS: u32 = 35;

/// An encoded `UserIdForSessionResponse`.
pub(super) struct EncodedResponse {
    bytes: [u8; RESPONSE_BYTES + SPARE_BYTES],
    length: usize,
}

impl EncodedResponse {
    pub(super) fn of(checked: &Checked) -> Self {
        let Checked { session, at } = checked;
        let valid_until = session.valid_until();
        let authenticated_at = prost_types::Timestamp::from(session.authenticated_at);
        let valid_for = wire_duration(valid_until.since(*at));
        let valid_until = prost_types::Timestamp::from(valid_until);
        let auth_method = pb::AuthMethod::from(session.auth_method);

        let mut response = Self {
            bytes: [0; RESPONSE_BYTES + SPARE_BYTES],
            length: 0,
        };
        response.put_uuid(1, session.user_id.as_uuid());
        response.put_uuid(2, session.id.as_uuid());
        response.put_instant(3, authenticated_at.seconds, authenticated_at.nanos);
        response.put(&[4 << 3, auth_method as u8]);
        response.put_instant(5, valid_until.seconds, valid_until.nanos);
        response.put_instant(6, valid_for.seconds, valid_for.nanos);
        response
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn put_uuid(&mut self, field: u8, id: &uuid::Uuid) {
        let mut text = [0; UUID_CHARS];
        id.hyphenated().encode_lower(&mut text);
        self.put(&[field << 3 | 2, UUID_CHARS as u8]);
        self.put(&text);
    }

    /// A `Timestamp` or a `Duration`: both have seconds in field 1 and nanoseconds in field 2, and leave out what is zero.
    fn put_instant(&mut self, field: u8, seconds: i64, nanos: i32) {
        self.put(&[field << 3 | 2, 0]);
        let begin = self.length;
        self.put_number(1, seconds);
        self.put_number(2, nanos.into());
        self.bytes[begin - 1] = (self.length - begin) as u8;
    }

    fn put_number(&mut self, field: u8, number: i64) {
        let number = number.cast_unsigned();
        let bits = u64::BITS - number.leading_zeros();
        match bits {
            0 => {}
            // Instants of these decades and whatever is less than a second: the lengths vary, so a branch for each byte would be
            // guessed wrong.
            1..=WORD_BITS => {
                let spread = number & 0x7f
                    | (number & 0x7f << 7) << 1
                    | (number & 0x7f << 14) << 2
                    | (number & 0x7f << 21) << 3
                    | (number & 0x7f << 28) << 4;
                let length = bits.div_ceil(7);
                // All but the last byte say that there are more.
                let more = 0x80_8080_8080 & ((1 << (8 * (length - 1))) - 1);
                let word = u64::from(field << 3) | (spread | more) << 8;
                self.bytes[self.length..][..SPARE_BYTES].copy_from_slice(&word.to_le_bytes());
                self.length += 1 + length as usize;
            }
            _ => {
                self.put(&[field << 3]);
                let mut rest = number;
                while rest >= 0x80 {
                    self.put(&[rest as u8 | 0x80]);
                    rest >>= 7;
                }
                self.put(&[rest as u8]);
            }
        }
    }
}

/// Appends one of the `checks` of a response with many.
pub(super) fn put_check(check: &Result<Checked, pb::ErrorReason>, buffer: &mut impl BufMut) {
    match check {
        Ok(checked) => {
            let response = EncodedResponse::of(checked);
            let response = response.as_bytes();
            match response.len() {
                length if length + 2 < ONE_BYTE => {
                    buffer.put_slice(&[CHECK_TAG, length as u8 + 2, FOUND_TAG, length as u8]);
                }
                length => {
                    let length_bytes = if length < ONE_BYTE { 1 } else { 2 };
                    buffer.put_u8(CHECK_TAG);
                    put_length(1 + length_bytes + length, buffer);
                    buffer.put_u8(FOUND_TAG);
                    put_length(length, buffer);
                }
            }
            buffer.put_slice(response);
        }
        Err(reason) => buffer.put_slice(&[CHECK_TAG, 2, FAILURE_TAG, *reason as u8]),
    }
}

/// The length of a check, which takes one byte or two.
fn put_length(length: usize, buffer: &mut impl BufMut) {
    if length < ONE_BYTE {
        buffer.put_u8(length as u8);
    } else {
        buffer.put_slice(&[length as u8 | 0x80, (length >> 7) as u8]);
    }
}

#[cfg(test)]
pub(in crate::grpc) mod tests {
    use super::*;
    use crate::domain::{AuthMethod, LiveSession, SessionId, SessionSpan, Timestamp, UserId};
    use pb::session_check::Result as Found;
    use proptest::prelude::*;
    use prost::Message as _;

    prop_compose! {
        pub(in crate::grpc) fn checked()(
            created in 0i64..1 << 47,
            since in 0i64..1 << 40,
            lifetime: u32,
            idle: u32,
            by_password: bool,
        ) -> Checked {
            let created_at = Timestamp::from_millis(created);
            Checked {
                session: LiveSession {
                    id: SessionId::new(created_at, [1; 10]),
                    user_id: UserId::new(created_at, [2; 10]),
                    last_seen_at: Timestamp::from_millis(created + since),
                    authenticated_at: Timestamp::from_millis(created + since / 2),
                    auth_method: if by_password { AuthMethod::Password } else { AuthMethod::Caller },
                    span: SessionSpan::from_secs(lifetime, idle),
                grace_ends_at: None,
                },
                at: Timestamp::from_millis(created + since),
            }
        }
    }

    fn any_check() -> impl Strategy<Value = Result<Checked, pb::ErrorReason>> {
        prop_oneof![
            checked().prop_map(Ok),
            Just(Err(pb::ErrorReason::InvalidSession)),
            Just(Err(pb::ErrorReason::StoreUnavailable)),
        ]
    }

    /// Whether the generated code sees this token, or one that proves as little.
    fn is_same(found: &[u8], decoded: &str) -> bool {
        match std::str::from_utf8(found) {
            Ok(token) => token == decoded,
            Err(_) => decoded.bytes().all(|byte| byte == b'?'),
        }
    }

    proptest! {
        #[test]
        fn a_response_is_what_prost_would_encode(checked in checked()) {
            let generated = pb::UserIdForSessionResponse::from(checked).encode_to_vec();
            let encoded = EncodedResponse::of(&checked);
            prop_assert_eq!(encoded.as_bytes(), &generated);
        }

        #[test]
        fn many_checks_are_what_prost_would_encode(checks in proptest::collection::vec(any_check(), 0..8)) {
            let mut encoded = Vec::new();
            for check in &checks {
                put_check(check, &mut encoded);
            }
            let generated = |check| pb::SessionCheck {
                result: Some(match check {
                    Ok(checked) => Found::Found(pb::UserIdForSessionResponse::from(checked)),
                    Err(reason) => Found::Failure(pb::ErrorReason::into(reason)),
                }),
            };
            let checks = checks.into_iter().map(generated).collect();
            prop_assert_eq!(encoded, pb::BatchUserIdForSessionResponse { checks }.encode_to_vec());
        }

        #[test]
        fn tokens_are_found_where_prost_finds_them(
            session_tokens in proptest::collection::vec(".{0,60}", 0..5),
            junk in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let request = pb::BatchUserIdForSessionRequest { session_tokens };
            let message = request.encode_to_vec();
            match request.session_tokens.iter().all(|token| token.len() < ONE_BYTE) {
                true => {
                    let tokens = request.session_tokens.iter().map(String::as_bytes);
                    prop_assert_eq!(tokens_in(&message).unwrap(), tokens.collect::<Vec<_>>());
                }
                false => prop_assert_eq!(tokens_in(&message), None),
            }
            // Whatever else arrives is either left to the generated code or read as it would be.
            if let Some(tokens) = tokens_in(&junk) {
                let decoded: pb::BatchUserIdForSessionRequest = pb::decode(&junk).unwrap();
                prop_assert_eq!(tokens.len(), decoded.session_tokens.len());
                prop_assert!(tokens.iter().zip(&decoded.session_tokens).all(|(found, decoded)| is_same(found, decoded)));
            }
            if let Some(token) = token_in(&junk) {
                let decoded: pb::UserIdForSessionRequest = pb::decode(&junk).unwrap();
                prop_assert!(is_same(token, &decoded.session_token));
            }
        }
    }

    #[test]
    fn the_longest_response_fits() {
        let mut response = EncodedResponse {
            bytes: [0; RESPONSE_BYTES + SPARE_BYTES],
            length: 0,
        };
        for field in [1, 2] {
            response.put_uuid(field, &uuid::Uuid::max());
        }
        for field in [3, 5, 6] {
            response.put_instant(field, i64::MIN, i32::MAX);
        }
        response.put(&[4 << 3, 0]);
        assert_eq!(response.length, RESPONSE_BYTES);
    }

    #[test]
    fn what_is_not_plain_is_left_to_prost() {
        let request = |token: &str| pb::UserIdForSessionRequest {
            session_token: token.to_owned(),
        };
        let good = request("ses_x").encode_to_vec();
        assert_eq!(token_in(&good), Some(&b"ses_x"[..]));
        assert_eq!(tokens_in(&[]), Some(Vec::new()));
        let with_unknown_field = [&good[..], &[0x10, 1]].concat();
        let too_long = request(&"x".repeat(ONE_BYTE)).encode_to_vec();
        for message in [&with_unknown_field[..], &too_long, &good[..good.len() - 1]] {
            assert_eq!(token_in(message), None);
            assert_eq!(tokens_in(message), None);
        }
        assert_eq!(token_in(&[]), None);
        assert_eq!(token_in(&[&good[..], &good].concat()), None);
    }
}
