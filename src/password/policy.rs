//! The rules for new passwords: long enough, and not what everyone tries first. No rules of composition (S-36, S-37, S-42).

use super::{
    common_passwords,
    normalized::{InvalidPassword, MAX_CHARS, normalize},
};
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
    let rule = match normalize(password.expose()) {
        Err(InvalidPassword::Empty) => "missing".to_owned(),
        Err(InvalidPassword::TooLong) => format!("must be at most {MAX_CHARS} characters"),
        Err(InvalidPassword::HasNul) => "must not contain the character U+0000".to_owned(),
        Ok(text) if text.chars().count() < min_chars => format!("must be at least {min_chars} characters"),
        Ok(text) => match guess(&fold(&text), context) {
            Some(GuessedFrom::Common) => "must not be a common password, nor a repetition of one".to_owned(),
            Some(GuessedFrom::Context) => {
                "must not be made of the user's email or the service's name".to_owned()
            }
            None => return Ok(()),
        },
    };
    Err(FieldViolation::new(field, rule))
}

/// Where a guesser would find a password.
#[derive(Debug, PartialEq, Eq)]
enum GuessedFrom {
    Common,
    Context,
}

/// Looks at the whole of a folded text: whether it is a word that guessers know, once or repeated. A text that merely contains
/// one is fine.
fn guess(text: &str, context: &[&str]) -> Option<GuessedFrom> {
    let context: Vec<_> = context.iter().map(|word| fold(word)).collect();
    if common_passwords::is_keyboard_walk(text)
        || roots(text).any(|root| common_passwords::is_listed(root) || is_trivial(root, text))
    {
        return Some(GuessedFrom::Common);
    }
    roots(text)
        .any(|root| context.iter().any(|word| is_from(root, word)))
        .then_some(GuessedFrom::Context)
}

/// What gives the text when written once or several times, the text itself included.
fn roots(text: &str) -> impl Iterator<Item = &str> {
    (1..=text.len())
        .filter(|len| text.len().is_multiple_of(*len))
        .filter_map(|len| text.get(..len))
        .filter(|root| {
            text.as_bytes()
                .chunks(root.len())
                .all(|chunk| chunk == root.as_bytes())
        })
}

/// Up to three characters over and over. Of ASCII only: guessing does not go through the rest of Unicode.
fn is_trivial(root: &str, text: &str) -> bool {
    root.len() <= 3 && root.len() < text.len() && root.is_ascii()
}

/// Whether the text is the folded `word`, one of its parts, or all of them without what stands between.
fn is_from(text: &str, word: &str) -> bool {
    let is_between = |c: char| !c.is_alphanumeric();
    text == word
        || word.split(is_between).any(|part| part == text)
        || word.chars().filter(|c| !is_between(*c)).eq(text.chars())
}

/// The form in which passwords are compared with words: without regard to case or width.
fn fold(text: &str) -> Zeroizing<String> {
    // NFKC grows a text to eleven times its bytes at most; a buffer that never moves leaves no copy behind.
    let mut folded = Zeroizing::new(String::with_capacity(text.len().saturating_mul(11)));
    folded.extend(text.nfkc().flat_map(char::to_lowercase));
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(text: &str, context: &[&str], min_chars: usize) -> Option<String> {
        let password = Password::new(text.to_owned());
        let checked = check_new("user.password", &password, context, min_chars);
        checked.err().map(|violation| {
            assert_eq!(violation.field, "user.password");
            violation.description
        })
    }

    #[test]
    fn s_36_a_password_is_refused_for_its_length_in_code_points() {
        let short = Some("must be at least 15 characters".to_owned());
        assert_eq!(violation("fourteen chars", &[], 15), short);
        assert_eq!(violation("fifteen chars..", &[], 15), None);
        // Fourteen code points in 56 bytes, and fourteen in NFC.
        assert_eq!(violation("🦊🐌🦉🐝🐢🦎🐍🦕🐙🦑🦐🦞🦀🐡", &[], 15), short);
        assert_eq!(violation("fourteen char\u{e9}", &[], 15), short);
        assert_eq!(violation("fourteen chare\u{301}", &[], 15), short);
        assert_eq!(violation("eightch.", &[], 8), None);

        let long = Some("must be at most 256 characters".to_owned());
        let of = |chars: usize| "fox and owl ".repeat(22).chars().take(chars).collect::<String>();
        assert_eq!(violation(&of(256), &[], 15), None);
        assert_eq!(violation(&of(257), &[], 15), long);
        assert_eq!(violation(&"🦊".repeat(64), &[], 15), None);
        assert_eq!(violation(&"a".repeat(1 << 20), &[], 15), long);
        assert_eq!(violation("", &[], 15), Some("missing".to_owned()));
    }

    #[test]
    fn s_37_any_characters_will_do() {
        let ascii: String = (' '..='~').collect();
        for text in [
            &*ascii,
            "               a",
            "onlylowercaseletters",
            "ONLY UPPER CASE",
            "31415926535897932384",
            "שלום עליכם ומלאכי",
            "a pass\u{200d}phrase\u{1f469}\u{200d}\u{1f680}",
            "tabs\tand\nlines are too",
        ] {
            assert_eq!(violation(text, &[], 15), None, "{text:?}");
        }
    }

    #[test]
    fn s_40_a_new_password_with_nul_is_refused() {
        let rule = Some("must not contain the character U+0000".to_owned());
        assert_eq!(violation("a long pass\0phrase", &[], 15), rule);
    }

    #[test]
    fn s_42_what_everyone_tries_first_is_refused() {
        for text in [
            "passwordpassword",
            "PasswordPassword",
            "PASSWORDPASSWORDPASSWORD",
            "\u{ff50}\u{ff41}\u{ff53}\u{ff53}\u{ff57}\u{ff4f}\u{ff52}\u{ff44}password",
            "qwertyqwertyqwerty",
            "123456123456123456",
            "manchesterunited",
            "1qaz2wsx3edc4rfv",
            "12345678900987654321",
            "qwertyuiopasdfghjkl",
            "abcdefghijklmnop",
            "567890qwertyuiopasdf",
            "aaaaaaaaaaaaaaaa",
            "121212121212121212",
            "               ",
        ] {
            assert_eq!(guess(&fold(text), &[]), Some(GuessedFrom::Common), "{text}");
            assert!(violation(text, &[], 15).is_some(), "{text}");
        }
        for text in ["password", "iloveyou", "12345678", "baseball", "Sunshine"] {
            assert!(violation(text, &[], 8).is_some(), "{text}");
        }
    }

    #[test]
    fn s_42_what_contains_a_common_password_or_is_part_of_one_is_accepted() {
        for text in [
            "manchesteruniteds",
            "anchesteruniteds",
            "my password password",
            "passwordpasswor",
            "correct horse battery staple",
        ] {
            assert_eq!(violation(text, &[], 15), None, "{text}");
        }
    }

    #[test]
    fn s_42_words_of_the_context_are_refused() {
        let context = ["Zebulon.Quartermaine", "Sessiond Portal", ""];
        let rule = Some("must not be made of the user's email or the service's name".to_owned());
        for text in [
            "zebulon.quartermaine",
            "ZebulonQuartermaine",
            "zebulonzebulonzebulon",
            "quartermainequartermaine",
            "sessiondsessiond",
            "SessiondPortal",
        ] {
            assert_eq!(violation(text, &context, 8), rule, "{text}");
        }
        assert_eq!(violation("zebulon rides at dawn", &context, 15), None);
        assert_eq!(violation("zebulon.quartermaine", &[], 15), None);
    }
}
