//! Hashes that other systems have made: their forms stand in `formats`.
//!
//! Verified as those systems did, over the bytes as received, until the user's next log-in replaces them. What a hash may cost is
//! bounded here, at import as at log-in: a row in a store must not be able to hold a thread for minutes or take gigabytes.

mod formats;
#[cfg(test)]
mod tests;
mod unknown;

use super::hmac_bcrypt;
use argon2::{Algorithm, Argon2};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use std::str::FromStr as _;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// bcrypt's cost: about 4 s.
pub(super) const MAX_BCRYPT_COST: u32 = 16;

/// Memory of one verification by argon2 or scrypt, in KiB. Each hashing thread may need as much.
const MAX_MEMORY_KIB: u64 = 128 * 1024;

/// Memory that argon2 writes over all its passes, in KiB: about 2 s.
const MAX_ARGON2_FILLED_KIB: u64 = 4 * 1024 * 1024;

/// Memory that scrypt writes over all its parallel parts, in KiB: about 2 s.
const MAX_SCRYPT_FILLED_KIB: u64 = 1024 * 1024;

/// Iterations of PBKDF2, those of all blocks of its output together: about 2 s with SHA-512.
const MAX_ITERATIONS: u32 = 2_000_000;

/// Longer texts are no hash of any scheme here.
const MAX_TEXT_BYTES: usize = 256;

/// How many bytes a hash has that is no bcrypt: fewer could be guessed, more nobody makes.
const OUTPUT_BYTES: std::ops::RangeInclusive<usize> = 10..=64;

/// A hash of another system, well-formed and of bounded cost.
#[derive(Debug, Clone)]
pub(super) enum Imported {
    /// `$2a$`, `$2b$` or `$2y$`: one algorithm under three names.
    Bcrypt {
        /// Its whole string.
        text: String,
        /// Its cost.
        cost: u32,
        /// What bcrypt was given.
        input: BcryptInput,
    },
    /// Any other.
    Derived {
        /// How it is computed.
        function: HashFunction,
        /// Over what besides the password.
        salt: Vec<u8>,
        /// What comes out.
        output: Vec<u8>,
    },
}

/// What a system gives to bcrypt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BcryptInput {
    /// The password.
    Password,
    /// The SHA-256 of the password, in hexadecimal.
    Sha256Hex,
}

/// A function that derives bytes from a password, with its parameters.
#[derive(Debug, Clone)]
pub(super) enum HashFunction {
    /// argon2id or argon2i.
    Argon2(Argon2<'static>),
    /// scrypt.
    Scrypt(scrypt::Params),
    /// PBKDF2 with HMAC over a digest, and this many iterations.
    Pbkdf2(Pbkdf2Digest, u32),
}

/// The digest under PBKDF2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pbkdf2Digest {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// Why a text is no hash that can be verified here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    /// No hash of any scheme that is known by name.
    NoHash,
    /// Of this scheme, which nothing here computes.
    UnknownScheme(&'static str),
    /// Of this scheme, but not well-formed.
    Malformed(&'static str),
    /// Of this scheme, and costs more than is ever spent on one verification.
    TooCostly(&'static str),
}

/// What is wrong with a hash whose scheme is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    Malformed,
    TooCostly,
}

impl Imported {
    pub(super) fn parse(text: &str) -> Result<Self, Unusable> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Unusable::NoHash);
        }
        match formats::parse(text) {
            Some((_, Ok(imported))) => Ok(imported),
            Some((scheme, Err(Flaw::Malformed))) => Err(Unusable::Malformed(scheme)),
            Some((scheme, Err(Flaw::TooCostly))) => Err(Unusable::TooCostly(scheme)),
            None => Err(unknown::scheme_of(text).map_or(Unusable::NoHash, Unusable::UnknownScheme)),
        }
    }

    /// Whether the password is the one that the hash was made of. Takes as long as the hash costs.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        match self {
            // Reads 72 bytes at most, as the systems did that made such hashes.
            Self::Bcrypt {
                text,
                input: BcryptInput::Password,
                ..
            } => bcrypt::verify(password, text).unwrap_or(false),
            Self::Bcrypt {
                text,
                input: BcryptInput::Sha256Hex,
                ..
            } => bcrypt::verify(sha256_hex(password).as_slice(), text).unwrap_or(false),
            Self::Derived {
                function,
                salt,
                output,
            } => {
                let mut computed = vec![0; output.len()];
                function.compute(password, salt, &mut computed) && computed.ct_eq(output).into()
            }
        }
    }

    fn bcrypt(text: &str, input: BcryptInput) -> Result<Self, Flaw> {
        let cost = bcrypt_cost(text)?;
        let text = text.to_owned();
        Ok(Self::Bcrypt { text, cost, input })
    }

    fn derived(function: HashFunction, salt: Vec<u8>, output: Vec<u8>) -> Result<Self, Flaw> {
        if !OUTPUT_BYTES.contains(&output.len()) {
            return Err(Flaw::Malformed);
        }
        // RFC 8018 §5.2: each block of the output takes all the iterations.
        if let HashFunction::Pbkdf2(digest, iterations) = &function
            && output.len().div_ceil(digest.output_bytes()) > (MAX_ITERATIONS / iterations) as usize
        {
            return Err(Flaw::TooCostly);
        }
        Ok(Self::Derived {
            function,
            salt,
            output,
        })
    }
}

impl HashFunction {
    fn argon2(
        algorithm: Algorithm,
        version: u32,
        [memory_kib, passes, lanes]: [u32; 3],
        output_len: usize,
    ) -> Result<Self, Flaw> {
        let is_small = u64::from(memory_kib) <= MAX_MEMORY_KIB;
        if !is_small || u64::from(memory_kib) * u64::from(passes) > MAX_ARGON2_FILLED_KIB {
            return Err(Flaw::TooCostly);
        }
        let version = argon2::Version::try_from(version).map_err(|_| Flaw::Malformed)?;
        let params = argon2::Params::new(memory_kib, passes, lanes, Some(output_len));
        let params = params.map_err(|_| Flaw::Malformed)?;
        Ok(Self::Argon2(Argon2::new(algorithm, version, params)))
    }

    /// N is 2 to the power of `log_n`.
    fn scrypt(log_n: u32, block_size: u32, parallelism: u32) -> Result<Self, Flaw> {
        let log_n = u8::try_from(log_n).map_err(|_| Flaw::TooCostly)?;
        // RFC 7914 §2: 128 * r * N bytes, p times over. Bounded before the crate multiplies r by p.
        let n = 1_u64.checked_shl(u32::from(log_n)).unwrap_or(u64::MAX);
        let memory_kib = n.saturating_mul(u64::from(block_size)).div_ceil(8);
        let filled_kib = memory_kib.saturating_mul(u64::from(parallelism));
        if log_n >= 64 || memory_kib > MAX_MEMORY_KIB || filled_kib > MAX_SCRYPT_FILLED_KIB {
            return Err(Flaw::TooCostly);
        }
        let params = scrypt::Params::new(log_n, block_size, parallelism);
        params.map(Self::Scrypt).map_err(|_| Flaw::Malformed)
    }

    fn pbkdf2(digest: Pbkdf2Digest, iterations: u32) -> Result<Self, Flaw> {
        match iterations {
            0 => Err(Flaw::Malformed),
            iterations if iterations > MAX_ITERATIONS => Err(Flaw::TooCostly),
            iterations => Ok(Self::Pbkdf2(digest, iterations)),
        }
    }

    /// Fills `output`; `false` if the function cannot.
    fn compute(&self, password: &[u8], salt: &[u8], output: &mut [u8]) -> bool {
        match self {
            Self::Argon2(argon2) => argon2.hash_password_into(password, salt, output).is_ok(),
            Self::Scrypt(params) => scrypt::scrypt(password, salt, params, output).is_ok(),
            Self::Pbkdf2(digest, iterations) => {
                let derive = match digest {
                    Pbkdf2Digest::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>,
                    Pbkdf2Digest::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>,
                    Pbkdf2Digest::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>,
                };
                derive(password, salt, *iterations, output);
                true
            }
        }
    }
}

impl Pbkdf2Digest {
    fn output_bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// The cost of the bcrypt string within a hash of our own scheme.
pub(super) fn own_bcrypt_cost(text: &str) -> Result<u32, Unusable> {
    bcrypt_cost(text).map_err(|flaw| match flaw {
        Flaw::Malformed => Unusable::Malformed(hmac_bcrypt::NAME),
        Flaw::TooCostly => Unusable::TooCostly(hmac_bcrypt::NAME),
    })
}

/// The cost of a bcrypt string that is spelled as bcrypt spells it.
fn bcrypt_cost(text: &str) -> Result<u32, Flaw> {
    let parts = bcrypt::HashParts::from_str(text).map_err(|_| Flaw::Malformed)?;
    let spelled = parts.format_for_version(bcrypt::Version::TwoB);
    let is_canonical = text.get(3..) == spelled.get(3..);
    match parts.get_cost() {
        cost if !is_canonical || cost < 4 => Err(Flaw::Malformed),
        cost if cost > MAX_BCRYPT_COST => Err(Flaw::TooCostly),
        cost => Ok(cost),
    }
}

fn sha256_hex(password: &[u8]) -> Zeroizing<[u8; 64]> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = Zeroizing::new([0; 64]);
    for (pair, byte) in hex.chunks_exact_mut(2).zip(Sha256::digest(password)) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    hex
}
