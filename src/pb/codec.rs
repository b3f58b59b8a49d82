//! How messages are read and written: as prost does, but a session token may be any bytes.
//!
//! A field of text must be UTF-8, so prost refuses a whole message for a token that is not. But tokens come from outside, through
//! callers that do not look at them: one that is no text is one that proves no session, and it must not fail the call for the other
//! tokens of a batch.

use super::{
    BatchUserIdForSessionRequest, ChangePasswordRequest, CreateSessionRequest, CurrentUserRequest,
    DestroySessionRequest, ListSessionsRequest, RotateSessionRequest, StreamUserIdForSessionRequest,
    UserIdForSessionRequest,
};
use prost::{
    DecodeError, Message,
    bytes::Buf as _,
    encoding::{WireType, decode_key, decode_varint},
};
use std::{any::TypeId, marker::PhantomData};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;
use zeroize::Zeroizing;

/// The codec of the generated services and clients.
pub struct MessageCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for MessageCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Codec for MessageCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = MessageDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        MessageDecoder(PhantomData)
    }
}

/// The decoder of [`MessageCodec`].
pub struct MessageDecoder<U>(PhantomData<U>);

impl<U: Message + Default + 'static> Decoder for MessageDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let message = decode(buffer.chunk()).map_err(|error| Status::internal(error.to_string()))?;
        buffer.advance(buffer.remaining());
        Ok(Some(message))
    }
}

/// Decodes a message, in which session tokens may be any bytes. One that is not text becomes one that proves nothing.
///
/// # Errors
/// If it is no message of this type.
pub(crate) fn decode<U: Message + Default + 'static>(message: &[u8]) -> Result<U, DecodeError> {
    U::decode(message).or_else(|error| {
        let mended = with_text_for_tokens(message, token_fields::<U>());
        mended.map_or(Err(error), |mended| U::decode(mended.as_slice()))
    })
}

/// The fields of a request that hold session tokens.
fn token_fields<U: 'static>() -> &'static [u32] {
    let fields: [(TypeId, &[u32]); 9] = [
        (TypeId::of::<CreateSessionRequest>(), &[7]),
        (TypeId::of::<UserIdForSessionRequest>(), &[1]),
        (TypeId::of::<CurrentUserRequest>(), &[1]),
        (TypeId::of::<DestroySessionRequest>(), &[1]),
        (TypeId::of::<ListSessionsRequest>(), &[2]),
        (TypeId::of::<RotateSessionRequest>(), &[1]),
        (TypeId::of::<BatchUserIdForSessionRequest>(), &[1]),
        (TypeId::of::<StreamUserIdForSessionRequest>(), &[1]),
        (TypeId::of::<ChangePasswordRequest>(), &[1]),
    ];
    let of_request = fields
        .into_iter()
        .find(|(request, _)| *request == TypeId::of::<U>());
    of_request.map_or(&[], |(_, fields)| fields)
}

/// The message with other text of the same length in place of tokens that are none; `None` if that is not what is wrong with it.
fn with_text_for_tokens(message: &[u8], token_fields: &[u32]) -> Option<Zeroizing<Vec<u8>>> {
    // A request that presents a token may hold a password as well.
    let mut mended = Zeroizing::new(message.to_vec());
    let mut is_mended = false;
    let mut rest = message;
    while !rest.is_empty() {
        let (field, wire_type) = decode_key(&mut rest).ok()?;
        let length = match wire_type {
            WireType::Varint => {
                decode_varint(&mut rest).ok()?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut rest).ok()?).ok()?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let begin = message.len() - rest.len();
        let (value, after) = rest.split_at_checked(length)?;
        if wire_type == WireType::LengthDelimited
            && token_fields.contains(&field)
            && std::str::from_utf8(value).is_err()
        {
            mended[begin..][..length].fill(b'?');
            is_mended = true;
        }
        rest = after;
    }
    is_mended.then_some(mended)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pb;
    use prost_types::FileDescriptorSet;

    /// A message of one field of bytes.
    fn message(field: u8, value: &[u8]) -> Vec<u8> {
        let length = u8::try_from(value.len()).unwrap();
        [&[field << 3 | 2, length], value].concat()
    }

    #[test]
    fn a_token_that_is_no_text_is_one_that_proves_nothing() {
        let tokens = [message(1, b"good"), message(1, b"\xff\xfe"), message(1, b"too")].concat();
        let request: BatchUserIdForSessionRequest = decode(&tokens).unwrap();
        assert_eq!(request.session_tokens, ["good", "??", "too"]);
    }

    #[test]
    fn other_text_must_be_text() {
        assert!(decode::<pb::GetUserRequest>(&message(2, b"\xff")).is_err());
        let email = message(1, &message(1, b"\xff"));
        assert!(decode::<CreateSessionRequest>(&email).is_err());
        let truncated = [&message(1, b"\xff\xfe")[..], &[0x0a, 9]].concat();
        assert!(decode::<UserIdForSessionRequest>(&truncated).is_err());
    }

    #[test]
    fn every_session_token_of_a_request_may_be_any_bytes() {
        fn fields_of(request: &str) -> &'static [u32] {
            match request {
                "CreateSessionRequest" => token_fields::<CreateSessionRequest>(),
                "UserIdForSessionRequest" => token_fields::<UserIdForSessionRequest>(),
                "CurrentUserRequest" => token_fields::<CurrentUserRequest>(),
                "DestroySessionRequest" => token_fields::<DestroySessionRequest>(),
                "ListSessionsRequest" => token_fields::<ListSessionsRequest>(),
                "RotateSessionRequest" => token_fields::<RotateSessionRequest>(),
                "BatchUserIdForSessionRequest" => token_fields::<BatchUserIdForSessionRequest>(),
                "StreamUserIdForSessionRequest" => token_fields::<StreamUserIdForSessionRequest>(),
                "ChangePasswordRequest" => token_fields::<ChangePasswordRequest>(),
                _ => &[],
            }
        }
        let described = FileDescriptorSet::decode(pb::DESCRIPTOR_SET).unwrap();
        let messages = described.file.iter().flat_map(|file| &file.message_type);
        for message in messages.filter(|message| message.name().ends_with("Request")) {
            let tokens = message
                .field
                .iter()
                .filter(|field| field.name().contains("session_token"));
            let numbers: Vec<u32> = tokens.map(|field| field.number().cast_unsigned()).collect();
            assert_eq!(fields_of(message.name()), numbers, "{}", message.name());
        }
    }
}
