//! Where a shared store is, and how to log in there: a URL that may hold a password.

use std::fmt;
use zeroize::Zeroizing;

/// The URL of a shared store. `Debug` shows nothing: it may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct StoreUrl(Zeroizing<String>);

impl StoreUrl {
    /// A URL that stood in a file of its own.
    pub(super) fn from_secret(text: &str, schemes: &[&str]) -> Result<Self, String> {
        let url = text.trim();
        match scheme_of(url).is_some_and(|scheme| schemes.contains(&scheme)) {
            true => Ok(Self(Zeroizing::new(url.to_owned()))),
            // Never quotes: what is no URL may still be a password.
            false => Err(format!("must be a URL that begins with {}", beginnings(schemes))),
        }
    }

    /// A URL that stood where others can read it: it must hold no password.
    pub(super) fn from_open(text: &str, schemes: &[&str], file_key: &str) -> Result<Self, String> {
        let url = Self::from_secret(text, schemes)?;
        match holds_password(text) {
            false => Ok(url),
            true => Err(format!(
                "holds a password, which others can read there: put the URL into a file that only you can read and name it with \
                 {file_key}"
            )),
        }
    }

    /// The URL, for the driver.
    #[cfg(feature = "server")]
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreUrl(..)")
    }
}

fn scheme_of(url: &str) -> Option<&str> {
    url.split_once("://").map(|(scheme, _)| scheme)
}

fn beginnings(schemes: &[&str]) -> String {
    let beginnings: Vec<_> = schemes.iter().map(|scheme| format!("{scheme}://")).collect();
    beginnings.join(" or ")
}

/// Whether the URL holds a password: after a colon before the host, or as a parameter.
fn holds_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, query) = match rest.split_once('?') {
        Some((before, query)) => (before, query),
        None => (rest, ""),
    };
    // Up to the last @: an unescaped slash or @ in a password must not hide it.
    let has_userinfo_password = authority.rsplit_once('@').is_some_and(|(userinfo, _)| {
        userinfo
            .split_once(':')
            .is_some_and(|(_, password)| !password.is_empty())
    });
    let has_parameter = query.split('&').any(|parameter| {
        let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
        ["password", "pass", "sslpassword"]
            .iter()
            .any(|secret| name.eq_ignore_ascii_case(secret))
    });
    has_userinfo_password || has_parameter
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: &[&str] = &["postgres", "postgresql"];

    #[test]
    fn s_97_a_url_with_a_password_must_stand_in_a_file() {
        for url in [
            "postgres://app:hunter2@db/app",
            "postgres://:hunter2@db",
            "postgres://app:hun/ter@2@db/app",
            "postgres://db/app?user=app&password=hunter2",
            "postgres://db/app?PASSWORD=hunter2",
        ] {
            let reason = StoreUrl::from_open(url, SCHEMES, "store_url_file").unwrap_err();
            assert!(reason.contains("store_url_file"), "{reason}");
            assert!(!reason.contains("hunter2"), "{reason}");
            assert!(StoreUrl::from_secret(url, SCHEMES).is_ok());
        }
    }

    #[test]
    fn a_url_without_a_password_may_stand_anywhere() {
        for url in [
            "postgres://db/app",
            "postgresql://app@db:5432/app?sslmode=verify-full",
            "postgres://app:@db/app",
        ] {
            assert!(
                StoreUrl::from_open(url, SCHEMES, "store_url_file").is_ok(),
                "{url}"
            );
        }
    }

    #[test]
    fn s_89_what_is_no_url_is_not_quoted() {
        let reason = StoreUrl::from_secret("hunter2\n", SCHEMES).unwrap_err();
        assert_eq!(
            reason,
            "must be a URL that begins with postgres:// or postgresql://"
        );
        assert_eq!(
            format!("{:?}", StoreUrl::from_secret("postgres://db", SCHEMES).unwrap()),
            "StoreUrl(..)"
        );
    }
}
