//! Hashes that other systems have made: plain bcrypt, and argon2id, scrypt and PBKDF2 as PHC strings.
//!
//! Verified as those systems did, over the bytes as received, until the user's next log-in replaces them. What a hash may cost is
//! bounded here, at import as at log-in: a row in a store must not be able to hold a thread for minutes or take gigabytes.

use argon2::{Algorithm, Argon2};
use password_hash::phc::{Output, ParamsString, PasswordHash as Phc, Salt};
use sha2::{Sha256, Sha512};
use std::str::FromStr as _;
use subtle::ConstantTimeEq as _;

/// bcrypt's cost: about 4 s.
pub(super) const MAX_BCRYPT_COST: u32 = 16;

/// Memory of one verification by argon2id or scrypt, in KiB. Each hashing thread may need as much.
const MAX_MEMORY_KIB: u64 = 128 * 1024;

/// Memory that argon2id writes over all its passes, in KiB: about 2 s.
const MAX_ARGON2_FILLED_KIB: u64 = 4 * 1024 * 1024;

/// Memory that scrypt writes over all its parallel parts, in KiB: about 2 s.
const MAX_SCRYPT_FILLED_KIB: u64 = 1024 * 1024;

/// Iterations of PBKDF2: about 2 s with SHA-512.
const MAX_ITERATIONS: u32 = 2_000_000;

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
        function: HashFunction,
        /// Over what besides the password.
        salt: Salt,
        /// What comes out.
        output: Output,
    },
}

/// A function of PHC strings with its parameters.
#[derive(Debug, Clone)]
pub(super) enum HashFunction {
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
    pub(super) fn verify(&self, password: &[u8]) -> bool {
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

impl HashFunction {
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
        ("pbkdf2-sha256", None) => HashFunction::Pbkdf2Sha256(iterations(&phc.params, output.len())?),
        ("pbkdf2-sha512", None) => HashFunction::Pbkdf2Sha512(iterations(&phc.params, output.len())?),
        (_, _) => return Err(Unusable::Malformed),
    };
    Ok(Imported::Phc {
        function,
        salt,
        output,
    })
}

fn argon2id(
    version: Option<u32>,
    params: &ParamsString,
    output_len: usize,
) -> Result<HashFunction, Unusable> {
    let [memory_kib, passes, lanes] = numbers(params, ["m", "t", "p"])?;
    let is_small = u64::from(memory_kib) <= MAX_MEMORY_KIB;
    if !is_small || u64::from(memory_kib) * u64::from(passes) > MAX_ARGON2_FILLED_KIB {
        return Err(Unusable::TooCostly);
    }
    // Without a version, the one before versions were written (RFC 9106 has 0x13 only).
    let version = argon2::Version::try_from(version.unwrap_or(0x10)).map_err(|_| Unusable::Malformed)?;
    let params = argon2::Params::new(memory_kib, passes, lanes, Some(output_len));
    let params = params.map_err(|_| Unusable::Malformed)?;
    Ok(HashFunction::Argon2id(Argon2::new(
        Algorithm::Argon2id,
        version,
        params,
    )))
}

fn scrypt(params: &ParamsString) -> Result<HashFunction, Unusable> {
    let [log_n, block_size, parallelism] = numbers(params, ["ln", "r", "p"])?;
    let log_n = u8::try_from(log_n).map_err(|_| Unusable::TooCostly)?;
    // RFC 7914 §2: 128 * r * N bytes, p times over. Bounded before the crate multiplies r by p.
    let n = 1_u64.checked_shl(u32::from(log_n)).unwrap_or(u64::MAX);
    let memory_kib = n.saturating_mul(u64::from(block_size)).div_ceil(8);
    let filled_kib = memory_kib.saturating_mul(u64::from(parallelism));
    if log_n >= 64 || memory_kib > MAX_MEMORY_KIB || filled_kib > MAX_SCRYPT_FILLED_KIB {
        return Err(Unusable::TooCostly);
    }
    let params = scrypt::Params::new(log_n, block_size, parallelism);
    params.map(HashFunction::Scrypt).map_err(|_| Unusable::Malformed)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWORD: &[u8] = "p\u{e4}ssphr\u{e4}se of L\u{e9}on".as_bytes();

    /// Hashes of [`PASSWORD`], computed by other implementations.
    const HASHES: [&str; 9] = [
        "$2a$05$vcrhGm7dF4zIquGZ5D5nvOupyojoIzUSDXHS0bOyUAygaoLV94.9.",
        "$2b$05$vcrhGm7dF4zIquGZ5D5nvOupyojoIzUSDXHS0bOyUAygaoLV94.9.",
        "$2y$05$vcrhGm7dF4zIquGZ5D5nvOupyojoIzUSDXHS0bOyUAygaoLV94.9.",
        "$argon2id$v=19$m=1024,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$dwJwt0yJI/Oo5OUezreYuCUKYgRwwi5f1/K3Z6vB9aE",
        "$argon2id$v=19$m=1024,t=1,p=4$AAECAwQFBgcICQoLDA0ODw$FvMxijv3Uv9CTmmTLFncgPliCR8pRjRVrzICNGtBfUg",
        "$argon2id$v=16$m=1024,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$r6QYFuikwVGoj4iAHJlKE9R+Gpw3VVwxOTzGjQtXeRk",
        "$scrypt$ln=10,r=8,p=2$AAECAwQFBgcICQoLDA0ODw$N1jqhAKYaeLYo9Kd+q2oBqMBGWZvJXCBm6F+tyTeLcg",
        "$pbkdf2-sha256$i=999$AAECAwQFBgcICQoLDA0ODw$A2Y+9n6chFTQy8KZcDPszxSAd4w",
        "$pbkdf2-sha512$i=1000,l=64$AAECAwQFBgcICQoLDA0ODw\
         $xFqK/dHAincsWimG2QnTGSw4BywARzHQyVaykP3UsWoHNfYXg2f7HVwtF5xTVXkSkdzSzGlDn1y/QzVoVsOD7g",
    ];

    #[test]
    fn s_47_hashes_of_other_systems_verify() {
        for text in HASHES {
            let imported = Imported::parse(text).unwrap();
            assert!(imported.verify(PASSWORD), "{text}");
            assert!(!imported.verify(&PASSWORD[1..]), "{text}");
            assert!(!imported.verify(b""), "{text}");
        }
    }

    #[test]
    fn an_imported_bcrypt_hash_knows_72_bytes_as_its_system_did() {
        let text = "$2b$05$jdUmYnmEyfdMSzoL86aqsOUKiv3W6sAomA48fZe.P/KX3eVongwqC";
        let imported = Imported::parse(text).unwrap();
        let password = "0123456789".repeat(8).into_bytes();
        assert!(imported.verify(&password));
        assert!(imported.verify(&password[..72]));
        assert!(!imported.verify(&password[..71]));
    }

    #[test]
    fn s_51_what_is_no_hash_known_here_is_refused() {
        let bcrypt = HASHES[1];
        let argon2 = HASHES[3];
        for text in [
            String::new(),
            "$".to_owned(),
            "$$$$".to_owned(),
            "a password".to_owned(),
            "$2b$".to_owned(),
            bcrypt[..59].to_owned(),
            format!("{bcrypt}."),
            bcrypt.replace("$2b$", "$2x$"),
            bcrypt.replace("$2b$", "$2$"),
            bcrypt.replace("$05$", "$+5$"),
            bcrypt.replace("$05$", "$03$"),
            bcrypt.replace("$05$", "$5$0"),
            bcrypt.replace("vcrh", "vcr\u{e9}")[..60].to_owned(),
            format!("$2b$05${}", "\u{e9}".repeat(26) + "a"),
            format!("$2b$\u{20ac}{}", "a".repeat(53)),
            "\u{e9}".repeat(30),
            argon2.replace("argon2id", "argon2i"),
            argon2.replace("argon2id", "argon2d"),
            argon2.replace("v=19", "v=18"),
            argon2.replace("m=1024,", ""),
            argon2.replace("m=1024", "m=1"),
            argon2.replace("p=1", "p=0"),
            argon2.replace("p=1", "p=1,keyid=AAAA"),
            argon2.replace("t=2", "t=-2"),
            argon2.rsplit_once('$').unwrap().0.to_owned(),
            argon2.replace("AAECAwQFBgcICQoLDA0ODw", "AAEC"),
            HASHES[6].replace("r=8", "r=0"),
            HASHES[6].replace("$ln", "$v=1$ln"),
            HASHES[7].replace("i=999", "i=0"),
            HASHES[8].replace("l=64", "l=32"),
            format!("{argon2}{}", "A".repeat(300)),
        ] {
            assert_eq!(Imported::parse(&text).err(), Some(Unusable::Malformed), "{text}");
        }
    }

    #[test]
    fn s_51_what_costs_too_much_is_refused_before_it_is_computed() {
        for (text, most, more) in [
            (HASHES[1], "$16$", &["$17$", "$31$"][..]),
            (
                HASHES[3],
                "m=131072,t=2",
                &[
                    "m=131073,t=2",
                    "m=4294967295,t=2",
                    "m=131072,t=33",
                    "m=8,t=4294967295",
                ],
            ),
            (
                HASHES[6],
                "ln=17,r=8,p=2",
                &["ln=18,r=8,p=2", "ln=17,r=8,p=9", "ln=63,r=8,p=2", "ln=64,r=8,p=2"],
            ),
            (
                HASHES[6],
                "ln=1,r=8,p=2",
                &[
                    "ln=1,r=65536,p=65536",
                    "ln=1,r=4294967295,p=4294967295",
                    "ln=4294967295,r=8,p=2",
                ],
            ),
            (HASHES[8], "i=2000000", &["i=2000001", "i=4294967295"]),
        ] {
            let original = ["$05$", "m=1024,t=2", "ln=10,r=8,p=2", "i=1000"]
                .into_iter()
                .find(|it| text.contains(it))
                .unwrap();
            assert!(Imported::parse(&text.replace(original, most)).is_ok(), "{most}");
            for more in more {
                let refused = Imported::parse(&text.replace(original, more));
                assert_eq!(refused.err(), Some(Unusable::TooCostly), "{more}");
            }
        }
    }

    proptest! {
        #[test]
        fn s_51_no_text_panics(text in ".{0,80}", tag in "[$a-z0-9=,-]{0,40}", at in 0..9_usize, cut in 0..120_usize) {
            let _ = Imported::parse(&text);
            let _ = Imported::parse(&format!("${tag}${text}"));
            let hash = HASHES[at];
            let spoiled: String = hash.chars().take(cut).chain(text.chars()).chain(hash.chars().skip(cut + 1)).collect();
            let _ = Imported::parse(&spoiled);
        }
    }
}
