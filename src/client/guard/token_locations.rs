//! Where a request may carry its session token, and the token that it carries.

use crate::contract::{BEARER, cookie_values, credentials};
use http::{HeaderMap, HeaderName, header};

/// Where a request may carry the token.
#[derive(Debug, Clone)]
pub(super) struct TokenLocations {
    pub(super) metadata: Option<HeaderName>,
    pub(super) is_bearer_read: bool,
    pub(super) cookie: Option<Box<str>>,
}

/// What a request carries.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RequestToken<'a> {
    /// Nothing in any location.
    Nothing,
    /// One token, in one location or alike in several.
    Token(&'a str),
    /// More than one, or something that cannot be one. To choose among them would be to guess whose request it is.
    Ambiguous,
}

impl<'a> RequestToken<'a> {
    /// The same, with one more value found; `None`: one that cannot be a token.
    fn and(self, value: Option<&'a str>) -> Self {
        match (self, value) {
            (Self::Nothing, Some(value)) => Self::Token(value),
            (Self::Token(token), Some(value)) if token == value => Self::Token(token),
            (Self::Nothing | Self::Token(_) | Self::Ambiguous, _) => Self::Ambiguous,
        }
    }
}

impl TokenLocations {
    pub(super) fn token<'a>(&self, headers: &'a HeaderMap) -> RequestToken<'a> {
        let mut token = RequestToken::Nothing;
        if let Some(name) = &self.metadata {
            token = values(headers, name).fold(token, RequestToken::and);
        }
        if self.is_bearer_read {
            token = values(headers, &header::AUTHORIZATION)
                .filter_map(bearer)
                .fold(token, RequestToken::and);
        }
        if let Some(name) = &self.cookie {
            let mut values = cookie_values(headers, name);
            if let Some(value) = values.next() {
                // Two cookies of one name, even alike, come from two places that set cookies: one of them is not ours.
                token = match values.next() {
                    None => token.and(value),
                    Some(_) => RequestToken::Ambiguous,
                };
            }
        }
        token
    }

    /// Keeps the locations' values out of whatever prints headers.
    pub(super) fn mark_sensitive(&self, headers: &mut HeaderMap) {
        for name in [&header::AUTHORIZATION, &header::COOKIE]
            .into_iter()
            .chain(&self.metadata)
        {
            match headers.entry(name) {
                header::Entry::Occupied(mut values) => {
                    values.iter_mut().for_each(|value| value.set_sensitive(true))
                }
                header::Entry::Vacant(_) => {}
            }
        }
    }
}

/// The header's values; `None` for one that is not visible ASCII.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Option<&'a str>> {
    headers.get_all(name).iter().map(|value| value.to_str().ok())
}

/// What follows the scheme Bearer; `None` for another scheme, which is not ours.
fn bearer(value: Option<&str>) -> Option<Option<&str>> {
    match value {
        Some(value) => credentials(value, BEARER).map(Some),
        None => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn locations() -> TokenLocations {
        TokenLocations {
            metadata: Some(HeaderName::from_static("session-token")),
            is_bearer_read: true,
            cookie: Some("__Host-session".into()),
        }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            (HeaderName::from_static(name), value)
        };
        lines.iter().map(pair).collect()
    }

    #[test]
    fn a_token_is_found_in_metadata_bearer_and_cookie() {
        use RequestToken::{Ambiguous, Nothing, Token};
        let cases: [(&[(&'static str, &str)], RequestToken<'_>); 22] = [
            (&[], Nothing),
            (&[("session-token", "t")], Token("t")),
            (&[("session-token", "t"), ("session-token", "u")], Ambiguous),
            (&[("session-token", "t\u{e9}")], Ambiguous),
            (&[("authorization", "Bearer t")], Token("t")),
            (&[("authorization", "bEARER  t")], Token("t")),
            (&[("authorization", "Basic dTpw")], Nothing),
            (&[("authorization", "t")], Nothing),
            (
                &[("authorization", "Bearer t"), ("authorization", "Bearer u")],
                Ambiguous,
            ),
            (
                &[("authorization", "Bearer t"), ("authorization", "Basic dTpw")],
                Token("t"),
            ),
            (&[("cookie", "__Host-session=t")], Token("t")),
            (&[("cookie", "a=b; __Host-session=t;c=d")], Token("t")),
            (&[("cookie", "a=\u{e9}; __Host-session=t")], Token("t")),
            (&[("cookie", "a=b"), ("cookie", "__Host-session=t")], Token("t")),
            (&[("cookie", "__host-session=t")], Nothing),
            (&[("cookie", "x__Host-session=t")], Nothing),
            (&[("cookie", "__Host-session")], Nothing),
            (&[("cookie", "__Host-session=\"t\"")], Token("\"t\"")),
            (
                &[("cookie", "__Host-session=t"), ("session-token", "t")],
                Token("t"),
            ),
            (
                &[("cookie", "__Host-session=t"), ("session-token", "u")],
                Ambiguous,
            ),
            (
                &[("cookie", "__Host-session=t"), ("authorization", "Bearer u")],
                Ambiguous,
            ),
            (
                &[("session-token", "u"), ("authorization", "Bearer t")],
                Ambiguous,
            ),
        ];
        for (lines, expected) in cases {
            assert_eq!(locations().token(&headers(lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn s_24_two_session_cookies_are_refused() {
        for lines in [
            &[("cookie", "__Host-session=a; __Host-session=b")] as &[_],
            &[("cookie", "__Host-session=b; __Host-session=a")],
            &[("cookie", "__Host-session=a"), ("cookie", "__Host-session=b")],
            &[("cookie", "__Host-session=a; __Host-session=a")],
        ] {
            assert_eq!(
                locations().token(&headers(lines)),
                RequestToken::Ambiguous,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn locations_that_are_switched_off_are_not_read() {
        let nowhere = TokenLocations {
            metadata: None,
            is_bearer_read: false,
            cookie: None,
        };
        let lines = [
            ("session-token", "t"),
            ("authorization", "Bearer t"),
            ("cookie", "__Host-session=t"),
        ];
        assert_eq!(nowhere.token(&headers(&lines)), RequestToken::Nothing);
    }

    #[test]
    fn s_89_tokens_do_not_show_where_headers_are_printed() {
        let mut headers = headers(&[
            ("session-token", "secret"),
            ("authorization", "Bearer secret"),
            ("cookie", "a=b"),
            ("cookie", "__Host-session=secret"),
        ]);
        locations().mark_sensitive(&mut headers);
        let printed = format!("{headers:?}");
        assert!(!printed.contains("secret"), "{printed}");
    }
}
