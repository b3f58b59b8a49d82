//! Which requests another site may make a browser send: none that change anything.

use super::{
    origin::Origin,
    single_header::{SingleHeader, single_header},
};
use http::{HeaderMap, HeaderName, Method, header};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the request may go on. Browsers set Origin and Sec-Fetch-Site and let no page forge them; each that is present must say
/// "same origin". A request with neither comes from a program, which holds nobody else's cookies, and passes.
///
/// Origins in `allowed` pass: the operator has named them. `is_own` tells our own origin.
pub(super) fn is_allowed(
    method: &Method,
    headers: &HeaderMap,
    is_own: impl FnOnce(&Origin) -> bool,
    allowed: &[Origin],
) -> bool {
    if method.is_safe() {
        return true;
    }
    let origin_is_own = match single_header(headers, &header::ORIGIN) {
        SingleHeader::Absent => true,
        SingleHeader::Invalid => false,
        SingleHeader::Once(origin) => match origin.parse::<Origin>() {
            Ok(origin) if allowed.contains(&origin) => return true,
            Ok(origin) => is_own(&origin),
            // `null` among others: sandboxed frames and redirects from elsewhere send it.
            Err(_) => false,
        },
    };
    let site_is_own = match single_header(headers, &SEC_FETCH_SITE) {
        SingleHeader::Absent | SingleHeader::Once("same-origin" | "none") => true,
        SingleHeader::Once(_) | SingleHeader::Invalid => false,
    };
    origin_is_own && site_is_own
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OWN: &str = "https://auth.example.com";

    fn is_admitted(method: &Method, site: &[&str], origin: &[&str], allowed: &[Origin]) -> bool {
        let mut headers = HeaderMap::new();
        for value in site {
            headers.append(SEC_FETCH_SITE, value.parse().unwrap());
        }
        for value in origin {
            headers.append(header::ORIGIN, value.parse().unwrap());
        }
        is_allowed(method, &headers, |origin| origin.to_string() == OWN, allowed)
    }

    #[test]
    fn s_27_every_header_that_is_there_must_say_same_origin() {
        let sites: [&[&str]; 6] = [
            &[],
            &["same-origin"],
            &["none"],
            &["same-site"],
            &["cross-site"],
            &["rubbish"],
        ];
        let origins: [&[&str]; 6] = [
            &[],
            &[OWN],
            &["https://evil.example"],
            &["null"],
            &["http://auth.example.com"],
            &["https://auth.example.com.evil.tld"],
        ];
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            for (site_row, site) in sites.iter().enumerate() {
                for (origin_row, origin) in origins.iter().enumerate() {
                    let good = site_row <= 2 && origin_row <= 1;
                    assert_eq!(
                        is_admitted(&method, site, origin, &[]),
                        good,
                        "{method} {site:?} {origin:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn s_27_a_header_given_twice_counts_against_the_request() {
        assert!(!is_admitted(
            &Method::POST,
            &["same-origin", "same-origin"],
            &[],
            &[]
        ));
        assert!(!is_admitted(&Method::POST, &[], &[OWN, OWN], &[]));
    }

    #[test]
    fn reading_is_not_restricted() {
        assert!(is_admitted(
            &Method::GET,
            &["cross-site"],
            &["https://evil.example"],
            &[]
        ));
    }

    #[test]
    fn s_30_a_named_origin_passes_and_its_look_alikes_do_not() {
        let allowed = ["https://good.tld".parse().unwrap()];
        assert!(is_admitted(
            &Method::POST,
            &["cross-site"],
            &["https://good.tld"],
            &allowed
        ));
        for origin in [
            "https://good.tld.evil.com",
            "http://good.tld",
            "https://good.tld:8443",
            "null",
        ] {
            assert!(
                !is_admitted(&Method::POST, &["cross-site"], &[origin], &allowed),
                "{origin}"
            );
        }
    }
}
