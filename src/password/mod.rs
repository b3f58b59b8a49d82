//! Password hashing behind a bounded pool, the schemes it knows, and the rules for new passwords.

mod common_passwords;
mod equal_work;
mod hashing;
mod hmac_bcrypt;
mod imported;
mod job_queue;
#[cfg(test)]
mod job_queue_model;
mod normalized;
mod pepper;
mod policy;
mod pool;

pub use pepper::{InvalidPeppers, Peppers};

use crate::domain::{FieldViolation, Password, PasswordHash};
use hashing::{HashDefect, Hashing};
use imported::Unusable;
use job_queue::QueueFull;
use normalized::NormalizedPassword;
use parking_lot::RwLock;
use pepper::KeyRing;
use pool::Pool;
use std::{ops::RangeInclusive, sync::Arc, time::Duration};

/// What `job_queue` is made of; `job_queue_model` makes it of loom's instead.
mod sync {
    pub(super) use parking_lot::{Condvar, Mutex};
}

/// bcrypt costs that can be configured. Above, one log-in takes longer than anyone waits for it; and what was once configured can
/// always be verified.
const COSTS: RangeInclusive<u32> = 10..=imported::MAX_BCRYPT_COST;

/// Fewest characters that can be configured.
const MIN_CHARS: RangeInclusive<usize> = 8..=64;

/// How long a log-in should wait in the queue at most.
const QUEUE_WAIT: Duration = Duration::from_secs(5);

/// How passwords are hashed, and how many at once.
#[derive(Debug)]
pub struct HashingConfig {
    /// bcrypt's cost, from 10 to 16: each step doubles the time of a log-in. 12 is about a quarter of a second.
    pub cost: u32,
    /// Code points that a new password has at least, from 8 to 64.
    pub min_chars: usize,
    /// Threads that hash; 0: one for each core but one, at least one.
    ///
    /// Capacity (S-49): log-ins per second = threads / the time of one hash, about 12 with three threads at cost 12. Half as many
    /// while users' hashes are replaced at log-in, and fewer while session checks want every core: checks go first, and leave
    /// hashing a tenth. Each thread may need 128 MiB to verify an imported argon2id or scrypt hash.
    pub threads: usize,
    /// Log-ins that may wait for a thread; 0: as many as are through within 5 s by the speed measured at start. More are refused
    /// at once.
    pub queue: usize,
    /// Secrets to be hashed with every password.
    pub peppers: Option<Peppers>,
}

impl Default for HashingConfig {
    fn default() -> Self {
        Self {
            cost: 12,
            min_chars: 15,
            threads: 0,
            queue: 0,
            peppers: None,
        }
    }
}

/// Why hashing cannot start.
#[derive(Debug, thiserror::Error)]
pub enum HashingConfigError {
    /// The cost is out of range.
    #[error("the bcrypt cost must be from {min} to {max}, not {0}", min = COSTS.start(), max = COSTS.end())]
    Cost(u32),
    /// The minimum length is out of range.
    #[error(
        "the minimum length of passwords must be from {min} to {max} characters, not {0}",
        min = MIN_CHARS.start(),
        max = MIN_CHARS.end()
    )]
    MinChars(usize),
    /// The system gives no threads.
    #[error("cannot start the threads that hash passwords")]
    Threads(#[source] std::io::Error),
}

/// Hashes and verifies passwords. Cheap to clone: all clones share one pool, which ends with the last of them.
#[derive(Clone)]
pub struct PasswordHasher {
    inner: Arc<HasherInner>,
}

struct HasherInner {
    pool: Pool,
    min_chars: usize,
    hashing: RwLock<Arc<Hashing>>,
}

impl HasherInner {
    fn hashing(&self) -> Arc<Hashing> {
        Arc::clone(&self.hashing.read())
    }
}

/// What a password is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is not the one, or there is none, or what is stored cannot be verified.
    Wrong,
    /// It is the one.
    Right {
        /// The same password under the current scheme, cost and pepper, if what is stored is weaker. To be stored in place of
        /// exactly what was verified, so that it cannot overwrite a password that was changed meanwhile (S-47).
        rehashed: Option<PasswordHash>,
    },
}

/// Too many passwords wait to be hashed. Nothing was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be checked")]
pub struct HashingBusy {
    /// When to try again, in whole seconds.
    pub retry_after: Duration,
}

impl From<QueueFull> for HashingBusy {
    fn from(full: QueueFull) -> Self {
        Self {
            retry_after: full.retry_after,
        }
    }
}

/// What the pool is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashingStats {
    /// Hashes computed since the start, those without a user included.
    pub computed: u64,
    /// Jobs being done now; never more than there are threads.
    pub running: usize,
    /// Jobs waiting for a thread.
    pub waiting: usize,
    /// Jobs refused since the start, because too many waited.
    pub refused: u64,
}

impl PasswordHasher {
    /// Starts the threads. Takes some milliseconds, to measure how fast the machine hashes.
    ///
    /// # Errors
    /// A setting is out of range (S-46), or there are no threads to be had.
    pub fn start(config: HashingConfig) -> Result<Self, HashingConfigError> {
        if !COSTS.contains(&config.cost) {
            return Err(HashingConfigError::Cost(config.cost));
        }
        if !MIN_CHARS.contains(&config.min_chars) {
            return Err(HashingConfigError::MinChars(config.min_chars));
        }
        Self::start_unchecked(config).map_err(HashingConfigError::Threads)
    }

    fn start_unchecked(config: HashingConfig) -> std::io::Result<Self> {
        let threads = match config.threads {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1)),
            threads => threads,
        };
        let hash_time = equal_work::time_of_one(config.cost);
        let queue = match config.queue {
            0 => queue_for(hash_time, threads),
            queue => queue,
        };
        Ok(Self {
            inner: Arc::new(HasherInner {
                pool: Pool::start(threads, queue, hash_time)?,
                min_chars: config.min_chars,
                hashing: RwLock::new(Arc::new(Hashing::new(config.cost, KeyRing::new(config.peppers)))),
            }),
        })
    }

    /// The rules for a new password: 15 (as configured) to 256 code points, none of the common passwords, not made of `context`
    /// (the local part of the email, the product's name). Any characters but U+0000 in any mixture.
    ///
    /// # Errors
    /// A violation of `field` that says which rule.
    pub fn check_new(
        &self,
        field: &str,
        password: &Password,
        context: &[&str],
    ) -> Result<(), FieldViolation> {
        policy::check_new(field, password, context, self.inner.min_chars)
    }

    /// A hash that another system has made, if it can be verified here: bcrypt (`$2a$`, `$2b$`, `$2y$`) up to cost 16; argon2id,
    /// argon2i, scrypt (all up to 128 MiB) and PBKDF2 (up to 2,000,000 iterations) as PHC strings, or as Django, Werkzeug and passlib
    /// write them. A hash of our own scheme is one too.
    ///
    /// `None`: the text begins with `!`, by which Django, as shadow(5), says that there is no password.
    ///
    /// # Errors
    /// A violation of `field`, which names the hash's scheme if it is known by name.
    pub fn check_import(&self, field: &str, text: &str) -> Result<Option<PasswordHash>, FieldViolation> {
        const SCHEMES: &str = "bcrypt, or argon2id, argon2i, scrypt or PBKDF2 as a PHC string or in the form of Django, Werkzeug \
                               or passlib";
        const COSTS: &str =
            "bcrypt at cost 16, argon2 or scrypt with 128 MiB, or PBKDF2 with 2000000 iterations";
        if text.starts_with('!') {
            return Ok(None);
        }
        let rule = match self.inner.hashing().check_stored(text) {
            Ok(()) => return Ok(Some(PasswordHash::from_stored(text.to_owned()))),
            Err(HashDefect::Unusable(Unusable::NoHash)) => format!("must be a hash of {SCHEMES}"),
            Err(HashDefect::Unusable(Unusable::UnknownScheme(scheme))) => {
                format!("must be a hash of {SCHEMES}; this one is of {scheme}")
            }
            Err(HashDefect::Unusable(Unusable::Malformed(scheme))) => {
                format!("must be well-formed; this one begins like one of {scheme}")
            }
            Err(HashDefect::Unusable(Unusable::TooCostly(scheme))) => {
                format!("must take no more than {COSTS}; this one of {scheme} takes more")
            }
            Err(HashDefect::UnknownPepper) => {
                "must be a hash made with a pepper that is configured here".to_owned()
            }
        };
        Err(FieldViolation::new(field, rule))
    }

    /// The hash of a new password, which [`check_new`](Self::check_new) has accepted; of one that it has not, a hash that may
    /// verify nothing.
    ///
    /// # Errors
    /// The queue is full.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, HashingBusy> {
        let hashing = self.inner.hashing();
        let password = NormalizedPassword::new_unchecked(password);
        let hash = self.inner.pool.run(move || hashing.hash(&password)).await?;
        hash.ok_or(HashingBusy {
            retry_after: Duration::from_secs(1),
        })
    }

    /// Whether the password is the one that `stored` was made of. `None`: there is no such user, or they have no password.
    ///
    /// [`Verdict::Wrong`] takes the work of one hash at the current cost, whatever is or is not stored (S-60); only a stored hash
    /// that costs more takes longer, until its user's password changes. A text that cannot be a password (empty, U+0000, more than
    /// 256 code points or 1 KiB) is wrong at once: that depends on nothing stored. [`Verdict::Right`] takes the work of the stored
    /// hash, and of another if it is replaced: the answer says more than the time does. Where the answer will be the same, because
    /// the user may not log in, give `None`, so that the time is the same too.
    ///
    /// # Errors
    /// The queue is full.
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<PasswordHash>,
    ) -> Result<Verdict, HashingBusy> {
        let Ok(password) = NormalizedPassword::new(password) else {
            return Ok(Verdict::Wrong);
        };
        let hashing = self.inner.hashing();
        let verify = move || hashing.verify(&password, stored.as_ref());
        let (verdict, defect) = self.inner.pool.run(verify).await?;
        // Said here rather than on the thread that hashed, so that the log has it under the request.
        match defect {
            Some(HashDefect::Unusable(reason)) => {
                tracing::error!(
                    ?reason,
                    "the stored password hash cannot be verified: its user cannot log in"
                );
            }
            Some(HashDefect::UnknownPepper) => {
                tracing::error!(
                    "the stored password hash names a pepper that is not configured: its user cannot log in"
                );
            }
            None => {}
        }
        Ok(verdict)
    }

    /// From now on hashes with these peppers. What is stored under one that is not among them cannot be verified until it is again.
    pub fn replace_peppers(&self, peppers: Option<Peppers>) {
        let mut hashing = self.inner.hashing.write();
        *hashing = Arc::new(hashing.with_keys(KeyRing::new(peppers)));
    }

    /// What the pool is doing now.
    #[must_use]
    pub fn stats(&self) -> HashingStats {
        let (running, waiting) = self.inner.pool.load();
        HashingStats {
            computed: self.inner.hashing().computed(),
            running,
            waiting,
            refused: self.inner.pool.refused(),
        }
    }
}

/// As many as `threads` hash within [`QUEUE_WAIT`], the last one's own hash included.
fn queue_for(hash_time: Duration, threads: usize) -> usize {
    let rounds = QUEUE_WAIT.as_nanos() / hash_time.as_nanos().max(1);
    let rounds = usize::try_from(rounds)
        .unwrap_or(usize::MAX)
        .saturating_sub(1)
        .max(1);
    threads.saturating_mul(rounds).min(10_000)
}
