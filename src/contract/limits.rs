//! Bounds that the server keeps and clients rely on.

use std::time::Duration;

/// A request message, at most. Everything that a request may hold fits.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// Tokens in one message of [`BatchUserIdForSession`](super::BATCH_USER_ID_FOR_SESSION) or its stream, at most.
pub const MAX_BATCH_TOKENS: usize = 4096;

/// A message of many tokens, at most: [`MAX_BATCH_TOKENS`] of them with their framing.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;

/// How often a stream of revocations carries a heartbeat.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

/// How many entries a page of a list has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize {
    /// If the request does not say.
    pub default: u32,
    /// At most.
    pub max: u32,
}

/// Pages of `ListSessions`.
pub const SESSIONS_PAGE: PageSize = PageSize {
    default: 50,
    max: 100,
};

/// Pages of `ListUsers`.
pub const USERS_PAGE: PageSize = PageSize {
    default: 100,
    max: 1000,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proto_tells_the_same_limits() {
        let proto = include_str!("../../proto/auth/v1/auth.proto");
        let page = |PageSize { default, max }| {
            format!("// At most this many, 1 to {max}. Absent or 0: {default}.\n  int32 page_size")
        };
        let sentences = [
            format!("a request is at most {} KiB", MAX_MESSAGE_BYTES / 1024),
            format!("{} KiB a message", MAX_BATCH_BYTES / 1024),
            format!("1 to {MAX_BATCH_TOKENS} session tokens"),
            page(SESSIONS_PAGE),
            page(USERS_PAGE),
        ];
        for sentence in sentences {
            assert!(proto.contains(&sentence), "{sentence}");
        }
        assert_eq!(HEARTBEAT_INTERVAL * 2, Duration::from_secs(1));
        assert!(proto.contains("A heartbeat comes every half second"));
    }
}
