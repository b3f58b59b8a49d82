//! What is wrong with one field of a request.

use std::fmt;

/// One field that breaks a rule. Shown to callers, so it never quotes the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field's path in the request, as the contract spells it: `client.user_agent`.
    pub field: String,
    /// What the field must be, for the person who reads the error.
    pub description: String,
}

impl FieldViolation {
    /// A violation of `field`, described by the rule that it breaks.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            description: description.into(),
        }
    }
}

impl fmt::Display for FieldViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.description)
    }
}
