//! The session token and its digest.
//!
//! The token stands in clear with whoever created the session or checks it, in the messages between them and this process, and for
//! a moment in this process's memory. Stores see the digest.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::block_api::compress256;
use std::fmt;
use zeroize::{Zeroize as _, ZeroizeOnDrop};

const PREFIX: &str = "ses_";
const RANDOM_BYTES: usize = 32;
/// 32 bytes in base64url without padding (RFC 4648 §5).
const ENCODED_BYTES: usize = 43;
const TOKEN_BYTES: usize = PREFIX.len() + ENCODED_BYTES;

/// What SHA-256 starts from (FIPS 180-4 §5.3.3).
const INITIAL_STATE: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The secret that proves a session: `ses_` and 43 characters of base64url over 32 random bytes.
///
/// It has no `Clone`, `Display` or `Serialize`; [`SessionToken::expose`] is the one way to its text. These bytes are wiped on drop;
/// the text in the message that hands it out is another copy, which nothing here wipes (S-98).
#[derive(ZeroizeOnDrop)]
pub struct SessionToken([u8; TOKEN_BYTES]);

impl SessionToken {
    /// How many bytes the text of every token has.
    pub const TEXT_BYTES: usize = TOKEN_BYTES;

    /// The token over these random bytes.
    #[must_use]
    pub fn from_random(mut random: [u8; RANDOM_BYTES]) -> Self {
        let mut token = [0; TOKEN_BYTES];
        let (prefix, encoded) = token.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX.as_bytes());
        // 32 bytes fill 43 characters exactly, so encoding into this slice has no way to fail.
        let _ = URL_SAFE_NO_PAD.encode_slice(random, encoded);
        random.zeroize();
        Self(token)
    }

    /// The text to hand to whoever created the session.
    #[must_use]
    pub fn expose(&self) -> &str {
        // Every byte is ASCII by construction.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The digest that stores know the token by.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(&self.0)
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(..)")
    }
}

/// SHA-256 of a session token's text: the only form of it that is ever stored.
///
/// `Debug` shows nothing: a digest in a log would let whoever reads the log recognise the token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token as presented, or `None` if the text cannot be a session token.
    ///
    /// A look-up compares digests, not tokens, so its time tells a guesser nothing about a token.
    #[must_use]
    pub fn of_presented(text: impl AsRef<[u8]>) -> Option<Self> {
        let token: &[u8; TOKEN_BYTES] = text.as_ref().try_into().ok()?;
        let (prefix, encoded) = token.split_at(PREFIX.len());
        // There is no early exit: without a branch for each byte, the compiler checks many of them at a time.
        let is_encoded = encoded
            .iter()
            .fold(true, |is_encoded, byte| is_encoded & is_base64url(*byte));
        (is_encoded && prefix == PREFIX.as_bytes()).then(|| Self::of(token))
    }

    /// A token and its padding are one block of SHA-256 (FIPS 180-4 §5.1.1), so it takes one step, and none of what a hasher does
    /// for messages that come in pieces: that cost as much as the step itself.
    fn of(token: &[u8; TOKEN_BYTES]) -> Self {
        let mut block = [0; 64];
        block[..TOKEN_BYTES].copy_from_slice(token);
        block[TOKEN_BYTES] = 0x80;
        block[56..].copy_from_slice(&(8 * TOKEN_BYTES as u64).to_be_bytes());
        let mut state = INITIAL_STATE;
        compress256(&mut state, &[block]);
        let mut digest = [0; 32];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        Self(digest)
    }

    /// The digest with these bytes, as a store kept them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes for a store to keep.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn is_base64url(byte: u8) -> bool {
    let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    let is_digit = byte.wrapping_sub(b'0') < 10;
    is_letter | is_digit | (byte == b'-') | (byte == b'_')
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

/// Where tokens and the random part of ids come from.
pub trait TokenSource: Send + Sync + 'static {
    /// A token that nobody else has.
    ///
    /// # Errors
    /// [`NoRandomness`] if the operating system has no random bytes to give.
    fn session_token(&self) -> Result<SessionToken, NoRandomness>;

    /// The random part of a fresh [`UserId`](super::UserId) or [`SessionId`](super::SessionId).
    ///
    /// # Errors
    /// [`NoRandomness`] if the operating system has no random bytes to give.
    fn id_bits(&self) -> Result<[u8; 10], NoRandomness>;
}

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness(#[source] pub(crate) getrandom::Error);

/// Tokens and ids from the operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomTokens;

impl TokenSource for RandomTokens {
    fn session_token(&self) -> Result<SessionToken, NoRandomness> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(NoRandomness)?;
        Ok(SessionToken::from_random(random))
    }

    fn id_bits(&self) -> Result<[u8; 10], NoRandomness> {
        let mut random = [0; 10];
        getrandom::fill(&mut random).map_err(NoRandomness)?;
        Ok(random)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use sha2::{Digest as _, Sha256};

    #[test]
    fn s_01_a_token_has_43_characters_after_its_prefix_and_one_digest() {
        let token = SessionToken::from_random([0xfb; 32]);
        assert_eq!(token.expose().len(), 47);
        assert!(token.expose().starts_with("ses_"));
        assert_eq!(TokenDigest::of_presented(token.expose()), Some(token.digest()));
    }

    #[test]
    fn what_cannot_be_a_token_has_no_digest() {
        let good = SessionToken::from_random([1; 32]);
        let good = good.expose();
        let with_tail = format!("{good}A");
        let with_nul = good.replacen('A', "\0", 1);
        for text in [
            "",
            "ses_",
            &good[4..],
            &good[..46],
            &with_tail,
            &with_nul,
            &good.to_uppercase(),
            &format!(" {good}"),
        ] {
            assert_eq!(TokenDigest::of_presented(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_digest_is_the_sha_256_of_the_text() {
        for byte in 0..=255 {
            let token = SessionToken::from_random([byte; 32]);
            let expected: [u8; 32] = Sha256::digest(token.expose()).into();
            assert_eq!(token.digest().as_bytes(), &expected);
        }
    }

    #[test]
    fn a_token_has_no_other_characters_than_those_of_base64url() {
        let good = SessionToken::from_random([1; 32]);
        for byte in 0..=255 {
            for place in [PREFIX.len(), TOKEN_BYTES - 1] {
                let mut text = good.expose().as_bytes().to_vec();
                text[place] = byte;
                let may_stand_there = byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                assert_eq!(
                    TokenDigest::of_presented(&text).is_some(),
                    may_stand_there,
                    "{byte}"
                );
            }
        }
    }

    #[test]
    fn s_89_debug_shows_neither_token_nor_digest() {
        let token = SessionToken::from_random([1; 32]);
        assert_eq!(
            format!("{token:?} {:?}", token.digest()),
            "SessionToken(..) TokenDigest(..)"
        );
    }
}
