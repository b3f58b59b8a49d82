//! A user: a person's account.

use super::{
    Email, FieldViolation, Timestamp, UserId,
    session::{has_control, is_name},
};

/// A person's account, without the password hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// UUID version 7.
    pub id: UserId,
    /// Where they get mail; unique among users by its [`EmailKey`](super::EmailKey).
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn roles_are_sorted_and_checked() {
        let roles = Roles::new(vec!["b".into(), "a".into(), "b".into()]).unwrap();
        assert_eq!(roles.as_slice(), ["a", "b"]);
        assert!(Roles::new(vec!["no spaces".into()]).is_err());
        assert!(Roles::new((0..33).map(|n| format!("r{n}")).collect()).is_err());
    }
}
