//! A request's id: what ties the log lines of one request together, in every program that it passes.

use super::REQUEST_ID;
use crate::domain::{RandomTokens, TokenSource as _};
use http::HeaderMap;
use std::{borrow::Cow, fmt};

/// 1 to 64 characters out of `A-Z a-z 0-9 . _ -`: an id from outside ends up in logs and headers and must be unable to forge either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId<'a>(Cow<'a, str>);

impl<'a> RequestId<'a> {
    /// The id in these headers if they hold a well-formed one, and only one; else a new one.
    #[must_use]
    pub fn of(headers: &'a HeaderMap) -> Self {
        let mut values = headers.get_all(REQUEST_ID).iter();
        match (values.next().map(|value| value.to_str()), values.next()) {
            (Some(Ok(id)), None) if is_well_formed(id) => Self(id.into()),
            _ => Self::generate(),
        }
    }

    fn generate() -> Self {
        // Without randomness an id is still worth having, and the request will fail where it matters.
        let bits = RandomTokens.id_bits().unwrap_or_default();
        Self(bits.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, on its own.
    #[must_use]
    pub fn into_owned(self) -> RequestId<'static> {
        RequestId(Cow::Owned(self.0.into_owned()))
    }
}

impl fmt::Display for RequestId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_well_formed(id: &str) -> bool {
    let is_id_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&id.len()) && id.bytes().all(is_id_byte)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn s_92_a_request_id_from_outside_cannot_forge_a_log_line() {
        for good in ["abc-1.2_3", "A", &"a".repeat(64)] {
            assert_eq!(RequestId::of(&headers(&[good.as_bytes()])).as_str(), good);
        }
        let bad: [&[&[u8]]; 7] = [
            &[],
            &[b""],
            &[b"a b"],
            &[b"a\"b"],
            &[b"\xff"],
            &[&[b'a'; 65]],
            &[b"one", b"two"],
        ];
        for values in bad {
            let headers = headers(values);
            let id = RequestId::of(&headers);
            assert!(is_well_formed(id.as_str()) && id.as_str().len() == 20, "{id}");
            assert_ne!(RequestId::of(&headers), id);
        }
    }
}
