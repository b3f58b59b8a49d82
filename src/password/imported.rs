//! Hashes that other systems have made: plain bcrypt, and argon2id, scrypt and PBKDF2 as PHC strings.
//!
//! Verified as those systems did, over the bytes as received, until the user's next log-in replaces them. What a hash may cost is
//! bounded here, at import as at log-in: a row in a store must not be able to hold a thread for minutes or take gigabytes.

use argon2::{Algorithm, Argon2};
use password_hash::phc::{Output, ParamsString, PasswordHash as Phc, Salt};
use sha2::{Sha256, Sha512};
use std::str::FromStr as _;
use subtle::ConstantTimeEq as _;

/// bcrypt costs: what its definition allows, up to about 4 s.
pub(super) const MAX_BCRYPT_COST: u32 = 16;

/// Memory of one verification by argon2id or scrypt, in KiB. Each hashing thread may need as much.
const MAX_MEMORY_KIB: u64 = 128 * 1024;

/// Memory written by one verification over all its passes, in KiB: about 2 s.
const MAX_FILLED_KIB: u64 = 4 * 1024 * 1024;

/// Iterations of PBKDF2: about 4 s.
const MAX_ITERATIONS: u32 = 5_000_000;

/// Longer texts are no hash of any scheme here.
pub(super) const MAX_TEXT_BYTES: usize = 256;

/// A hash of another system, well-formed and of bounded cost.
#[derive(Debug, Clone)]
pub(super) enum Imported {
    /// `$2a$`, `$2b$` or `$2y$`: one algorithm under three names.
    Bcrypt {
        /// Its whole string.
        text: String,
        /// Its cost.
        cost: u32,
    },
    /// A PHC string.
    Phc {
        /// How it is computed.
        function: Function,
        /// Over what besides the password.
        salt: Salt,
        /// What comes out.
        output: Output,
    },
}

/// A function of PHC strings with its parameters.
#[derive(Debug, Clone)]
pub(super) enum Function {
    /// argon2id.
    Argon2id(Argon2<'static>),
    /// scrypt.
    Scrypt(scrypt::Params),
    /// PBKDF2 with HMAC-SHA-256 and this many iterations.
    Pbkdf2Sha256(u32),
    /// PBKDF2 with HMAC-SHA-512 and this many iterations.
    Pbkdf2Sha512(u32),
}

/// Why a text is no hash that can be verified here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    /// Not well-formed, or of a scheme that is not known here.
    Malformed,
    /// Costs more than is ever spent on one verification.
    TooCostly,
}

impl Imported {
    pub(super) fn parse(text: &str) -> Result<Self, Unusable> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Unusable::Malformed);
        }
        // `$2x$` marks hashes of a faulty implementation, which nothing here computes.
        match ["$2a$", "$2b$", "$2y$"].iter().any(|tag| text.starts_with(tag)) {
            true => {
                let cost = bcrypt_cost(text)?;
                let text = text.to_owned();
                Ok(Self::Bcrypt { text, cost })
            }
            false => phc(text),
        }
    }

    /// Whether the password is the one that the hash was made of. Takes as long as the hash costs.
    pub(super) fn is_right(&self, password: &[u8]) -> bool {
        match self {
            // Reads 72 bytes at most, as the systems did that made such hashes.
            Self::Bcrypt { text, .. } => bcrypt::verify(password, text).unwrap_or(false),
            Self::Phc {
                function,
                salt,
                output,
            } => {
                let mut buffer = [0; Output::MAX_LENGTH];
                let Some(computed) = buffer.get_mut(..output.len()) else {
                    return false;
                };
                function.compute(password, salt, computed) && computed.ct_eq(output.as_ref()).into()
            }
        }
    }
}

impl Function {
    /// Fills `output`; `false` if the function cannot.
    fn compute(&self, password: &[u8], salt: &[u8], output: &mut [u8]) -> bool {
        match self {
            Self::Argon2id(argon2) => argon2.hash_password_into(password, salt, output).is_ok(),
            Self::Scrypt(params) => scrypt::scrypt(password, salt, params, output).is_ok(),
            Self::Pbkdf2Sha256(iterations) => {
                pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, *iterations, output);
                true
            }
            Self::Pbkdf2Sha512(iterations) => {
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, *iterations, output);
                true
            }
        }
    }
}

/// The cost of a bcrypt string that is spelled as bcrypt spells it.
pub(super) fn bcrypt_cost(text: &str) -> Result<u32, Unusable> {
    let parts = bcrypt::HashParts::from_str(text).map_err(|_| Unusable::Malformed)?;
    let spelled = parts.format_for_version(bcrypt::Version::TwoB);
    let is_canonical = text.get(3..) == spelled.get(3..);
    match parts.get_cost() {
        cost if !is_canonical || cost < 4 => Err(Unusable::Malformed),
        cost if cost > MAX_BCRYPT_COST => Err(Unusable::TooCostly),
        cost => Ok(cost),
    }
}

fn phc(text: &str) -> Result<Imported, Unusable> {
    let phc = Phc::new(text).map_err(|_| Unusable::Malformed)?;
    let (Some(salt), Some(output)) = (phc.salt, phc.hash) else {
        return Err(Unusable::Malformed);
    };
    let function = match (phc.algorithm.as_str(), phc.version) {
        ("argon2id", version) => argon2id(version, &phc.params, output.len())?,
        ("scrypt", None) => scrypt(&phc.params)?,
        ("pbkdf2-sha256", None) => Function::Pbkdf2Sha256(iterations(&phc.params, output.len())?),
        ("pbkdf2-sha512", None) => Function::Pbkdf2Sha512(iterations(&phc.params, output.len())?),
        (_, _) => return Err(Unusable::Malformed),
    };
    Ok(Imported::Phc {
        function,
        salt,
        output,
    })
}

fn argon2id(version: Option<u32>, params: &ParamsString, output_len: usize) -> Result<Function, Unusable> {
    let [memory_kib, passes, lanes] = numbers(params, ["m", "t", "p"])?;
    let is_small = u64::from(memory_kib) <= MAX_MEMORY_KIB;
    if !is_small || u64::from(memory_kib) * u64::from(passes) > MAX_FILLED_KIB {
        return Err(Unusable::TooCostly);
    }
    // Without a version, the one before versions were written (RFC 9106 has 0x13 only).
    let version = argon2::Version::try_from(version.unwrap_or(0x10)).map_err(|_| Unusable::Malformed)?;
    let params = argon2::Params::new(memory_kib, passes, lanes, Some(output_len));
    let params = params.map_err(|_| Unusable::Malformed)?;
    Ok(Function::Argon2id(Argon2::new(
        Algorithm::Argon2id,
        version,
        params,
    )))
}

fn scrypt(params: &ParamsString) -> Result<Function, Unusable> {
    let [log_n, block_size, parallelism] = numbers(params, ["ln", "r", "p"])?;
    let log_n = u8::try_from(log_n).map_err(|_| Unusable::TooCostly)?;
    // RFC 7914 §2: 128 * r * N bytes, p times over. Bounded before the crate multiplies r by p.
    let n = 1_u64.checked_shl(u32::from(log_n)).unwrap_or(u64::MAX);
    let memory_kib = n.saturating_mul(u64::from(block_size)).div_ceil(8);
    let filled_kib = memory_kib.saturating_mul(u64::from(parallelism));
    if log_n >= 64 || memory_kib > MAX_MEMORY_KIB || filled_kib > MAX_FILLED_KIB {
        return Err(Unusable::TooCostly);
    }
    let params = scrypt::Params::new(log_n, block_size, parallelism);
    params.map(Function::Scrypt).map_err(|_| Unusable::Malformed)
}

fn iterations(params: &ParamsString, output_len: usize) -> Result<u32, Unusable> {
    let [iterations] = match params.get("l") {
        None => numbers(params, ["i"])?,
        Some(_) => {
            let [iterations, len] = numbers(params, ["i", "l"])?;
            if usize::try_from(len) != Ok(output_len) {
                return Err(Unusable::Malformed);
            }
            [iterations]
        }
    };
    match iterations {
        0 => Err(Unusable::Malformed),
        iterations if iterations > MAX_ITERATIONS => Err(Unusable::TooCostly),
        iterations => Ok(iterations),
    }
}

/// The parameters of these names, all of them numbers, and no others.
fn numbers<const N: usize>(params: &ParamsString, names: [&str; N]) -> Result<[u32; N], Unusable> {
    let mut numbers = [0; N];
    for (number, name) in numbers.iter_mut().zip(names) {
        *number = params.get_decimal(name).ok_or(Unusable::Malformed)?;
    }
    match params.iter().count() == N {
        true => Ok(numbers),
        false => Err(Unusable::Malformed),
    }
}
