//! The names of all keys.
//!
//! A session lives in one of [`SHARDS`] shards, found from its token's digest alone. All keys of a shard carry one hash tag, so
//! that a Cluster keeps them in one slot, where one command or script may read and write them together.
//!
//! | key, after the prefix | what it holds |
//! |---|---|
//! | `{shard}s:<digest>` | a session, a forwarding note, or a tombstone ([`record`](super::record)) |
//! | `{shard}x` | the shard's live sessions: digest by expiry |
//! | `{shard}x:<sequence>` | the live sessions of before that revocation of everyone's, until they are freed |
//! | `{shard}m` | unsettled moves: digests that sessions have moved away from, until the move is complete |
//! | `{shard}e` | everyone's revocation mark ([`marks`](super::marks)) |
//! | `{shard}e:<user>` | a user's revocation mark |
//! | `{u:<user>}` | the user's sessions: id and digest, in the order of the ids |
//! | `{u:<user>}k` | displaced sessions: a creation has evicted or replaced them, and they have yet to be ended |
//! | `{u:<user>}e` | how often all of the user's sessions were revoked |
//! | `{i:<session>}` | whose session that is |
//! | `{log}…` | what all shards share: see the functions below |

use crate::domain::{SessionId, TokenDigest, UserId};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use redis::Cmd;

/// How many shards there are. Part of the stored format: with another number, sessions are not found again. It divides evenly
/// by 2, 3, 4, 6, 8, 12 and 16 nodes.
pub(crate) const SHARDS: usize = TAGS.len();

/// The shards' hash tags: for each of as many equal ranges of a Cluster's slots, the least number that hashes into it. Nodes that
/// own ranges of slots get equal shares.
const TAGS: [u16; 48] = [
    10, 18, 263, 25, 3, 7, 61, 65, 162, 50, 140, 43, 11, 19, 262, 24, 2, 33, 68, 60, 77, 51, 141, 42, 12,
    106, 115, 27, 1, 5, 63, 67, 74, 52, 49, 41, 13, 107, 114, 132, 0, 4, 62, 66, 75, 53, 48, 40,
];

/// Where the record of a digest is.
pub(crate) struct Location {
    /// Its shard.
    pub shard: usize,
    /// What names it there: the digest as text.
    pub member: String,
}

impl Location {
    pub(crate) fn of(digest: &TokenDigest) -> Self {
        Self {
            shard: Self::shard_of(digest),
            member: URL_SAFE_NO_PAD.encode(digest.as_bytes()),
        }
    }

    pub(crate) fn shard_of(digest: &TokenDigest) -> usize {
        let [first, second, ..] = *digest.as_bytes();
        usize::from(u16::from_be_bytes([first, second])) % SHARDS
    }

    /// The digest that has this name in its shard.
    pub(crate) fn digest(member: &str) -> Option<TokenDigest> {
        let bytes = URL_SAFE_NO_PAD.decode(member).ok()?;
        Some(TokenDigest::from_bytes(bytes.try_into().ok()?))
    }
}

/// The names of one deployment's keys.
pub(crate) struct Keyspace {
    prefix: String,
    shards: Vec<String>,
}

impl Keyspace {
    /// The keys that begin with `prefix`, which holds no brace.
    pub(crate) fn new(prefix: &str) -> Self {
        let shards = TAGS.iter().map(|tag| format!("{prefix}{{{tag}}}")).collect();
        Self {
            prefix: prefix.to_owned(),
            shards,
        }
    }

    pub(crate) fn session(&self, location: &Location) -> String {
        format!("{}s:{}", self.shards[location.shard], location.member)
    }

    /// Adds the session's key, everyone's mark and the user's mark to a command.
    pub(crate) fn add_check(&self, cmd: &mut Cmd, digest: &TokenDigest, user: UserId) {
        let mut key = String::with_capacity(self.prefix.len() + 64);
        let shard = &self.shards[Location::shard_of(digest)];
        key.push_str(shard);
        key.push_str("s:");
        URL_SAFE_NO_PAD.encode_string(digest.as_bytes(), &mut key);
        cmd.arg(key.as_str());
        key.truncate(shard.len());
        key.push('e');
        cmd.arg(key.as_str());
        key.push(':');
        key.push_str(user.as_uuid().hyphenated().encode_lower(&mut [0; 36]));
        cmd.arg(key.as_str());
    }

    /// What every session key of the shard begins with.
    pub(crate) fn sessions_of(&self, shard: usize) -> String {
        format!("{}s:", self.shards[shard])
    }

    pub(crate) fn live_sessions(&self, shard: usize) -> String {
        format!("{}x", self.shards[shard])
    }

    pub(crate) fn unsettled_moves(&self, shard: usize) -> String {
        format!("{}m", self.shards[shard])
    }

    pub(crate) fn everyone_mark(&self, shard: usize) -> String {
        format!("{}e", self.shards[shard])
    }

    pub(crate) fn user_mark(&self, shard: usize, user: UserId) -> String {
        format!("{}e:{user}", self.shards[shard])
    }

    /// The shard's live sessions of before a revocation of everyone's.
    pub(crate) fn revoked_sessions(&self, shard: usize, sequence: u64) -> String {
        format!("{}x:{sequence}", self.shards[shard])
    }

    pub(crate) fn index(&self, user: UserId) -> String {
        format!("{}{{u:{user}}}", self.prefix)
    }

    pub(crate) fn displaced(&self, user: UserId) -> String {
        format!("{}{{u:{user}}}k", self.prefix)
    }

    pub(crate) fn user_epoch(&self, user: UserId) -> String {
        format!("{}{{u:{user}}}e", self.prefix)
    }

    pub(crate) fn owner(&self, session: SessionId) -> String {
        format!("{}{{i:{session}}}", self.prefix)
    }

    /// The sequence of the last revocation of all of a user's or of everyone's sessions, and the run of the server that gave it.
    pub(crate) fn revocation_clock(&self) -> String {
        format!("{}{{log}}clock", self.prefix)
    }

    /// How often everyone's sessions were revoked.
    pub(crate) fn everyone_epoch(&self) -> String {
        format!("{}{{log}}epoch", self.prefix)
    }

    /// The longest lifetime, in seconds, that any process has ever allowed.
    pub(crate) fn longest_lifetime(&self) -> String {
        format!("{}{{log}}lifetime", self.prefix)
    }

    /// The log of revocations: a stream.
    pub(crate) fn stream(&self) -> String {
        format!("{}{{log}}stream", self.prefix)
    }

    /// The number of the stream's last entry.
    pub(crate) fn stream_head(&self) -> String {
        format!("{}{{log}}head", self.prefix)
    }

    /// Which log the stream is, and which run of the server it belongs to.
    pub(crate) fn stream_id(&self) -> String {
        format!("{}{{log}}id", self.prefix)
    }

    /// Where an empty write finds out whether there is room. No key has this name.
    pub(crate) fn room_probe(&self, shard: usize) -> String {
        format!("{}~", self.shards[shard])
    }

    /// Held by the process that sweeps.
    pub(crate) fn sweep_lock(&self) -> String {
        format!("{}{{log}}sweep", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::cluster_routing::Slot;

    #[test]
    fn shards_are_spread_evenly_over_the_slots() {
        let keys = Keyspace::new("p:");
        let range_of = |key: String| {
            let slot = Some(Slot::for_key(key));
            (0..16_384_u16).find(|n| Slot::new(*n) == slot).unwrap() as usize * SHARDS / 16_384
        };
        for shard in 0..SHARDS {
            assert_eq!(range_of(keys.everyone_mark(shard)), shard);
        }
    }

    #[test]
    fn all_keys_of_a_shard_and_all_of_a_user_are_in_one_slot() {
        let keys = Keyspace::new("p:");
        let digest = TokenDigest::from_bytes([7; 32]);
        let user = UserId::from_bytes([1; 16]);
        let location = Location::of(&digest);
        let slot = |key: String| Slot::for_key(key);
        let of_shard = [
            keys.session(&location),
            keys.live_sessions(location.shard),
            keys.unsettled_moves(location.shard),
            keys.user_mark(location.shard, user),
        ];
        for key in of_shard {
            assert_eq!(slot(key), slot(keys.everyone_mark(location.shard)));
        }
        assert_eq!(slot(keys.index(user)), slot(keys.displaced(user)));
        assert_eq!(slot(keys.index(user)), slot(keys.user_epoch(user)));
    }
}
