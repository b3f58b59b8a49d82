//! Whose session a token is likely to prove.

use crate::domain::{TokenDigest, UserId};
use std::sync::atomic::{AtomicU64, Ordering};

/// The user of the last answer for a token, or for another with the same slot here.
///
/// With the user known, a check reads the session and its marks with one `MGET`, which costs Redis a quarter of a script. The
/// record shows a wrong hint, because it names its user: so nothing here has to be right, and threads may overwrite each other's
/// hints.
pub(super) struct UserHints(Vec<Hint>);

#[derive(Default)]
struct Hint {
    token: AtomicU64,
    user: [AtomicU64; 2],
}

/// 24 bytes each.
const HINTS: usize = 1 << 16;

impl UserHints {
    pub(super) fn none() -> Self {
        Self(std::iter::repeat_with(Hint::default).take(HINTS).collect())
    }

    fn slot(&self, digest: &TokenDigest) -> (&Hint, u64) {
        let mut token = [0; 8];
        token.copy_from_slice(&digest.as_bytes()[8..16]);
        let token = u64::from_be_bytes(token);
        (&self.0[token as usize % HINTS], token)
    }

    pub(super) fn user_of(&self, digest: &TokenDigest) -> Option<UserId> {
        let (hint, token) = self.slot(digest);
        let user = u128::from(hint.user[0].load(Ordering::Relaxed)) << 64
            | u128::from(hint.user[1].load(Ordering::Relaxed));
        (hint.token.load(Ordering::Relaxed) == token).then(|| UserId::from_bytes(user.to_be_bytes()))
    }

    pub(super) fn note(&self, digest: &TokenDigest, user: UserId) {
        let (hint, token) = self.slot(digest);
        let user = u128::from_be_bytes(user.to_bytes());
        hint.user[0].store((user >> 64) as u64, Ordering::Relaxed);
        hint.user[1].store(user as u64, Ordering::Relaxed);
        hint.token.store(token, Ordering::Relaxed);
    }
}
