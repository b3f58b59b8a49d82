//! One of a user's sessions, as the user's index has it.

use crate::domain::{SessionId, TokenDigest};

/// A session, and the digest that its record is stored under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub id: SessionId,
    pub digest: TokenDigest,
}

impl IndexEntry {
    pub(crate) fn to_bytes(self) -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[..16].copy_from_slice(&self.id.to_bytes());
        bytes[16..].copy_from_slice(self.digest.as_bytes());
        bytes
    }

    pub(crate) fn from_stored(bytes: &[u8]) -> Option<Self> {
        let (id, digest) = bytes.split_first_chunk()?;
        Some(Self {
            id: SessionId::from_bytes(*id),
            digest: TokenDigest::from_bytes(digest.try_into().ok()?),
        })
    }
}

/// The range of an index, from and to, that has one session's entries only.
pub(crate) fn range_of(id: SessionId) -> [Vec<u8>; 2] {
    let bound = |end: &[u8]| [b"[".as_slice(), &id.to_bytes(), end].concat();
    [bound(&[]), bound(&[0xff; 33])]
}
