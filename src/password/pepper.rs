//! Keys of the keyed hash under bcrypt: a constant, or secrets that the operator keeps apart from the users (S-50).

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use std::fmt;
use zeroize::Zeroizing;

/// The block size of SHA-384. HMAC (RFC 2104 §2) takes a shorter key as if followed by zeros, so that any key of up to this many
/// bytes can be written this long.
const KEY_BYTES: usize = 128;

/// Bytes that a pepper has at least.
const MIN_SECRET_BYTES: usize = 32;

/// The name of the constant key in stored hashes; no pepper may have it.
const CONSTANT_ID: &str = "0";

/// Keeps our hashes from being those of another use of HMAC-SHA-384. Not a secret.
const CONSTANT: &[u8] = b"sessiond password scheme 1";

/// A key of HMAC-SHA-384. Wiped from memory on drop.
pub(super) struct HmacKey(Zeroizing<[u8; KEY_BYTES]>);

impl HmacKey {
    /// The key of at most [`KEY_BYTES`] bytes; more are not looked at.
    fn new(secret: &[u8]) -> Self {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        for (to, from) in key.iter_mut().zip(secret) {
            *to = *from;
        }
        Self(key)
    }

    pub(super) fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

/// Secrets that are hashed with every password: without them, stolen hashes cannot even be guessed at.
///
/// Several may be known, so that one can replace another: users move to the current one when they next log in. A pepper may be
/// removed once no stored hash names it; the users whose hashes still do cannot log in any more. `Debug` shows the names only.
pub struct Peppers {
    keys: Vec<(String, HmacKey)>,
    current: usize,
}

impl Peppers {
    /// Reads the text of a pepper file.
    ///
    /// One line for each pepper: its name (1 to 32 characters out of `A-Z a-z 0-9 . -`, not `0`), its secret in Base64 (32 to 128
    /// bytes, as `head -c 32 /dev/urandom | base64` makes them), and for exactly one of them the word `current`, with spaces
    /// between. Empty lines and lines that begin with `#` are skipped.
    ///
    /// ```text
    /// # name  secret
    /// 2025    3q2+78r+ur7erb7vyv66vt6tvu/K/rq+3q2+78r+ur4=
    /// 2026    yv66vt6tvu/K/rq+3q2+78r+ur7erb7vyv66vt6tvu8= current
    /// ```
    ///
    /// To change the pepper of several processes, first give all of them the new one, then make it current.
    ///
    /// # Errors
    /// The first rule that the text breaks, with the number of the line. Never quotes the text.
    pub fn parse(text: &str) -> Result<Self, InvalidPeppers> {
        let mut keys: Vec<(String, HmacKey)> = Vec::new();
        let mut current = None;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let (Some(id), Some(secret)) = (words.next(), words.next()) else {
                return Err(InvalidPeppers::Line(number));
            };
            if !is_id(id) || id == CONSTANT_ID {
                return Err(InvalidPeppers::Name(number));
            }
            if keys.iter().any(|(known, _)| known == id) {
                return Err(InvalidPeppers::NameTwice(number));
            }
            match (words.next(), words.next()) {
                (None, _) => {}
                (Some("current"), None) if current.is_none() => current = Some(keys.len()),
                (Some("current"), None) => return Err(InvalidPeppers::TwoCurrent(number)),
                (Some(_), _) => return Err(InvalidPeppers::Line(number)),
            }
            let secret = secret_of(secret).ok_or(InvalidPeppers::Secret(number))?;
            keys.push((id.to_owned(), HmacKey::new(&secret)));
        }
        match current {
            Some(current) => Ok(Self { keys, current }),
            None => Err(InvalidPeppers::NoneCurrent),
        }
    }
}

impl fmt::Debug for Peppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.keys.iter().map(|(id, _)| id);
        f.write_str("Peppers ")?;
        f.debug_list().entries(names).finish()
    }
}

/// What is wrong with the text of a pepper file, and in which line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPeppers {
    /// The line does not have two or three words, or the third is not `current`.
    #[error("line {0} must be a name, a secret and, for one of the peppers, the word current")]
    Line(usize),
    /// The name breaks its rule.
    #[error("line {0} must begin with a name of 1 to 32 characters out of A-Z a-z 0-9 . - other than 0")]
    Name(usize),
    /// An earlier line has this name.
    #[error("line {0} has the name of an earlier pepper")]
    NameTwice(usize),
    /// The secret is not Base64, too short or too long.
    #[error("line {0} must have a secret of 32 to 128 bytes in Base64")]
    Secret(usize),
    /// An earlier line is current.
    #[error("line {0} is a second current pepper")]
    TwoCurrent(usize),
    /// No line is current.
    #[error("one pepper must be current")]
    NoneCurrent,
}

fn is_id(text: &str) -> bool {
    let is_id_char = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(is_id_char)
}

fn secret_of(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    // Either way of padding: tools differ.
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    // Decoded into a buffer that never moves, so that no copy is left behind.
    let mut secret = Zeroizing::new(vec![0; text.len()]);
    let len = BASE64.decode_slice(text, &mut secret).ok()?;
    secret.truncate(len);
    (MIN_SECRET_BYTES..=KEY_BYTES).contains(&len).then_some(secret)
}

/// The keys that stored hashes may name, and the one that new hashes get.
pub(super) struct KeyRing {
    constant: HmacKey,
    peppers: Option<Peppers>,
}

impl KeyRing {
    /// Without peppers, the constant is the one key. With them, it still verifies the hashes that were made before.
    pub(super) fn new(peppers: Option<Peppers>) -> Self {
        Self {
            constant: HmacKey::new(CONSTANT),
            peppers,
        }
    }

    /// The key with this name.
    pub(super) fn get(&self, id: &str) -> Option<&HmacKey> {
        if id == CONSTANT_ID {
            return Some(&self.constant);
        }
        let mut keys = self.peppers.iter().flat_map(|peppers| &peppers.keys);
        keys.find(|(known, _)| known == id).map(|(_, key)| key)
    }

    /// The key of new hashes, and its name.
    pub(super) fn current(&self) -> (&str, &HmacKey) {
        let current = self
            .peppers
            .as_ref()
            .and_then(|peppers| peppers.keys.get(peppers.current));
        current.map_or((CONSTANT_ID, &self.constant), |(id, key)| (id, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3q2+78r+ur7erb7vyv66vt6tvu/K/rq+3q2+78r+ur4=";
    const B: &str = "yv66vt6tvu/K/rq+3q2+78r+ur7erb7vyv66vt6tvu8";

    #[test]
    fn s_50_a_pepper_file_names_its_peppers_and_the_current_one() {
        let text = format!("# peppers\r\n\r\n  2025  {A}\r\n2026\t{B} current\n");
        let ring = KeyRing::new(Some(Peppers::parse(&text).unwrap()));
        assert_eq!(ring.current().0, "2026");
        assert_eq!(
            ring.get("2025").unwrap().as_bytes()[..4],
            [0xde, 0xad, 0xbe, 0xef]
        );
        assert_eq!(ring.get("2025").unwrap().as_bytes()[32..], [0; 96]);
        assert!(ring.get("0").is_some());
        assert!(ring.get("2024").is_none());
    }

    #[test]
    fn s_50_a_pepper_file_that_breaks_a_rule_is_refused_without_a_quote() {
        let long = "A".repeat(172 + 4);
        for (text, error) in [
            (String::new(), InvalidPeppers::NoneCurrent),
            (format!("a {A}"), InvalidPeppers::NoneCurrent),
            (
                format!("\na {A} current\nb {B} current"),
                InvalidPeppers::TwoCurrent(3),
            ),
            (format!("a {A} current\na {B}"), InvalidPeppers::NameTwice(2)),
            (format!("0 {A} current"), InvalidPeppers::Name(1)),
            (format!("a,b {A} current"), InvalidPeppers::Name(1)),
            (format!("{} {A} current", "a".repeat(33)), InvalidPeppers::Name(1)),
            ("a current".to_owned(), InvalidPeppers::Secret(1)),
            (format!("a {} current", &A[..40]), InvalidPeppers::Secret(1)),
            (format!("a {long} current"), InvalidPeppers::Secret(1)),
            (A.to_owned(), InvalidPeppers::Line(1)),
            (format!("a {A} now"), InvalidPeppers::Line(1)),
            (format!("a {A} current too"), InvalidPeppers::Line(1)),
        ] {
            assert_eq!(Peppers::parse(&text).map(|_| ()), Err(error), "{text}");
            assert!(!error.to_string().contains(&A[..8]));
        }
    }

    #[test]
    fn s_89_debug_shows_the_names_of_peppers_only() {
        let peppers = Peppers::parse(&format!("2026 {A} current")).unwrap();
        assert_eq!(format!("{peppers:?}"), "Peppers [\"2026\"]");
    }
}
