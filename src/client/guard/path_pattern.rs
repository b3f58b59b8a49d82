//! Paths that need no session.

/// A path, or with `*` at its end the beginning of paths. A slash at the end of either side makes no difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathPattern {
    text: Box<str>,
    is_prefix: bool,
}

/// The pattern is not of the form that [`RequireSession::exclude`](super::RequireSession::exclude) takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an excluded path begins with a slash, is canonical, and has `*` at most once, at its end")]
pub struct InvalidPathPattern;

impl PathPattern {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidPathPattern> {
        let (text, is_prefix) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if text.contains('*') || !is_canonical(text) {
            return Err(InvalidPathPattern);
        }
        Ok(Self {
            text: if is_prefix { text } else { without_slash(text) }.into(),
            is_prefix,
        })
    }

    /// Whether this path, which must be canonical, is meant.
    fn matches(&self, path: &str) -> bool {
        match self.is_prefix {
            // `/docs/*` means `/docs`, too.
            true => path.starts_with(&*self.text) || without_slash(&self.text) == path,
            false => without_slash(path) == &*self.text,
        }
    }
}

/// Whether one of the patterns means this path.
///
/// A path that servers might read in different ways (dots, doubled slashes, encoded ones) is never excluded: what looks here
/// like `/status/../users` might be `/users` to the service behind.
pub(super) fn is_excluded(patterns: &[PathPattern], path: &str) -> bool {
    is_canonical(path) && patterns.iter().any(|pattern| pattern.matches(path))
}

fn without_slash(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some("") | None => path,
        Some(shorter) => shorter,
    }
}

fn is_canonical(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let is_plain = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains(['%', '\\', ';']);
    rest.is_empty() && path == "/" || rest.split('/').all(is_plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn excluded_paths_tolerate_slashes_and_end_in_wildcards() {
        let cases = [
            ("/api/v1/status/", "/api/v1/status", true),
            ("/api/v1/status/", "/api/v1/status/", true),
            ("/api/v1/status", "/api/v1/status/", true),
            ("/api/v1/status/", "/api/v1/statu", false),
            ("/api/v1/status/", "/api/v1/status/more", false),
            ("/api/v1/status/", "/api/v1/stats", false),
            ("/api/v1/status/", "/API/v1/status", false),
            ("/api/v1/stat*", "/api/v1/status", true),
            ("/api/v1/stat*", "/api/v1/stats/", true),
            ("/api/v1/stat*", "/api/v1/stats/today", true),
            ("/api/v1/stat*", "/api/v1/users", false),
            ("/api/v1/stat*", "/api/v1/sta", false),
            ("/docs/*", "/docs", true),
            ("/docs/*", "/docs/", true),
            ("/docs/*", "/docs/a/b", true),
            ("/docs/*", "/docsheet", false),
            ("/", "/", true),
            ("/", "/users", false),
            ("/*", "/", true),
            ("/*", "/anything/at/all", true),
            ("/grpc.health.v1.Health/*", "/grpc.health.v1.Health/Check", true),
            ("/grpc.health.v1.Health/*", "/grpc.health.v1.Healthy/Check", false),
        ];
        for (pattern, path, excluded) in cases {
            let patterns = [PathPattern::parse(pattern).unwrap()];
            assert_eq!(is_excluded(&patterns, path), excluded, "{pattern} {path}");
        }
        assert!(!is_excluded(&[], "/"));
    }

    #[test]
    fn s_66_a_path_that_could_mean_another_is_never_excluded() {
        let patterns = [
            PathPattern::parse("/*").unwrap(),
            PathPattern::parse("/status").unwrap(),
        ];
        for path in [
            "",
            "*",
            "status",
            "//status",
            "/status//",
            "/a//b",
            "/status/../users",
            "/status/..",
            "/./status",
            "/%73tatus",
            "/status%2f..%2fusers",
            "/status/..;/users",
            "/status\\..\\users",
            "http://host/status",
        ] {
            assert!(!is_excluded(&patterns, path), "{path}");
        }
    }

    #[test]
    fn patterns_with_wildcards_elsewhere_are_refused() {
        for pattern in [
            "", "*", "status", "/a*b", "/a/*/b", "/**", "//", "/a//b", "/a/../b", "/%61",
        ] {
            assert_eq!(PathPattern::parse(pattern), Err(InvalidPathPattern), "{pattern}");
        }
    }
}
