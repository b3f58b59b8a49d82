//! `application/x-www-form-urlencoded`, in bodies and query strings, without guessing: what is not UTF-8 is refused, not repaired.

use std::string::FromUtf8Error;
use zeroize::Zeroize as _;

/// The names and values in order, or `None` if one of them is not UTF-8.
pub(super) fn pairs(text: &[u8]) -> Option<Vec<(String, String)>> {
    text.split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = decode(halves.next().unwrap_or_default())?;
            let value = decode(halves.next().unwrap_or_default())?;
            Some((name, value))
        })
        .collect()
}

/// Undoes `+` and `%XX`. A `%` that no two hex digits follow stands for itself, as in browsers.
fn decode(text: &[u8]) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'+', _) => decoded.push(b' '),
            (b'%', [high, low, after @ ..]) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = after;
                }
                _ => decoded.push(b'%'),
            },
            (byte, _) => decoded.push(*byte),
        }
    }
    // What is refused may hold a password as well.
    let wiped = |error: FromUtf8Error| error.into_bytes().zeroize();
    String::from_utf8(decoded).map_err(wiped).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_are_decoded_once() {
        let pairs = pairs(b"email=a%40b.c&password=fake+pwd%2B%2525&&flag&=x&e=%C3%A9&p=100%&q=%zz").unwrap();
        let expected = [
            ("email", "a@b.c"),
            ("password", "fake pwd+%25"),
            ("flag", ""),
            ("", "x"),
            ("e", "é"),
            ("p", "100%"),
            ("q", "%zz"),
        ];
        let expected: Vec<_> = expected
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        assert_eq!(pairs, expected);
    }

    #[test]
    fn what_is_not_utf_8_is_refused() {
        assert_eq!(pairs(b"email=%ff"), None);
        assert_eq!(pairs(b"email=\xc3"), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = pairs(&bytes);
        }
    }
}
