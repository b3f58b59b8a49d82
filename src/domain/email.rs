//! Email addresses, and the one form in which they are compared.

#[cfg(feature = "server")]
mod canonical;

use std::fmt;

/// An email address as the user typed it, in Unicode NFC.
///
/// `Debug` shows nothing: addresses stay out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Email {
    text: String,
    key: EmailKey,
}

impl Email {
    /// An address as a store kept it.
    #[must_use]
    pub fn from_stored(text: String, key: String) -> Self {
        Self {
            text,
            key: EmailKey(key),
        }
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What tells this address from others.
    #[must_use]
    pub fn key(&self) -> &EmailKey {
        &self.key
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(..)")
    }
}

/// An email in the one form in which addresses are compared, so that two spellings of one address are one account (S-41): the
/// part before the `@` in NFKC and full case folding, the host by UTS 46, in Unicode.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EmailKey(String);

impl EmailKey {
    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EmailKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailKey(..)")
    }
}

#[cfg(feature = "server")]
pub use canonical::EmailLookup;
