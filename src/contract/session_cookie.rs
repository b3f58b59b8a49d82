//! The cookies of a request.

use http::{HeaderMap, header};

/// The values of the cookies with exactly this name, in order. Names are compared byte for byte (RFC 6265bis §5.7: case matters);
/// all cookie headers are read, since HTTP/2 may split them. `None` for a value that is not UTF-8.
///
/// Several of one name come from several places that set cookies, whatever their values: at most one of them is ours.
pub fn cookie_values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = Option<&'a str>> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|header| header.as_bytes().split(|byte| *byte == b';'))
        .filter_map(move |pair| {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (&pair[..equals], &pair[equals + 1..]);
            (key.trim_ascii() == name.as_bytes()).then(|| std::str::from_utf8(value.trim_ascii()).ok())
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const NAME: &str = "__Host-session";

    fn cookies(lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        headers
    }

    fn values(headers: &HeaderMap) -> Vec<Option<&str>> {
        cookie_values(headers, NAME).collect()
    }

    #[test]
    fn s_24_a_cookie_is_found_by_its_exact_name() {
        type Case<'a> = (&'a [&'a [u8]], &'a [Option<&'a str>]);
        let cases: [Case<'_>; 13] = [
            (&[], &[]),
            (&[b"__Host-session=t"], &[Some("t")]),
            (&[b"a=b; __Host-session=t;c=d"], &[Some("t")]),
            (&[b";; ; =x; flag; __Host-session = t ; "], &[Some("t")]),
            (&[b"a=\xe9; __Host-session=t"], &[Some("t")]),
            (&[b"a=b", b"__Host-session=t"], &[Some("t")]),
            (&[b"__host-session=t; __HOST-SESSION=t"], &[]),
            (&[b"x__Host-session=t; __Host-session2=t; session=t"], &[]),
            (&[b"__Host-session"], &[]),
            (&[b"__Host-session="], &[Some("")]),
            (&[b"__Host-session=\"t\"; x=y"], &[Some("\"t\"")]),
            (&[b"__Host-session=t=u"], &[Some("t=u")]),
            (&[b"__Host-session=\xff\xfe"], &[None]),
        ];
        for (lines, expected) in cases {
            assert_eq!(values(&cookies(lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn s_24_several_cookies_of_one_name_are_all_found_in_order() {
        let joined = cookies(&[b"__Host-session=t; a=b; __Host-session=u"]);
        let split = cookies(&[b"__Host-session=t", b"a=b; __Host-session=u"]);
        for headers in [joined, split] {
            assert_eq!(values(&headers), [Some("t"), Some("u")]);
        }
    }

    proptest! {
        #[test]
        fn no_cookie_header_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let headers = HeaderMap::from_iter([(header::COOKIE, value)]);
                prop_assert!(cookie_values(&headers, NAME).count() <= bytes.len());
            }
        }
    }
}
