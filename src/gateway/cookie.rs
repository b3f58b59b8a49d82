//! The session cookie: read strictly, set and cleared with one set of attributes.

use super::{problem::ProblemKind, transport::Transport};
use crate::{contract::cookie_values, domain::TokenDigest};
use http::{HeaderMap, HeaderValue};
use std::{fmt, str::FromStr};

const HOST_PREFIX: &str = "__Host-";

/// The cookie's name, without the prefix that it carries over https.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieName(String);

impl CookieName {
    /// The name as browsers see it: over https with the `__Host-` prefix, which makes them refuse the cookie from a neighbouring
    /// host, for a path, or without `Secure`.
    pub(super) fn over(&self, transport: Transport) -> String {
        match transport {
            Transport::Https => format!("{HOST_PREFIX}{}", self.0),
            Transport::PlainLoopback => self.0.clone(),
        }
    }
}

impl Default for CookieName {
    fn default() -> Self {
        Self("session".to_owned())
    }
}

impl FromStr for CookieName {
    type Err = InvalidCookieName;

    /// Accepts a token (RFC 9110 §5.6.2) of at most 64 bytes; a leading `__Host-` is taken as said.
    fn from_str(text: &str) -> Result<Self, InvalidCookieName> {
        let name = text.strip_prefix(HOST_PREFIX).unwrap_or(text);
        let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_reserved = name.to_ascii_lowercase().starts_with("__secure-")
            || name.to_ascii_lowercase().starts_with("__host-");
        match (1..=64).contains(&name.len()) && name.bytes().all(is_token_byte) && !is_reserved {
            true => Ok(Self(name.to_owned())),
            false => Err(InvalidCookieName),
        }
    }
}

impl fmt::Display for CookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text cannot name a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 characters out of letters, digits and !#$%&'*+-.^_`|~ without a reserved prefix")]
pub struct InvalidCookieName;

/// Different tokens in one request, at most. Browsers send several when the cookie's scope was changed, or when another host of the
/// site planted one; more than a few are an attack.
const MAX_TOKENS: usize = 8;

/// The session cookies of a request. No `Debug`: they hold tokens.
#[derive(PartialEq, Eq)]
pub(super) struct SessionCookies<'a> {
    is_any: bool,
    tokens: Vec<&'a str>,
}

impl<'a> SessionCookies<'a> {
    /// Finds them among the request's cookies.
    ///
    /// # Errors
    /// [`ProblemKind::SeveralCookies`] for more than [`MAX_TOKENS`] tokens.
    pub(super) fn of(headers: &'a HeaderMap, name: &str) -> Result<Self, ProblemKind> {
        let mut cookies = Self {
            is_any: false,
            tokens: Vec::new(),
        };
        for value in cookie_values(headers, name) {
            cookies.is_any = true;
            // What cannot be a token is not worth a call, and need not fit into one.
            let token = value.filter(|value| TokenDigest::of_presented(value).is_some());
            cookies
                .tokens
                .extend(token.filter(|token| !cookies.tokens.contains(token)));
            if cookies.tokens.len() > MAX_TOKENS {
                return Err(ProblemKind::SeveralCookies);
            }
        }
        Ok(cookies)
    }

    /// Whether there is one at all.
    pub(super) fn is_any(&self) -> bool {
        self.is_any
    }

    /// The values that can be tokens, each once, in order.
    pub(super) fn tokens(&self) -> &[&'a str] {
        &self.tokens
    }
}

/// `Set-Cookie` that gives the browser a token.
///
/// It has neither Max-Age nor Expires: the browser forgets it when it closes, and until then the service alone decides how long
/// the session lives. `None` if the token cannot stand in a header, which no token of ours is.
pub(super) fn set(name: &CookieName, transport: Transport, token: &str) -> Option<HeaderValue> {
    TokenDigest::of_presented(token)?;
    sensitive(&format!(
        "{}={token}; {}",
        name.over(transport),
        attributes(transport)
    ))
}

/// `Set-Cookie` that takes the token back: the same name and attributes, as browsers demand.
pub(super) fn clear(name: &CookieName, transport: Transport) -> Option<HeaderValue> {
    sensitive(&format!(
        "{}=; Max-Age=0; {}",
        name.over(transport),
        attributes(transport)
    ))
}

fn attributes(transport: Transport) -> &'static str {
    match transport {
        Transport::Https => "Path=/; Secure; HttpOnly; SameSite=Lax",
        Transport::PlainLoopback => "Path=/; HttpOnly; SameSite=Lax",
    }
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::SessionToken;
    use http::header;

    fn token() -> String {
        SessionToken::from_random([7; 32]).expose().to_owned()
    }

    fn cookies(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::COOKIE, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn found(headers: &HeaderMap) -> Result<(bool, Vec<&str>), ProblemKind> {
        let cookies = SessionCookies::of(headers, "__Host-session")?;
        Ok((cookies.is_any(), cookies.tokens().to_vec()))
    }

    #[test]
    fn s_24_every_different_token_is_found_however_the_cookies_come() {
        let (good, other) = (token(), SessionToken::from_random([8; 32]).expose().to_owned());
        let pairs = [
            (&*good, &*other, vec![&*good, &*other]),
            (&good, &good, vec![&good]),
            ("", &good, vec![&good]),
            (&good, "x", vec![&good]),
        ];
        for (first, second, tokens) in pairs {
            let joined = format!("__Host-session={first}; a=b; __Host-session={second}");
            let split = [
                format!("__Host-session={first}"),
                format!("__Host-session={second}"),
            ];
            let joined = cookies(&[joined.as_bytes()]);
            let split = cookies(&[split[0].as_bytes(), split[1].as_bytes()]);
            assert!(found(&joined) == Ok((true, tokens.clone())));
            assert!(found(&split) == Ok((true, tokens)));
        }
    }

    #[test]
    fn s_24_more_tokens_than_a_browser_has_reasons_for_are_refused() {
        let line = |count: u8| {
            let token = |number| SessionToken::from_random([number; 32]).expose().to_owned();
            let pairs: Vec<_> = (0..count)
                .map(|number| format!("__Host-session={}", token(number)))
                .collect();
            cookies(&[pairs.join("; ").as_bytes()])
        };
        assert_eq!(found(&line(8)).unwrap().1.len(), 8);
        assert_eq!(found(&line(9)), Err(ProblemKind::SeveralCookies));
    }

    #[test]
    fn a_value_that_cannot_be_a_token_is_none() {
        let token = token();
        let values = [
            String::new(),
            format!("\"{token}\""),
            format!("{token}="),
            format!("{token} x"),
            "a".repeat(10_000),
        ];
        for value in values {
            let headers = cookies(&[format!("__Host-session={value}").as_bytes()]);
            assert_eq!(found(&headers), Ok((true, vec![])), "{value}");
        }
        assert_eq!(found(&cookies(&[b"__Host-session=\xff\xfe"])), Ok((true, vec![])));
        assert_eq!(found(&cookies(&[b"a=b"])), Ok((false, vec![])));
    }

    #[test]
    fn s_23_the_cookie_over_https_carries_the_prefix_and_every_attribute() {
        let token = token();
        let value = set(&CookieName::default(), Transport::Https, &token).unwrap();
        assert_eq!(
            value.to_str().unwrap(),
            format!("__Host-session={token}; Path=/; Secure; HttpOnly; SameSite=Lax")
        );
        let value = clear(&CookieName::default(), Transport::Https).unwrap();
        assert_eq!(
            value.to_str().unwrap(),
            "__Host-session=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"
        );
    }

    #[test]
    fn over_plain_loopback_the_cookie_has_neither_prefix_nor_secure() {
        let token = token();
        let value = set(&CookieName::default(), Transport::PlainLoopback, &token).unwrap();
        assert_eq!(
            value.to_str().unwrap(),
            format!("session={token}; Path=/; HttpOnly; SameSite=Lax")
        );
    }

    #[test]
    fn s_23_a_configured_name_keeps_the_prefix() {
        for text in ["sid", "__Host-sid"] {
            let name: CookieName = text.parse().unwrap();
            assert_eq!(name.over(Transport::Https), "__Host-sid");
            assert_eq!(name.over(Transport::PlainLoopback), "sid");
        }
        for text in [
            "",
            "__Host-",
            "a b",
            "a;b",
            "a=b",
            "__Secure-a",
            "__host-a",
            "é",
            &"a".repeat(65),
        ] {
            assert_eq!(text.parse::<CookieName>(), Err(InvalidCookieName), "{text}");
        }
    }

    #[test]
    fn s_88_what_is_no_token_is_not_set() {
        assert_eq!(
            set(&CookieName::default(), Transport::Https, "x\r\nSet-Cookie: a=b"),
            None
        );
    }
}
