//! What a hashing thread does: make a hash, or verify one with the same work whatever is stored.

use super::{
    Verdict, equal_work,
    hmac_bcrypt::{self, HmacBcryptHash},
    imported::{self, Imported, Unusable},
    normalized::NormalizedPassword,
    pepper::{HmacKey, KeyRing},
};
use crate::{domain::PasswordHash, error_chain::chain};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How we hash now, and how often we have.
pub(super) struct Hashing {
    cost: u32,
    keys: KeyRing,
    computed: Arc<AtomicU64>,
}

/// A stored hash that can be verified.
pub(super) enum StoredHash<'a> {
    /// One of our own scheme.
    Ours {
        /// Its parts.
        hash: HmacBcryptHash<'a>,
        /// The key that it names.
        key: &'a HmacKey,
        /// The cost of its bcrypt.
        cost: u32,
    },
    /// One that another system made.
    Imported(Imported),
}

/// Why a stored hash cannot be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HashDefect {
    /// It is no hash, or one that costs too much.
    Unusable(Unusable),
    /// It names a pepper that is not configured.
    UnknownPepper,
}

impl<'a> StoredHash<'a> {
    fn parse(text: &'a str, keys: &'a KeyRing) -> Result<Self, HashDefect> {
        let Some(hash) = HmacBcryptHash::parse(text) else {
            return Imported::parse(text)
                .map(Self::Imported)
                .map_err(HashDefect::Unusable);
        };
        if !hash.bcrypt.starts_with("$2b$") {
            return Err(HashDefect::Unusable(Unusable::Malformed(hmac_bcrypt::NAME)));
        }
        let cost = imported::own_bcrypt_cost(hash.bcrypt).map_err(HashDefect::Unusable)?;
        let key = keys.get(hash.key_id).ok_or(HashDefect::UnknownPepper)?;
        Ok(Self::Ours { hash, key, cost })
    }
}

impl Hashing {
    pub(super) fn new(cost: u32, keys: KeyRing) -> Self {
        Self {
            cost,
            keys,
            computed: Arc::default(),
        }
    }

    /// The same with other keys. Both count as one.
    pub(super) fn with_keys(&self, keys: KeyRing) -> Self {
        Self {
            cost: self.cost,
            keys,
            computed: Arc::clone(&self.computed),
        }
    }

    /// Hashes computed, each verification counted as one.
    pub(super) fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    /// What keeps a text from being verified as a stored hash.
    pub(super) fn check_stored(&self, text: &str) -> Result<(), HashDefect> {
        StoredHash::parse(text, &self.keys).map(|_| ())
    }

    /// A hash under the current key and cost; `None` if it cannot be made, which the log says.
    pub(super) fn hash(&self, password: &NormalizedPassword) -> Option<PasswordHash> {
        self.computed.fetch_add(1, Ordering::Relaxed);
        hmac_bcrypt::hash(password.normalized(), &self.keys, self.cost)
            .inspect_err(|error| tracing::error!(cause = %chain(error), "cannot hash a password"))
            .ok()
    }

    /// The verdict, and what is wrong with the stored hash if that is why.
    pub(super) fn verify(
        &self,
        password: &NormalizedPassword,
        stored: Option<&PasswordHash>,
    ) -> (Verdict, Option<HashDefect>) {
        self.computed.fetch_add(1, Ordering::Relaxed);
        let stored = stored.map(|stored| StoredHash::parse(stored.expose(), &self.keys));
        let (is_right, defect) = match &stored {
            Some(Ok(stored)) => (self.matches(password, stored), None),
            Some(Err(defect)) => (self.without_a_hash(), Some(*defect)),
            None => (self.without_a_hash(), None),
        };
        let verdict = match (is_right, &stored) {
            (true, Some(Ok(stored))) if self.is_outdated(stored) => Verdict::Right {
                rehashed: self.hash(password),
            },
            (true, _) => Verdict::Right { rehashed: None },
            (false, _) => Verdict::Wrong,
        };
        (verdict, defect)
    }

    /// If not, what the stored hash leaves of the usual work is burnt. If so, it is not: the answer says more than the time does.
    fn matches(&self, password: &NormalizedPassword, stored: &StoredHash<'_>) -> bool {
        let started = equal_work::thread_time();
        let is_right = match stored {
            StoredHash::Ours { hash, key, .. } => {
                hmac_bcrypt::verify(password.normalized(), key, hash.bcrypt)
            }
            StoredHash::Imported(imported) => imported.verify(password.raw()),
        };
        match stored {
            _ if is_right => {}
            StoredHash::Ours { cost, .. } | StoredHash::Imported(Imported::Bcrypt { cost, .. }) => {
                equal_work::costs_left_after(*cost, self.cost).for_each(equal_work::burn);
            }
            StoredHash::Imported(Imported::Derived { .. }) => {
                equal_work::burn_rest_of(equal_work::thread_time().saturating_sub(started), self.cost);
            }
        }
        is_right
    }

    /// `false`, after the work of one hash: for users that do not exist, or whose hash cannot be verified.
    fn without_a_hash(&self) -> bool {
        equal_work::burn(self.cost);
        false
    }

    /// Whether we would hash better now. A higher cost than ours is not lowered.
    fn is_outdated(&self, stored: &StoredHash<'_>) -> bool {
        match stored {
            StoredHash::Ours { hash, cost, .. } => *cost < self.cost || hash.key_id != self.keys.current().0,
            StoredHash::Imported(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::Password, password::Peppers};
    use std::time::Duration;

    const RIGHT: &str = "p\u{e4}ssphr\u{e4}se of L\u{e9}on";
    const BCRYPT: &str = "$2b$05$vcrhGm7dF4zIquGZ5D5nvOupyojoIzUSDXHS0bOyUAygaoLV94.9.";
    const ARGON2: &str =
        "$argon2id$v=19$m=1024,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$dwJwt0yJI/Oo5OUezreYuCUKYgRwwi5f1/K3Z6vB9aE";
    const PBKDF2: &str = "$pbkdf2-sha256$i=999$AAECAwQFBgcICQoLDA0ODw$A2Y+9n6chFTQy8KZcDPszxSAd4w";

    fn hashing(cost: u32) -> Hashing {
        Hashing::new(cost, KeyRing::new(None))
    }

    fn normalized(text: &str) -> NormalizedPassword {
        NormalizedPassword::new(Password::new(text.to_owned())).unwrap()
    }

    fn stored(text: impl Into<String>) -> PasswordHash {
        PasswordHash::from_stored(text.into())
    }

    fn rehashed(hashing: &Hashing, old: &PasswordHash) -> Option<PasswordHash> {
        match hashing.verify(&normalized(RIGHT), Some(old)).0 {
            Verdict::Right { rehashed } => rehashed,
            Verdict::Wrong => panic!("the right password was refused"),
        }
    }

    #[test]
    fn s_47_what_is_weaker_is_hashed_anew() {
        let now = hashing(6);
        let lower = hashing(5).hash(&normalized(RIGHT)).unwrap();
        for old in [lower, stored(BCRYPT), stored(ARGON2), stored(PBKDF2)] {
            let new = rehashed(&now, &old).unwrap();
            assert!(new.expose().starts_with("$sessiond-bcrypt$v=1,k=0$2b$06$"));
            assert_eq!(rehashed(&now, &new), None);
        }
        let higher = hashing(7).hash(&normalized(RIGHT)).unwrap();
        assert_eq!(rehashed(&now, &higher), None);
    }

    #[test]
    fn s_47_a_wrong_password_is_never_hashed_anew() {
        for old in [BCRYPT, ARGON2, PBKDF2] {
            let (verdict, _) = hashing(6).verify(&normalized("not the right one"), Some(&stored(old)));
            assert_eq!(verdict, Verdict::Wrong, "{old}");
        }
    }

    #[test]
    fn s_50_users_move_to_the_current_pepper_and_back_from_none() {
        const A: &str = "a AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        const B: &str = "b 3q2+78r+ur7erb7vyv66vt6tvu/K/rq+3q2+78r+ur4=";
        let with = |text: String| Hashing::new(5, KeyRing::new(Some(Peppers::parse(&text).unwrap())));
        let none = hashing(5);
        let only_a = with(format!("{A} current"));
        let from_a_to_b = with(format!("{A}\n{B} current"));
        let only_b = with(format!("{B} current"));

        let plain = none.hash(&normalized(RIGHT)).unwrap();
        let under_a = rehashed(&only_a, &plain).unwrap();
        assert!(under_a.expose().starts_with("$sessiond-bcrypt$v=1,k=a$2b$05$"));
        assert_eq!(rehashed(&only_a, &under_a), None);
        let under_b = rehashed(&from_a_to_b, &under_a).unwrap();
        assert_eq!(rehashed(&only_b, &under_b), None);

        for (hashing, old) in [(&only_b, &under_a), (&none, &under_a), (&none, &under_b)] {
            let (verdict, defect) = hashing.verify(&normalized(RIGHT), Some(old));
            assert_eq!(
                (verdict, defect),
                (Verdict::Wrong, Some(HashDefect::UnknownPepper))
            );
        }
        // The right name over the wrong secret.
        let impostor = with(format!("a{} current", &B[1..]));
        let (verdict, defect) = impostor.verify(&normalized(RIGHT), Some(&under_a));
        assert_eq!((verdict, defect), (Verdict::Wrong, None));
    }

    #[test]
    fn s_50_a_peppered_hash_is_what_its_description_says() {
        let peppers = Peppers::parse("a AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= current").unwrap();
        let hashing = Hashing::new(10, KeyRing::new(Some(peppers)));
        // Computed by another implementation of HMAC, Base64 and bcrypt.
        let hash = "$sessiond-bcrypt$v=1,k=a$2b$10$Ghhe6m.Fsaux0RaosnIAwewlEh/Ig4HfNO76aZ5aA9TamEcx6KEvK";
        assert_eq!(rehashed(&hashing, &stored(hash)), None);
    }

    /// Processor time of one verification, the least of a few: the machine may be busy, but nothing makes work shorter.
    fn least_times<const N: usize>(hashing: &Hashing, rows: [Option<PasswordHash>; N]) -> [Duration; N] {
        let mut least = [Duration::MAX; N];
        for _ in 0..5 {
            for (least, row) in least.iter_mut().zip(&rows) {
                let started = equal_work::thread_time();
                let (verdict, _) = hashing.verify(&normalized("not the right one"), row.as_ref());
                *least = (*least).min(equal_work::thread_time() - started);
                assert_eq!(verdict, Verdict::Wrong);
            }
        }
        least
    }

    #[test]
    fn s_60_every_failure_takes_the_work_of_one_hash() {
        let now = hashing(10);
        let ours = now.hash(&normalized(RIGHT)).unwrap();
        let lower = hashing(8).hash(&normalized(RIGHT)).unwrap();
        let unknown_pepper = ours.expose().replace("k=0", "k=7");
        let times = least_times(
            &now,
            [
                None,
                Some(ours),
                Some(lower),
                Some(stored(BCRYPT)),
                Some(stored(ARGON2)),
                Some(stored(ARGON2.replace("m=1024", "m=4096"))),
                Some(stored(PBKDF2)),
                Some(stored("")),
                Some(stored(BCRYPT.replace("$05$", "$31$"))),
                Some(stored(unknown_pepper)),
            ],
        );
        for (row, time) in times.iter().enumerate() {
            let share = time.as_secs_f64() / times[0].as_secs_f64();
            assert!(
                (share - 1.0).abs() < 0.15,
                "row {row} takes {share} of what nobody takes"
            );
        }
    }
}
