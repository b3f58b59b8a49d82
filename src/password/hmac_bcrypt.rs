//! Our own scheme: bcrypt over a keyed hash of the password, so that bcrypt's 72 bytes and its NUL cut nothing off.
//!
//! `$sessiond-bcrypt$v=1,k=KEY` and then bcrypt's own `$2b$12$…`, over `base64(HMAC-SHA-384(key, NFC(password)))`: 64 characters.

use super::pepper::{HmacKey, KeyRing};
use crate::domain::PasswordHash;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bcrypt::BcryptError;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha384;
use zeroize::{Zeroize as _, Zeroizing};

const TAG: &str = "$sessiond-bcrypt$v=1,k=";

/// The scheme's name, for people.
pub(super) const NAME: &str = "sessiond-bcrypt";

/// A stored hash of this scheme, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HmacBcryptHash<'a> {
    /// The name of the key.
    pub(super) key_id: &'a str,
    /// bcrypt's own string.
    pub(super) bcrypt: &'a str,
}

impl<'a> HmacBcryptHash<'a> {
    /// `None` if the text is not tagged as one of ours. What follows the tag is not looked into.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let tail = text.strip_prefix(TAG)?;
        let at = tail.find('$').unwrap_or(tail.len());
        let (key_id, bcrypt) = tail.split_at(at);
        Some(Self { key_id, bcrypt })
    }
}

/// The hash of a password in NFC under the current key. Fails if the system has no randomness to give, or the cost is not bcrypt's.
pub(super) fn hash(password: &str, keys: &KeyRing, cost: u32) -> Result<PasswordHash, BcryptError> {
    let (key_id, key) = keys.current();
    let bcrypt = bcrypt::non_truncating_hash(*keyed_hash(password, key), cost)?;
    Ok(PasswordHash::from_stored(format!("{TAG}{key_id}{bcrypt}")))
}

/// Whether a password in NFC is the one that `bcrypt` was made of.
pub(super) fn verify(password: &str, key: &HmacKey, bcrypt: &str) -> bool {
    bcrypt::non_truncating_verify(*keyed_hash(password, key), bcrypt).unwrap_or(false)
}

fn keyed_hash(password: &str, key: &HmacKey) -> Zeroizing<[u8; 64]> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by another implementation of HMAC, Base64 and bcrypt.
    const FOREIGN: &str =
        "$sessiond-bcrypt$v=1,k=0$2b$10$a1t1Oim0etlhVrpfUODSMO3oGxLZN6ezolPcPsmgiUofb88muSz2G";

    fn keys() -> KeyRing {
        KeyRing::new(None)
    }

    fn verifies(password: &str, stored: &str) -> bool {
        let parsed = HmacBcryptHash::parse(stored).unwrap();
        verify(password, keys().get(parsed.key_id).unwrap(), parsed.bcrypt)
    }

    #[test]
    fn s_39_the_scheme_is_what_its_description_says() {
        assert!(verifies("p\u{e4}ssphr\u{e4}se of L\u{e9}on", FOREIGN));
        assert!(!verifies("p\u{e4}ssphr\u{e4}se of L\u{e9}o", FOREIGN));
    }

    #[test]
    fn s_39_every_byte_of_a_long_password_counts() {
        let password = "0123456789".repeat(8);
        let stored = hash(&password, &keys(), 4).unwrap();
        assert!(stored.expose().starts_with("$sessiond-bcrypt$v=1,k=0$2b$04$"));
        assert!(verifies(&password, stored.expose()));
        for at in [0, 70, 71, 72, 79] {
            let mut other = password.clone();
            other.replace_range(at..=at, "x");
            assert!(!verifies(&other, stored.expose()), "byte {at}");
        }
        for other in [&password[..79], &password[..72], &password[..71]] {
            assert!(!verifies(other, stored.expose()), "{} bytes", other.len());
        }
        let emoji = "\u{1f600}".repeat(64);
        let stored = hash(&emoji, &keys(), 4).unwrap();
        assert!(verifies(&emoji, stored.expose()));
        assert!(!verifies(&format!("{}\u{1f601}", &emoji[..252]), stored.expose()));
    }

    #[test]
    fn two_hashes_of_one_password_differ() {
        let hashes = [(); 2].map(|()| hash("a password", &keys(), 4).unwrap());
        assert_ne!(hashes[0], hashes[1]);
    }
}
