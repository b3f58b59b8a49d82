//! An email and a password, in the three forms in which clients send them: form, JSON, `Authorization: Basic`.

use super::{
    body::{JsonFields, MediaType, read},
    form,
    problem::{Problem, ProblemKind, Violation},
    single_header::{SingleHeader, single_header},
};
use crate::{contract, pb::PasswordCredential};
use axum::body::Body;
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, header};
use std::mem;
use zeroize::Zeroizing;

/// Padding is the one thing about base64 that clients do not agree on.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Those of a log-in request: out of the body, or, if it names neither email nor password, out of the Authorization header. The
/// body goes first because browsers add the header on their own once they know it.
///
/// # Errors
/// [`ProblemKind::InvalidField`] for what is missing, [`ProblemKind::MalformedBody`], [`ProblemKind::UnsupportedLogInMediaType`],
/// or what [`read`] gives.
pub(super) async fn of_login(headers: &HeaderMap, body: Body) -> Result<PasswordCredential, Problem> {
    let media_type = MediaType::of(headers);
    let body = read(headers, body).await?;
    let given = match media_type {
        MediaType::Form => of_form(&body)?,
        MediaType::Json => of_json(&body)?,
        MediaType::Missing | MediaType::Other if body.is_empty() => PasswordCredential::default(),
        MediaType::Missing | MediaType::Other => return Err(ProblemKind::UnsupportedLogInMediaType.into()),
    };
    let is_named = !given.email.is_empty() || !given.password.is_empty();
    complete(match of_basic(headers) {
        Some(basic) if !is_named => basic,
        Some(_) | None => given,
    })
}

/// Those in `Authorization: Basic` (RFC 7617, UTF-8); `None` if there is no such header or it cannot be read.
pub(super) fn of_basic(headers: &HeaderMap) -> Option<PasswordCredential> {
    let text = match single_header(headers, &header::AUTHORIZATION) {
        SingleHeader::Once(text) => text,
        SingleHeader::Absent | SingleHeader::Invalid => return None,
    };
    let encoded = contract::credentials(text, "Basic")?;
    let decoded = Zeroizing::new(BASE64.decode(encoded.trim()).ok()?);
    let (email, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some(PasswordCredential {
        email: email.to_owned(),
        password: password.to_owned(),
    })
}

fn complete(given: PasswordCredential) -> Result<PasswordCredential, Problem> {
    let parts = [("email", &given.email), ("password", &given.password)];
    let missing: Vec<_> = parts
        .iter()
        .filter(|(_, value)| value.is_empty())
        .map(|(name, _)| Violation::new(*name, "missing"))
        .collect();
    match missing.is_empty() {
        true => Ok(given),
        false => Err(Problem::invalid_fields(missing)),
    }
}

fn of_form(body: &[u8]) -> Result<PasswordCredential, Problem> {
    let mut pairs = Zeroizing::new(form::pairs(body).ok_or(ProblemKind::MalformedBody)?);
    let mut twice = Vec::new();
    let mut take = |name: &str| {
        let mut values = pairs.iter_mut().filter(|(key, _)| key == name);
        let value = values.next().map(|(_, value)| mem::take(value));
        if values.next().is_some() {
            twice.push(Violation::new(name, "must be given once"));
        }
        value.unwrap_or_default()
    };
    let given = PasswordCredential {
        email: take("email"),
        password: take("password"),
    };
    match twice.is_empty() {
        true => Ok(given),
        false => Err(Problem::invalid_fields(twice)),
    }
}

fn of_json(body: &[u8]) -> Result<PasswordCredential, Problem> {
    let mut fields = JsonFields::parse(body)?;
    let given = PasswordCredential {
        email: fields.optional_text("email").unwrap_or_default(),
        password: fields.optional_text("password").unwrap_or_default(),
    };
    // Log-in pages send more than is needed, such as "remember me".
    fields.ignore_rest();
    fields.finish()?;
    Ok(given)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FORM: &str = "application/x-www-form-urlencoded";

    async fn login(
        content_type: &str,
        authorization: &str,
        body: &'static [u8],
    ) -> Result<(String, String), Problem> {
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        }
        if !authorization.is_empty() {
            headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        }
        let credential = of_login(&headers, Body::from(body)).await?;
        Ok((credential.email.clone(), credential.password.clone()))
    }

    fn missing(names: &[&str]) -> Problem {
        Problem::invalid_fields(
            names
                .iter()
                .map(|name| Violation::new(*name, "missing"))
                .collect(),
        )
    }

    #[tokio::test]
    async fn the_three_forms_say_the_same() {
        let expected = Ok(("a@b.c".to_owned(), "fake pwd".to_owned()));
        assert_eq!(
            login(FORM, "", b"email=a%40b.c&password=fake+pwd").await,
            expected
        );
        assert_eq!(
            login(
                "application/json",
                "",
                br#"{"email":"a@b.c","password":"fake pwd","remember":true}"#
            )
            .await,
            expected
        );
        assert_eq!(login("", "Basic YUBiLmM6ZmFrZSBwd2Q=", b"").await, expected);
        assert_eq!(login("", "basic YUBiLmM6ZmFrZSBwd2Q", b"").await, expected);
        assert_eq!(
            login(FORM, "Basic eDp5", b"email=a%40b.c&password=fake+pwd").await,
            expected
        );
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        assert_eq!(login("", "", b"").await, Err(missing(&["email", "password"])));
        assert_eq!(login(FORM, "", b"email=a").await, Err(missing(&["password"])));
        assert_eq!(
            login(FORM, "", b"email=&password=x").await,
            Err(missing(&["email"]))
        );
        assert_eq!(
            login("application/json", "", br#"{"email":null,"password":"x"}"#).await,
            Err(missing(&["email"]))
        );
        assert_eq!(
            login("", "Basic Og==", b"").await,
            Err(missing(&["email", "password"]))
        );
        for unreadable in ["Basic !!!", "Basic", "Bearer eDp5", "Basic /w==", "Basic eHk="] {
            assert_eq!(
                login("", unreadable, b"").await,
                Err(missing(&["email", "password"])),
                "{unreadable}"
            );
        }
    }

    #[tokio::test]
    async fn a_password_may_hold_colons_and_lie_in_any_script() {
        let encoded = BASE64.encode("a@b.c:pä:ss:");
        assert_eq!(
            login("", &format!("Basic {encoded}"), b"").await,
            Ok(("a@b.c".to_owned(), "pä:ss:".to_owned()))
        );
    }

    #[tokio::test]
    async fn ambiguous_or_foreign_bodies_are_refused() {
        assert_eq!(
            login(FORM, "", b"email=a&email=b&password=x").await,
            Err(Problem::invalid_fields(vec![Violation::new(
                "email",
                "must be given once"
            )]))
        );
        assert_eq!(
            login(FORM, "", b"email=%ff").await,
            Err(ProblemKind::MalformedBody.into())
        );
        assert_eq!(
            login("text/plain", "", b"email=a&password=b").await,
            Err(ProblemKind::UnsupportedLogInMediaType.into())
        );
        assert_eq!(
            login("", "", b"email=a&password=b").await,
            Err(ProblemKind::UnsupportedLogInMediaType.into())
        );
        assert_eq!(
            login("application/json", "", br#"{"email":["a"],"password":"b"}"#).await,
            Err(Problem::invalid_fields(vec![Violation::new(
                "email",
                "must be a text"
            )]))
        );
    }
}
