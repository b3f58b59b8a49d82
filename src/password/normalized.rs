//! What can be a password at all, and the one form in which it is hashed.

use crate::domain::Password;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

/// Code points that a password may have, counted in NFC.
pub(super) const MAX_CHARS: usize = 256;

/// Bytes that a password may have as received: four for each code point.
const MAX_BYTES: usize = 4 * MAX_CHARS;

/// Why a text cannot be a password. The text alone decides it, so a quick answer reveals nothing about an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InvalidPassword {
    /// It is empty.
    Empty,
    /// It exceeds [`MAX_CHARS`] or [`MAX_BYTES`].
    TooLong,
    /// It holds U+0000, at which other systems' bcrypt stops reading.
    HasNul,
}

/// A text that can be a password.
pub(super) struct NormalizedPassword {
    /// As received: the form that other systems have hashed.
    raw: Password,
    normalized: Zeroizing<String>,
}

impl NormalizedPassword {
    /// Looks at the text only: no hash is computed for a text that cannot be a password.
    pub(super) fn new(raw: Password) -> Result<Self, InvalidPassword> {
        let normalized = normalize(raw.expose())?;
        Ok(Self { raw, normalized })
    }

    /// Takes any text. One that cannot be a password gets a hash that no password verifies against.
    pub(super) fn new_unchecked(raw: Password) -> Self {
        let normalized = nfc(raw.expose());
        Self { raw, normalized }
    }

    /// As received.
    pub(super) fn raw(&self) -> &[u8] {
        self.raw.expose().as_bytes()
    }

    /// In NFC: the form that we hash (NIST SP 800-63B-4 §3.1.1.2).
    pub(super) fn normalized(&self) -> &str {
        &self.normalized
    }
}

/// The text in NFC, if it can be a password.
pub(super) fn normalize(text: &str) -> Result<Zeroizing<String>, InvalidPassword> {
    if text.is_empty() {
        return Err(InvalidPassword::Empty);
    }
    // Before anything else reads the text: its length is the sender's choice.
    if text.len() > MAX_BYTES {
        return Err(InvalidPassword::TooLong);
    }
    if text.contains('\0') {
        return Err(InvalidPassword::HasNul);
    }
    let normalized = nfc(text);
    match normalized.chars().count() > MAX_CHARS {
        true => Err(InvalidPassword::TooLong),
        false => Ok(normalized),
    }
}

fn nfc(text: &str) -> Zeroizing<String> {
    // NFC grows a text to three times its bytes at most; a buffer that never moves leaves no copy behind.
    let mut normalized = Zeroizing::new(String::with_capacity(text.len().saturating_mul(3)));
    normalized.extend(text.nfc());
    normalized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_36_the_longest_password_is_256_code_points_of_any_width() {
        for c in ["a", "\u{e9}", "\u{20ac}", "\u{1f600}"] {
            assert!(normalize(&c.repeat(256)).is_ok(), "{c}");
            assert_eq!(normalize(&c.repeat(257)), Err(InvalidPassword::TooLong), "{c}");
        }
        assert_eq!(normalize(&"a".repeat(1 << 20)), Err(InvalidPassword::TooLong));
    }

    #[test]
    fn s_36_code_points_are_counted_in_nfc() {
        assert!(normalize(&"e\u{301}".repeat(256)).is_ok());
        // One code point that NFC takes apart into three.
        assert_eq!(normalize(&"\u{1d160}".repeat(86)), Err(InvalidPassword::TooLong));
    }

    #[test]
    fn s_40_a_text_with_nul_is_no_password() {
        for text in ["\0", "hunter2\0", "\0hunter2", "hunter2\0hunter2"] {
            assert_eq!(normalize(text), Err(InvalidPassword::HasNul), "{text:?}");
        }
        assert_eq!(normalize(""), Err(InvalidPassword::Empty));
    }

    #[test]
    fn the_normalized_text_never_outgrows_its_first_buffer() {
        for text in ["\u{1d160}", "\u{390}", "\u{fb2c}", "\u{ac01}", "\u{344}"] {
            let text = text.repeat(50);
            assert_eq!(nfc(&text).capacity(), text.len() * 3, "{text:?}");
        }
    }
}
