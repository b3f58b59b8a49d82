//! Public identifiers. They name things and prove nothing.

use super::Timestamp;
use std::{fmt, str::FromStr};
use uuid::{Builder, Uuid};

macro_rules! uuid_v7_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh id (RFC 9562 §5.7): `created_at` to the millisecond, then 74 of the given random bits.
            ///
            /// Instants before 1970 or after the year 10889 do not fit and are moved to the nearest that does.
            #[must_use]
            pub fn new(created_at: Timestamp, random: [u8; 10]) -> Self {
                let millis = u64::try_from(created_at.as_millis()).unwrap_or(0).min((1 << 48) - 1);
                Self(Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }

            /// The id whose 16 bytes these are, in network order.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes of the id, in network order.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }

            /// The id as the `uuid` crate's type.
            #[must_use]
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }

            /// The instant that the id was made with.
            #[must_use]
            pub fn created_at(self) -> Timestamp {
                let [a, b, c, d, e, f, ..] = self.to_bytes();
                Timestamp::from_millis(i64::from_be_bytes([0, 0, a, b, c, d, e, f]))
            }
        }

        /// The hyphenated lower-case form.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        /// Accepts the 36-character hyphenated form of a version 7 UUID only, so that an id has one spelling.
        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let id = match text.len() {
                    36 => Uuid::try_parse(text).map_err(|_| InvalidId)?,
                    _ => return Err(InvalidId),
                };
                match id.get_version_num() {
                    7 => Ok(Self(id)),
                    _ => Err(InvalidId),
                }
            }
        }
    };
}

uuid_v7_id!(
    /// Names a user. UUID version 7.
    UserId
);
uuid_v7_id!(
    /// Names a session in lists and logs. UUID version 7, made at the session's creation: its timestamp *is* the session's
    /// `created_at`.
    SessionId
);

uuid_v7_id!(
    /// Names one change of a user that ends the user's sessions, from its recording to its completion. UUID version 7.
    ChangeId
);

/// The text is not a version 7 UUID in its hyphenated form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a UUID (version 7) of 36 characters")]
pub struct InvalidId;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_id_keeps_the_millisecond_of_its_creation() {
        let at = Timestamp::from_millis(1_795_000_000_123);
        assert_eq!(SessionId::new(at, [0xff; 10]).created_at(), at);
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = UserId::new(Timestamp::from_millis(1_795_000_000_123), [7; 10]);
        assert_eq!(id.to_string().parse::<UserId>(), Ok(id));
        for text in [
            "",
            "x",
            &id.to_string().replace('-', ""),
            &format!("{{{id}}}"),
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        ] {
            assert_eq!(text.parse::<UserId>(), Err(InvalidId), "{text}");
        }
    }
}
