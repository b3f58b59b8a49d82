//! The `Authorization` header: a scheme, whose case does not matter, and its credentials (RFC 9110 §11.4).

/// What follows the scheme; `None` if the value is of another one.
#[must_use]
pub fn credentials<'a>(value: &'a str, scheme: &str) -> Option<&'a str> {
    let (given, rest) = value.split_once(' ')?;
    given
        .eq_ignore_ascii_case(scheme)
        .then(|| rest.trim_start_matches(' '))
}

/// The value that presents a bearer token, or an API key (RFC 6750 §2.1).
#[must_use]
pub fn bearer(token: &str) -> String {
    format!("{BEARER} {token}")
}

/// The scheme of [`bearer`], for [`credentials`].
pub const BEARER: &str = "Bearer";
