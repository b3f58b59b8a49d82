//! Reads a request's body: bounded in length and time, and only as what its content type says it is.

use super::{
    problem::{Problem, ProblemKind, Violation},
    single_header::{SingleHeader, single_header},
};
use axum::body::Body;
use http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::{fmt, mem, time::Duration};
use zeroize::{Zeroize as _, Zeroizing};

/// The longest body that the gateway takes.
pub(super) const MAX_BYTES: usize = 16 * 1024;
/// How long it waits for one. 16 KiB come through any line in that time.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The whole body. It may hold a password, so it is wiped on drop.
///
/// # Errors
/// [`ProblemKind::UnsupportedCoding`] for a compressed one, [`ProblemKind::BodyTooLarge`], [`ProblemKind::BodyTooSlow`], or
/// [`ProblemKind::MalformedBody`] if it ended before its end.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Zeroizing<Vec<u8>>, Problem> {
    match single_header(headers, &header::CONTENT_ENCODING) {
        SingleHeader::Absent => {}
        SingleHeader::Once(coding) if coding.eq_ignore_ascii_case("identity") => {}
        SingleHeader::Once(_) | SingleHeader::Invalid => return Err(ProblemKind::UnsupportedCoding.into()),
    }
    match tokio::time::timeout(READ_TIMEOUT, collect(body)).await {
        Ok(whole) => whole,
        Err(_) => Err(ProblemKind::BodyTooSlow.into()),
    }
}

async fn collect(mut body: Body) -> Result<Zeroizing<Vec<u8>>, Problem> {
    // It never grows: a growing buffer leaves copies behind.
    let longest = body
        .size_hint()
        .upper()
        .and_then(|upper| usize::try_from(upper).ok());
    let mut whole = Zeroizing::new(Vec::with_capacity(longest.unwrap_or(MAX_BYTES).min(MAX_BYTES)));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ProblemKind::MalformedBody)?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > MAX_BYTES - whole.len() {
            return Err(ProblemKind::BodyTooLarge.into());
        }
        whole.extend_from_slice(&data);
        // What the connection still holds is its own to overwrite.
        if let Ok(mut data) = data.try_into_mut() {
            data.zeroize();
        }
    }
    Ok(whole)
}

/// What a content type says a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MediaType {
    /// The header is missing.
    Missing,
    /// `application/json`, or a type built on it.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Anything else.
    Other,
}

impl MediaType {
    /// What the headers say; [`MediaType::Other`] if they say it twice, or name a charset that is not UTF-8.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(header::CONTENT_TYPE).iter();
        let text = match (values.next(), values.next()) {
            (None, _) => return Self::Missing,
            (Some(value), None) => value.to_str().unwrap_or_default().to_ascii_lowercase(),
            (Some(_), Some(_)) => return Self::Other,
        };
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default();
        let is_utf_8 = parts
            .filter_map(|parameter| parameter.strip_prefix("charset="))
            .all(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii"));
        match essence {
            _ if !is_utf_8 => Self::Other,
            "application/json" => Self::Json,
            "application/x-www-form-urlencoded" => Self::Form,
            _ if essence.starts_with("application/") && essence.ends_with("+json") => Self::Json,
            _ => Self::Other,
        }
    }
}

/// The members of a JSON object, taken out one by one; all violations are reported together at the end.
pub(super) struct JsonFields {
    members: Map<String, Value>,
    violations: Vec<Violation>,
}

impl JsonFields {
    /// The body of a route that takes JSON only. A page elsewhere can make a browser send a form, not this type (S-29).
    ///
    /// # Errors
    /// [`ProblemKind::UnsupportedMediaType`], or what [`read`] and [`JsonFields::parse`] give.
    pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        match MediaType::of(headers) {
            MediaType::Json => Self::parse(&read(headers, body).await?),
            MediaType::Missing | MediaType::Form | MediaType::Other => {
                Err(ProblemKind::UnsupportedMediaType.into())
            }
        }
    }

    /// # Errors
    /// [`ProblemKind::MalformedBody`] if the text is not one JSON object. A member that is given twice is told by
    /// [`JsonFields::finish`]: which of them counts would be a guess, and programs guess differently.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Problem> {
        serde_json::from_slice(text).map_err(|_| ProblemKind::MalformedBody.into())
    }

    /// A text that may be left out; `null` counts as left out.
    pub(super) fn optional_text(&mut self, name: &str) -> Option<String> {
        match self.members.remove(name)? {
            Value::Null => None,
            Value::String(text) => Some(text),
            mut value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                wipe(&mut value);
                self.violations.push(Violation::new(name, "must be a text"));
                None
            }
        }
    }

    /// A text that must be there; an empty one counts as missing.
    pub(super) fn text(&mut self, name: &str) -> String {
        let violations_before = self.violations.len();
        let text = self.optional_text(name).unwrap_or_default();
        if text.is_empty() && self.violations.len() == violations_before {
            self.violations.push(Violation::new(name, "missing"));
        }
        text
    }

    /// A list of texts that may be left out; `null` counts as left out.
    pub(super) fn optional_texts(&mut self, name: &str) -> Option<Vec<String>> {
        let value = self.members.remove(name)?;
        let texts = match value {
            Value::Null => return None,
            Value::Array(items) => items
                .into_iter()
                .map(|item| match item {
                    Value::String(text) => Some(text),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                        None
                    }
                })
                .collect(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => None,
        };
        if texts.is_none() {
            self.violations
                .push(Violation::new(name, "must be a list of texts"));
        }
        texts
    }

    /// Forgets members that may be there and mean nothing.
    pub(super) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.members.remove(*name).iter_mut().for_each(wipe);
        }
    }

    /// Forgets every member not yet taken.
    pub(super) fn ignore_rest(&mut self) {
        self.members.values_mut().for_each(wipe);
        self.members.clear();
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`ProblemKind::InvalidField`] naming every member that was wrong, missing, or not asked for: a member that is silently passed over
    /// would look as if it had been written.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        // A name from outside is not quoted back: only that there is one too many.
        if !self.members.is_empty() {
            let known = "has a member that this route does not take";
            self.violations.push(Violation::new("body", known));
        }
        match self.violations.is_empty() {
            true => Ok(()),
            false => Err(Problem::invalid_fields(mem::take(&mut self.violations))),
        }
    }
}

impl<'de> Deserialize<'de> for JsonFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = JsonFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonFields, A::Error> {
                let mut fields = JsonFields {
                    members: Map::new(),
                    violations: Vec::new(),
                };
                while let Some((name, mut value)) = map.next_entry::<String, Value>()? {
                    if fields.members.contains_key(&name) {
                        wipe(&mut value);
                        fields
                            .violations
                            .push(Violation::new(shown(&name), "must be given once"));
                    } else {
                        fields.members.insert(name, value);
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// A member's name as a problem may show it: one that no route has is somebody else's text.
fn shown(name: &str) -> &str {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match (1..=32).contains(&name.len()) && name.bytes().all(is_name_byte) {
        true => name,
        false => "body",
    }
}

impl Drop for JsonFields {
    fn drop(&mut self) {
        for value in self.members.values_mut() {
            wipe(value);
        }
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::Bytes;

    fn media_type(values: &[&str]) -> MediaType {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CONTENT_TYPE, value.parse().unwrap());
        }
        MediaType::of(&headers)
    }

    #[test]
    fn s_29_only_json_types_are_json() {
        for json in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/merge-patch+json",
        ] {
            assert_eq!(media_type(&[json]), MediaType::Json, "{json}");
        }
        for other in [
            "text/plain",
            "text/plain; application/json",
            "text/json",
            "multipart/form-data; boundary=x",
            "application/json; charset=utf-16",
            "application/jsonx",
            "",
        ] {
            assert_eq!(media_type(&[other]), MediaType::Other, "{other}");
        }
        assert_eq!(media_type(&[]), MediaType::Missing);
        assert_eq!(
            media_type(&["application/json", "application/json"]),
            MediaType::Other
        );
        assert_eq!(
            media_type(&["application/x-www-form-urlencoded"]),
            MediaType::Form
        );
    }

    #[test]
    fn every_wrong_member_is_named() {
        let mut fields =
            JsonFields::parse(br#"{"email": 1, "roles": ["a", 2], "first_name": null, "surprise": 1}"#)
                .unwrap();
        assert_eq!(fields.text("email"), "");
        assert_eq!(fields.text("password"), "");
        assert_eq!(fields.optional_text("first_name"), None);
        assert_eq!(fields.optional_texts("roles"), None);
        let expected = Problem::invalid_fields(vec![
            Violation::new("email", "must be a text"),
            Violation::new("password", "missing"),
            Violation::new("roles", "must be a list of texts"),
            Violation::new("body", "has a member that this route does not take"),
        ]);
        assert_eq!(fields.finish(), Err(expected));
    }

    #[test]
    fn a_member_given_twice_is_refused_by_its_name() {
        let twice = |text: &str| {
            let mut fields = JsonFields::parse(text.as_bytes()).unwrap();
            fields.ignore_rest();
            fields.finish()
        };
        for (text, field) in [
            (r#"{"email": "a", "email": "b"}"#, "email"),
            (r#"{"email": "a", "email": "a"}"#, "email"),
            (r#"{"email": null, "\u0065mail": "a"}"#, "email"),
            (r#"{"a b": 1, "a b": 2}"#, "body"),
        ] {
            let expected = Problem::invalid_fields(vec![Violation::new(field, "must be given once")]);
            assert_eq!(twice(text), Err(expected), "{text}");
        }
        assert_eq!(twice(r#"{"email": "a", "Email": "b"}"#), Ok(()));
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        let deep = "[".repeat(16_000);
        for text in ["", "[]", "1", "\"a\"", "{", "{} {}", "{\"a\":\"\u{fffd}", &deep] {
            assert_eq!(
                JsonFields::parse(text.as_bytes()).err(),
                Some(ProblemKind::MalformedBody.into()),
                "{text:.20}"
            );
        }
        assert!(JsonFields::parse(b"{\"a\": \"\xff\"}").is_err());
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        assert_eq!(
            read(&HeaderMap::new(), Body::from(vec![b'a'; MAX_BYTES]))
                .await
                .unwrap()
                .len(),
            MAX_BYTES
        );
        assert_eq!(
            read(&HeaderMap::new(), Body::from(vec![b'a'; MAX_BYTES + 1])).await,
            Err(ProblemKind::BodyTooLarge.into())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_given_up() {
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(
            read(&HeaderMap::new(), never).await,
            Err(ProblemKind::BodyTooSlow.into())
        );
    }
}
