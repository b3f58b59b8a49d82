//! From what was typed to the canonical form of an address, and to the former one, under which stored users may still be found.

use super::{Email, EmailKey};
use crate::domain::FieldViolation;
use caseless::default_case_fold_str;
use icu_properties::{
    CodePointSetData,
    props::{BidiControl, DefaultIgnorableCodePoint},
};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use std::net::{Ipv4Addr, Ipv6Addr};
use unicode_normalization::UnicodeNormalization as _;

/// Bytes of an address (RFC 5321 §4.5.3.1.3, less the angle brackets).
const MAX_BYTES: usize = 254;

/// Bytes before the `@` (RFC 5321 §4.5.3.1.1).
const MAX_LOCAL_BYTES: usize = 64;

const RULE: &str = "must be an address of the form local@host: at most 64 bytes before the @ and 254 in all; before it letters, \
                    digits, any of !#$%&'*+-/=?^_`{|}~, and single dots between them; after it a host name; nothing invisible";

impl Email {
    /// Accepts `local@host` as RFC 5321 §4.1.2 and RFC 6531 §3.3 have it: a local part that is a dot-atom, of at most 64 bytes, and
    /// a host that UTS 46 takes, or an address literal. No spaces, no controls, and nothing that does not show: two addresses that
    /// look alike because of that would be two accounts. Whether mail reaches the address is not asked.
    ///
    /// # Errors
    /// A violation of `field`.
    pub fn new(field: &str, text: &str) -> Result<Self, FieldViolation> {
        // Before normalising, which can grow a text several times over.
        let text: Option<String> = (text.len() <= MAX_BYTES).then(|| text.nfc().collect());
        let email = text.and_then(|text| {
            let key = canonical(&text)?;
            Some(Self { text, key })
        });
        email.ok_or_else(|| FieldViolation::new(field, RULE))
    }

    /// Every key under which a user with this address may be stored.
    #[must_use]
    pub fn lookup(&self) -> EmailLookup {
        let former = former_key(&self.text).filter(|former| *former != self.key);
        EmailLookup {
            keys: former.into_iter().chain([self.key.clone()]).collect(),
        }
    }
}

/// The keys under which a user with a presented address may be stored: its canonical form, and where that differs the former one,
/// until `sessiond users check-emails --apply` has brought that up to date.
///
/// `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct EmailLookup {
    keys: Vec<EmailKey>,
}

impl EmailLookup {
    /// Accepts also what [`Email::new`] does not, if it has a former key: users who have such an address go on logging in.
    ///
    /// # Errors
    /// A violation of `field`.
    pub fn new(field: &str, text: &str) -> Result<Self, FieldViolation> {
        match Email::new(field, text) {
            Ok(email) => Ok(email.lookup()),
            Err(violation) => match former_key(text) {
                Some(former) => Ok(Self { keys: vec![former] }),
                None => Err(violation),
            },
        }
    }

    /// The keys, the former one first: of two users whose spellings are one address today, each is found by their own.
    #[must_use]
    pub fn keys(&self) -> &[EmailKey] {
        &self.keys
    }
}

impl std::fmt::Debug for EmailLookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EmailLookup(..)")
    }
}

/// The canonical form of an address in NFC; `None` if it is none.
fn canonical(text: &str) -> Option<EmailKey> {
    let (local, host) = text.rsplit_once('@')?;
    if local.len() > MAX_LOCAL_BYTES || text.len() > MAX_BYTES || text.chars().any(is_hidden) {
        return None;
    }
    let (ascii_host, host) = canonical_host(host)?;
    if local.len() + 1 + ascii_host.len() > MAX_BYTES {
        return None;
    }
    let local = fold(local);
    // After folding: a fullwidth dot is a dot, and a fullwidth `@` one too many.
    is_dot_atom(&local).then(|| EmailKey(format!("{local}@{host}")))
}

/// For a compatibility caseless match (Unicode §3.13, D146): what another round of either step would change is changed by the
/// second.
fn fold(text: &str) -> String {
    let once: String = text.nfkc().collect();
    let once: String = default_case_fold_str(&once).nfkc().collect();
    default_case_fold_str(&once).nfkc().collect()
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || c.is_whitespace()
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || CodePointSetData::new::<BidiControl>().contains(c)
}

/// RFC 5322 §3.2.3 with the characters of RFC 6532 §3.2. Not of RFC 5321's quoted strings: nobody has such an address.
fn is_dot_atom(local: &str) -> bool {
    let is_atext = |c: char| match c.is_ascii() {
        true => c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c),
        false => !is_hidden(c),
    };
    local
        .split('.')
        .all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

/// The host in ASCII, and in the form that is compared.
fn canonical_host(host: &str) -> Option<(String, String)> {
    if let Some(literal) = host.strip_prefix('[') {
        let literal = address_literal(literal.strip_suffix(']')?)?;
        return Some((literal.clone(), literal));
    }
    let uts46 = Uts46::new();
    let ascii = uts46.to_ascii(
        host.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
        DnsLength::Verify,
    );
    let ascii = ascii.ok()?.into_owned();
    let (unicode, result) = uts46.to_unicode(ascii.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast);
    result.ok()?;
    let unicode = unicode.into_owned();
    Some((ascii, unicode))
}

/// RFC 5321 §4.1.3.
fn address_literal(text: &str) -> Option<String> {
    match text.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => {
            let address: Ipv6Addr = text.get(5..)?.parse().ok()?;
            Some(format!("[ipv6:{address}]"))
        }
        _ => {
            let address: Ipv4Addr = text.parse().ok()?;
            Some(format!("[{address}]"))
        }
    }
}

/// The former key: NFKC and lower case over the whole address; `None` for what never had one.
fn former_key(text: &str) -> Option<EmailKey> {
    if !(3..=MAX_BYTES).contains(&text.len()) {
        return None;
    }
    let text: String = text.nfc().collect();
    let (local, host) = text.rsplit_once('@')?;
    let is_host_char = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "-.[]:".contains(c);
    let is_host =
        !host.is_empty() && !host.starts_with('.') && !host.contains("..") && host.chars().all(is_host_char);
    let is_clean = !text.chars().any(|c| c.is_control() || c.is_whitespace());
    let is_address = !local.is_empty() && !local.contains('@') && is_host && text.len() <= MAX_BYTES;
    (is_address && is_clean).then(|| EmailKey(text.nfkc().flat_map(char::to_lowercase).nfkc().collect()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn key(text: &str) -> String {
        Email::new("email", text).unwrap().key().as_str().to_owned()
    }

    #[test]
    fn s_41_two_spellings_of_an_address_are_one_account() {
        for (one, other) in [
            ("Admin@Example.com", "admin@example.com"),
            ("\u{ff41}dmin@example.com", "admin@example.com"),
            ("caf\u{e9}@example.com", "cafe\u{301}@example.com"),
            // A small sigma has two forms, a capital one has one.
            ("νικος@example.gr", "ΝΙΚΟΣ@example.gr"),
            ("stra\u{df}e@example.de", "STRASSE@example.de"),
            ("stra\u{df}e@example.de", "STRA\u{1e9e}E@example.de"),
            ("\u{fb01}ona@example.org", "FIONA@example.org"),
            ("user@m\u{fc}nchen.de", "user@xn--mnchen-3ya.de"),
            ("user@M\u{dc}NCHEN.de", "user@XN--MNCHEN-3YA.DE"),
            ("ada@example\u{3002}org", "ada@example.org"),
            ("ada@example\u{ff0e}org", "ada@ex\u{ff41}mple\u{ff61}org"),
            ("a\u{ff0e}b@example.org", "A.B@example.org"),
            ("ada@[IPv6:2001:DB8:0::1]", "ada@[ipv6:2001:db8::1]"),
        ] {
            assert_eq!(key(one), key(other), "{one} {other}");
        }
        // Two hosts, by UTS 46 as by IDNA2008.
        assert_ne!(key("ada@stra\u{df}e.de"), key("ada@strasse.de"));
        // A dotless i is no i.
        assert_ne!(key("\u{131}van@example.org"), key("ivan@example.org"));
    }

    #[test]
    fn s_41_what_is_no_address_is_refused_by_name() {
        let long = format!("{}@x.org", "a".repeat(255));
        let long_local = format!("{}@example.org", "a".repeat(65));
        let long_host = format!("a@{}.org", vec!["b".repeat(60); 5].join("."));
        let long_label = format!("a@{}.org", "b".repeat(64));
        for text in [
            "",
            "@",
            "a@",
            "@b",
            "a b@c.org",
            "a@b@c",
            "a\0@b.org",
            "a@b\r\n.org",
            "a@.org",
            "a@b c",
            ".a@example.org",
            "a.@example.org",
            "a..b@example.org",
            "a\u{2026}b@example.org",
            "a\u{ff20}b@example.org",
            "\"a b\"@example.org",
            "\"ab\"@example.org",
            "a(b)@example.org",
            "a,b@example.org",
            "a\u{b4}b@example.org",
            "a@example.org.",
            "a@example..org",
            "a@-example.org",
            "a@example-.org",
            "a@exa_mple.org",
            "a@example\u{2024}\u{2024}org",
            "a@xn--a.org",
            "a@[127.0.0.1",
            "a@[127.0.0.256]",
            "a@[IPv6:1]",
            "a@::1",
            "a\u{200b}b@example.org",
            "a\u{202e}b@example.org",
            "a\u{ad}b@example.org",
            "a\u{feff}b@example.org",
            "a\u{e0041}b@example.org",
            "a@exa\u{ad}mple.org",
            "a@exa\u{200b}mple.org",
            "a@\u{202e}example.org",
            "a\u{a0}b@example.org",
            "a\u{3164}@example.org",
            &long,
            &long_local,
            &long_host,
            &long_label,
        ] {
            let violation = Email::new("user.email", text).unwrap_err();
            assert_eq!(violation.field, "user.email", "{text:?}");
        }
    }

    #[test]
    fn an_address_stays_as_it_was_typed() {
        for text in [
            "O'Hara+x@Example.ORG",
            "ΝΙΚΟΣ@example.gr",
            "user@XN--MNCHEN-3YA.de",
            "ada@example\u{3002}org",
        ] {
            assert_eq!(Email::new("email", text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn common_addresses_are_accepted() {
        let longest_local = format!("{}@example.org", "a".repeat(64));
        for text in [
            "a@b",
            "ada@localhost",
            "first.last+tag@sub.example.co.uk",
            "!#$%&'*+-/=?^_`{|}~@example.org",
            "user@r3---sn-a5mekn.example.org",
            "info@3m.example",
            "\u{7528}\u{6237}@\u{4f8b}\u{5b50}.\u{5e7f}\u{544a}",
            "ada@[192.0.2.1]",
            "o\u{308}zg\u{fc}r@example.org",
            &longest_local,
        ] {
            assert!(Email::new("email", text).is_ok(), "{text}");
        }
    }

    #[test]
    fn s_41_a_user_under_a_former_key_is_found_by_the_same_spelling() {
        let keys = |text| {
            let lookup = EmailLookup::new("email", text).unwrap();
            lookup
                .keys()
                .iter()
                .map(|key| key.as_str().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(keys("Ada@Example.org"), ["ada@example.org"]);
        assert_eq!(keys("νικος@example.gr"), ["νικος@example.gr", "νικοσ@example.gr"]);
        assert_eq!(keys("ΝΙΚΟΣ@example.gr"), ["νικοσ@example.gr"]);
        assert_eq!(
            keys("user@xn--mnchen-3ya.de"),
            ["user@xn--mnchen-3ya.de", "user@m\u{fc}nchen.de"]
        );
        assert_eq!(keys(".A@example.org"), [".a@example.org"]);
        for text in ["", "a", "a b@c.org", "a@b@c"] {
            assert!(EmailLookup::new("email", text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn s_41_a_canonical_address_is_its_own_canonical_form(local in "\\PC{1,12}", host in "[\\PC]{1,8}\\.org") {
            if let Ok(email) = Email::new("email", &format!("{local}@{host}")) {
                let again = Email::new("email", email.key().as_str());
                prop_assert_eq!(again.as_ref().map(Email::key), Ok(email.key()));
            }
        }

        #[test]
        fn s_41_case_and_width_never_make_two_accounts(local in "[a-zà-ÿα-ωа-яßſﬁＡ-Ｚ]{1,12}") {
            let of = |local: &str| Email::new("email", &format!("{local}@example.org")).map(|email| email.key().clone());
            prop_assert_eq!(of(&local), of(&local.to_uppercase()));
            prop_assert_eq!(of(&local), of(&local.to_lowercase()));
        }
    }
}
