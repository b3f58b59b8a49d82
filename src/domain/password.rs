//! A password as a person typed it, and the string that is kept instead.

use std::fmt;
use zeroize::Zeroizing;

/// A password in clear, as received. No `Clone`, `Display` or `Serialize`.
///
/// Its own buffer is wiped on drop. What the network's libraries buffer is another copy: `docs/security.md` says what becomes of
/// those (S-98).
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes the text over without copying it.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for hashing and for the rules of new passwords.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// A password hash as stored, with its scheme tag. Secret: offline guessing starts from it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// A hash as a store kept it. Whether it is one is found out when it is verified.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text for a store to keep.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}
