//! Our own scheme: bcrypt over a keyed hash of the password, so that bcrypt's 72 bytes and its NUL cut nothing off.
//!
//! `$sessiond-bcrypt$v=1,k=KEY` and then bcrypt's own `$2b$12$…`, over `base64(HMAC-SHA-384(key, NFC(password)))`: 64 characters.

use super::pepper::{Key, KeyRing};
use crate::domain::PasswordHash;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha384;
use zeroize::{Zeroize as _, Zeroizing};

const TAG: &str = "$sessiond-bcrypt$v=1,k=";

/// A stored hash of this scheme, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sealed<'a> {
    /// The name of the key.
    pub(super) key_id: &'a str,
    /// bcrypt's own string.
    pub(super) bcrypt: &'a str,
}

impl<'a> Sealed<'a> {
    /// `None` if the text is not tagged as one of ours. What follows the tag is not looked into.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let tail = text.strip_prefix(TAG)?;
        let at = tail.find('$').unwrap_or(tail.len());
        let (key_id, bcrypt) = tail.split_at(at);
        Some(Self { key_id, bcrypt })
    }
}

/// The hash of a password in NFC under the current key; `None` if the system has no randomness to give, or the cost is not bcrypt's.
pub(super) fn hash(password: &str, keys: &KeyRing, cost: u32) -> Option<PasswordHash> {
    let (key_id, key) = keys.current();
    let bcrypt = bcrypt::non_truncating_hash(*keyed_hash(password, key), cost).ok()?;
    Some(PasswordHash::from_stored(format!("{TAG}{key_id}{bcrypt}")))
}

/// Whether a password in NFC is the one that `bcrypt` was made of.
pub(super) fn is_right(password: &str, key: &Key, bcrypt: &str) -> bool {
    bcrypt::non_truncating_verify(*keyed_hash(password, key), bcrypt).unwrap_or(false)
}

fn keyed_hash(password: &str, key: &Key) -> Zeroizing<[u8; 64]> {
    let mut mac = Hmac::<Sha384>::new(key.as_bytes().into());
    mac.update(password.as_bytes());
    let mut digest = mac.finalize().into_bytes();
    let mut text = Zeroizing::new([0; 64]);
    // 48 bytes are exactly 64 characters.
    let written = STANDARD.encode_slice(digest, text.as_mut_slice());
    debug_assert_eq!(written, Ok(64));
    digest.as_mut_slice().zeroize();
    text
}
