//! A user: a person's account.

use super::{
    FieldViolation, Timestamp, UserId,
    session::{has_control, is_name},
};
use std::fmt;

/// A person's account, without the password hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// UUID version 7.
    pub id: UserId,
    /// Where they get mail; unique among users by its [`EmailKey`].
    pub email: Email,
    /// What they are called.
    pub names: Names,
    /// What other services let them do; opaque here.
    pub roles: Roles,
    /// When the user was created.
    pub created_at: Timestamp,
    /// When the user last changed.
    pub updated_at: Timestamp,
    /// Since when they may not log in; `None` if they may.
    pub disabled_at: Option<Timestamp>,
    /// Grows by one with every change; its text is the user's etag.
    pub version: u64,
}

impl User {
    /// The text that changes whenever the user does.
    #[must_use]
    pub fn etag(&self) -> String {
        self.version.to_string()
    }
}

/// An email address as the user wrote it, in Unicode NFC.
///
/// `Debug` shows nothing: addresses stay out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Email {
    text: String,
    key: EmailKey,
}

impl Email {
    /// Accepts `local@domain` of at most 254 bytes (RFC 5321 §4.5.3.1.3) without spaces or control characters. The local part
    /// may be any Unicode (RFC 6531). Whether mail reaches it is not checked.
    ///
    /// # Errors
    /// A violation of `field`.
    #[cfg(feature = "server")]
    pub fn new(field: &str, text: &str) -> Result<Self, FieldViolation> {
        use unicode_normalization::UnicodeNormalization as _;
        let rule = "must be an address of the form local@domain, at most 254 bytes, without spaces";
        // Checked before normalising, which can grow a text several times over.
        let is_short = (3..=254).contains(&text.len());
        let text: String = if is_short {
            text.nfc().collect()
        } else {
            String::new()
        };
        let is_address = match text.rsplit_once('@') {
            Some((local, domain)) => {
                !local.is_empty() && !local.contains('@') && is_domain(domain) && text.len() <= 254
            }
            None => false,
        };
        let is_clean = !text.chars().any(|c| c.is_control() || c.is_whitespace());
        match is_address && is_clean {
            true => Ok(Self {
                key: EmailKey(text.nfkc().flat_map(char::to_lowercase).nfkc().collect()),
                text,
            }),
            false => Err(FieldViolation::new(field, rule)),
        }
    }

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

#[cfg(feature = "server")]
fn is_domain(domain: &str) -> bool {
    let is_label_char = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "-.[]:".contains(c);
    !domain.is_empty()
        && !domain.starts_with('.')
        && !domain.contains("..")
        && domain.chars().all(is_label_char)
}

/// An email folded over case and width (NFKC, lower case), so that two spellings of one address are one account (S-41).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EmailKey(String);

impl EmailKey {
    /// The folded text.
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

/// What a user is called. Either part may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    first: String,
    last: String,
}

impl Names {
    /// At most 100 characters each, without control characters.
    ///
    /// # Errors
    /// One violation (`first_name`, `last_name`) for each that breaks the rule.
    pub fn new(first: String, last: String) -> Result<Self, Vec<FieldViolation>> {
        let breaks_rule = |name: &str| name.chars().count() > 100 || has_control(name);
        let violations: Vec<_> = [("first_name", &first), ("last_name", &last)]
            .into_iter()
            .filter(|(_, name)| breaks_rule(name))
            .map(|(field, _)| {
                FieldViolation::new(field, "must be at most 100 characters without control characters")
            })
            .collect();
        match violations.is_empty() {
            true => Ok(Self { first, last }),
            false => Err(violations),
        }
    }

    /// Names as a store kept them.
    #[must_use]
    pub fn from_stored(first: String, last: String) -> Self {
        Self { first, last }
    }

    /// The first name.
    #[must_use]
    pub fn first(&self) -> &str {
        &self.first
    }

    /// The last name.
    #[must_use]
    pub fn last(&self) -> &str {
        &self.last
    }
}

/// A user's roles: at most 32 distinct names, in alphabetical order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roles(Vec<String>);

impl Roles {
    /// Sorts the names and drops repeated ones.
    ///
    /// # Errors
    /// A violation of `roles`.
    pub fn new(mut names: Vec<String>) -> Result<Self, FieldViolation> {
        names.sort_unstable();
        names.dedup();
        match names.len() <= 32 && names.iter().all(|name| is_name(name)) {
            true => Ok(Self(names)),
            false => Err(FieldViolation::new(
                "roles",
                "must be at most 32 names of 1 to 64 characters out of a-z A-Z 0-9 . _ : / -",
            )),
        }
    }

    /// Roles as a store kept them.
    #[must_use]
    pub fn from_stored(names: Vec<String>) -> Self {
        Self(names)
    }

    /// The names.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

#[cfg(all(test, feature = "server"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(text: &str) -> String {
        Email::new("email", text).unwrap().key().as_str().to_owned()
    }

    #[test]
    fn s_41_two_spellings_of_an_address_are_one_account() {
        assert_eq!(key("Admin@Example.com"), key("admin@example.com"));
        assert_eq!(key("\u{ff41}dmin@example.com"), key("admin@example.com"));
        assert_eq!(key("caf\u{e9}@example.com"), key("cafe\u{301}@example.com"));
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        let long = format!("{}@x.org", "a".repeat(255));
        for text in [
            "",
            "@",
            "a@",
            "@b",
            "a b@c.org",
            "a@b@c",
            "a\0@b.org",
            "a@b\r\n.org",
            "a@.org",
            "a@b c",
            &long,
        ] {
            let violation = Email::new("user.email", text).unwrap_err();
            assert_eq!(violation.field, "user.email", "{text:?}");
        }
    }

    #[test]
    fn an_address_stays_as_it_was_written() {
        assert_eq!(
            Email::new("email", "O'Hara+x@Example.ORG").unwrap().as_str(),
            "O'Hara+x@Example.ORG"
        );
    }

    #[test]
    fn roles_are_sorted_and_checked() {
        let roles = Roles::new(vec!["b".into(), "a".into(), "b".into()]).unwrap();
        assert_eq!(roles.as_slice(), ["a", "b"]);
        assert!(Roles::new(vec!["no spaces".into()]).is_err());
        assert!(Roles::new((0..33).map(|n| format!("r{n}")).collect()).is_err());
    }
}
