//! The forms in which other systems write hashes.

use super::{BcryptInput, Flaw, HashFunction, Imported, Pbkdf2Digest};
use argon2::Algorithm;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use password_hash::phc::{ParamsString, PasswordHash as Phc};
use std::borrow::Cow;

/// A scheme: what its hashes begin with, its name for people, and how the whole text is read.
struct ImportScheme(&'static str, &'static str, fn(&str) -> Result<Imported, Flaw>);

/// The first whose beginning fits. `$2x$` is not among them: it marks hashes of a faulty implementation.
const SCHEMES: [ImportScheme; 19] = [
    ImportScheme("$2a$", "bcrypt", bcrypt),
    ImportScheme("$2b$", "bcrypt", bcrypt),
    ImportScheme("$2y$", "bcrypt", bcrypt),
    ImportScheme("$argon2id$", "argon2id", phc),
    ImportScheme("$argon2i$", "argon2i", phc),
    ImportScheme("$scrypt$", "scrypt", phc),
    ImportScheme("$pbkdf2-sha256$", "pbkdf2-sha256", phc_or_passlib),
    ImportScheme("$pbkdf2-sha512$", "pbkdf2-sha512", phc_or_passlib),
    ImportScheme("$pbkdf2$", "passlib pbkdf2", passlib),
    ImportScheme("pbkdf2_sha256$", "Django pbkdf2_sha256", django_pbkdf2),
    ImportScheme("pbkdf2_sha1$", "Django pbkdf2_sha1", django_pbkdf2),
    ImportScheme("bcrypt_sha256$", "Django bcrypt_sha256", django_bcrypt),
    ImportScheme("bcrypt$", "Django bcrypt", django_bcrypt),
    ImportScheme("argon2$", "Django argon2", django_argon2),
    ImportScheme("scrypt$", "Django scrypt", django_scrypt),
    ImportScheme("scrypt:", "Werkzeug scrypt", werkzeug_scrypt),
    ImportScheme("pbkdf2:sha1:", "Werkzeug pbkdf2:sha1", werkzeug_pbkdf2),
    ImportScheme("pbkdf2:sha256:", "Werkzeug pbkdf2:sha256", werkzeug_pbkdf2),
    ImportScheme("pbkdf2:sha512:", "Werkzeug pbkdf2:sha512", werkzeug_pbkdf2),
];

/// The scheme's name, and the hash; `None`: the text is of no scheme here.
pub(super) fn parse(text: &str) -> Option<(&'static str, Result<Imported, Flaw>)> {
    let ImportScheme(_, name, parse) = SCHEMES
        .iter()
        .find(|ImportScheme(tag, ..)| text.starts_with(tag))?;
    Some((name, parse(text)))
}

fn bcrypt(text: &str) -> Result<Imported, Flaw> {
    Imported::bcrypt(text, BcryptInput::Password)
}

/// A PHC string. Some libraries pad its Base64, against the specification.
fn phc(text: &str) -> Result<Imported, Flaw> {
    let text = without_padding(text)?;
    let phc = Phc::new(&text).map_err(|_| Flaw::Malformed)?;
    let (Some(salt), Some(output)) = (phc.salt, phc.hash) else {
        return Err(Flaw::Malformed);
    };
    let params = &phc.params;
    let argon2 = |algorithm| {
        // Without a version, the one before versions were written (RFC 9106 has 0x13 only).
        let version = phc.version.unwrap_or(0x10);
        HashFunction::argon2(
            algorithm,
            version,
            numbers(params, ["m", "t", "p"])?,
            output.len(),
        )
    };
    let function = match (phc.algorithm.as_str(), phc.version) {
        ("argon2id", _) => argon2(Algorithm::Argon2id)?,
        ("argon2i", _) => argon2(Algorithm::Argon2i)?,
        ("scrypt", None) => {
            let [log_n, block_size, parallelism] = numbers(params, ["ln", "r", "p"])?;
            HashFunction::scrypt(log_n, block_size, parallelism)?
        }
        ("pbkdf2-sha256", None) => phc_pbkdf2(Pbkdf2Digest::Sha256, params, output.len())?,
        ("pbkdf2-sha512", None) => phc_pbkdf2(Pbkdf2Digest::Sha512, params, output.len())?,
        (_, _) => return Err(Flaw::Malformed),
    };
    Imported::derived(function, salt.as_ref().to_vec(), output.as_ref().to_vec())
}

fn phc_pbkdf2(digest: Pbkdf2Digest, params: &ParamsString, output_len: usize) -> Result<HashFunction, Flaw> {
    let [iterations] = match params.get("l") {
        None => numbers(params, ["i"])?,
        Some(_) => {
            let [iterations, len] = numbers(params, ["i", "l"])?;
            if usize::try_from(len) != Ok(output_len) {
                return Err(Flaw::Malformed);
            }
            [iterations]
        }
    };
    HashFunction::pbkdf2(digest, iterations)
}

/// The parameters of these names, all of them numbers, and no others.
fn numbers<const N: usize>(params: &ParamsString, names: [&str; N]) -> Result<[u32; N], Flaw> {
    let mut numbers = [0; N];
    for (number, name) in numbers.iter_mut().zip(names) {
        *number = params.get_decimal(name).ok_or(Flaw::Malformed)?;
    }
    match params.iter().count() == N {
        true => Ok(numbers),
        false => Err(Flaw::Malformed),
    }
}

/// The text with whole and right padding at the end of its last two fields taken away.
fn without_padding(text: &str) -> Result<Cow<'_, str>, Flaw> {
    if !text.contains("=$") && !text.ends_with('=') {
        return Ok(Cow::Borrowed(text));
    }
    let mut fields: Vec<&str> = text.split('$').collect();
    for field in fields.iter_mut().rev().take(2) {
        let bare = field.trim_end_matches('=');
        if bare.len() != field.len() && (field.len() % 4 != 0 || field.len() - bare.len() > 2) {
            return Err(Flaw::Malformed);
        }
        *field = bare;
    }
    Ok(Cow::Owned(fields.join("$")))
}

/// passlib writes `$pbkdf2-sha256$29000$…`, a PHC string `$pbkdf2-sha256$i=29000$…`.
fn phc_or_passlib(text: &str) -> Result<Imported, Flaw> {
    let is_passlib = text
        .split('$')
        .nth(2)
        .is_some_and(|field| field.starts_with(|c: char| c.is_ascii_digit()));
    match is_passlib {
        true => passlib(text),
        false => phc(text),
    }
}

/// `$pbkdf2-sha256$ROUNDS$SALT$HASH`, the latter two in Base64 with `.` for `+` and no padding.
fn passlib(text: &str) -> Result<Imported, Flaw> {
    let ["", scheme, rounds, salt, output] = fields(text, '$')? else {
        return Err(Flaw::Malformed);
    };
    let digest = match scheme {
        "pbkdf2" => Pbkdf2Digest::Sha1,
        "pbkdf2-sha256" => Pbkdf2Digest::Sha256,
        _ => Pbkdf2Digest::Sha512,
    };
    let decode = |field: &str| {
        let is_theirs = !field.contains('+');
        let bytes = STANDARD_NO_PAD.decode(field.replace('.', "+"));
        bytes.ok().filter(|_| is_theirs).ok_or(Flaw::Malformed)
    };
    pbkdf2(digest, rounds, decode(salt)?, decode(output)?)
}

/// `pbkdf2_sha256$ITERATIONS$SALT$HASH`: the salt as it stands, the hash in padded Base64.
fn django_pbkdf2(text: &str) -> Result<Imported, Flaw> {
    let [scheme, iterations, salt, output] = fields(text, '$')?;
    let digest = match scheme {
        "pbkdf2_sha1" => Pbkdf2Digest::Sha1,
        _ => Pbkdf2Digest::Sha256,
    };
    pbkdf2(
        digest,
        iterations,
        salt_as_it_stands(salt)?,
        padded_base64(output)?,
    )
}

/// `bcrypt_sha256$` or `bcrypt$`, and then bcrypt's own string.
fn django_bcrypt(text: &str) -> Result<Imported, Flaw> {
    match text.split_once('$') {
        Some(("bcrypt_sha256", hash)) => Imported::bcrypt(hash, BcryptInput::Sha256Hex),
        Some((_, hash)) => Imported::bcrypt(hash, BcryptInput::Password),
        None => Err(Flaw::Malformed),
    }
}

/// `argon2`, and then a PHC string of argon2id or, in old versions, argon2i.
fn django_argon2(text: &str) -> Result<Imported, Flaw> {
    match text.strip_prefix("argon2") {
        Some(hash) if hash.starts_with("$argon2i") => phc(hash),
        Some(_) | None => Err(Flaw::Malformed),
    }
}

/// `scrypt$N$SALT$r$p$HASH`: the salt as it stands, the hash in padded Base64.
fn django_scrypt(text: &str) -> Result<Imported, Flaw> {
    let [_, n, salt, block_size, parallelism, output] = fields(text, '$')?;
    let function = HashFunction::scrypt(log2(n)?, decimal(block_size)?, decimal(parallelism)?)?;
    Imported::derived(function, salt_as_it_stands(salt)?, padded_base64(output)?)
}

/// `scrypt:N:r:p$SALT$HASH`: the salt as it stands, the hash in hexadecimal.
fn werkzeug_scrypt(text: &str) -> Result<Imported, Flaw> {
    let [method, salt, output] = fields(text, '$')?;
    let [_, n, block_size, parallelism] = fields(method, ':')?;
    let function = HashFunction::scrypt(log2(n)?, decimal(block_size)?, decimal(parallelism)?)?;
    Imported::derived(function, salt_as_it_stands(salt)?, hexadecimal(output)?)
}

/// `pbkdf2:sha256:ITERATIONS$SALT$HASH`: the salt as it stands, the hash in hexadecimal.
fn werkzeug_pbkdf2(text: &str) -> Result<Imported, Flaw> {
    let [method, salt, output] = fields(text, '$')?;
    let [_, digest, iterations] = fields(method, ':')?;
    let digest = match digest {
        "sha1" => Pbkdf2Digest::Sha1,
        "sha256" => Pbkdf2Digest::Sha256,
        _ => Pbkdf2Digest::Sha512,
    };
    pbkdf2(digest, iterations, salt_as_it_stands(salt)?, hexadecimal(output)?)
}

/// A hash of the whole output of the digest, as all of these systems make it.
fn pbkdf2(digest: Pbkdf2Digest, iterations: &str, salt: Vec<u8>, output: Vec<u8>) -> Result<Imported, Flaw> {
    if output.len() != digest.output_bytes() {
        return Err(Flaw::Malformed);
    }
    let function = HashFunction::pbkdf2(digest, decimal(iterations)?)?;
    Imported::derived(function, salt, output)
}

/// The fields between the separators, if there are so many.
fn fields<const N: usize>(text: &str, separator: char) -> Result<[&str; N], Flaw> {
    let fields: Vec<&str> = text.split(separator).collect();
    fields.try_into().map_err(|_| Flaw::Malformed)
}

fn salt_as_it_stands(text: &str) -> Result<Vec<u8>, Flaw> {
    match text.is_empty() {
        true => Err(Flaw::Malformed),
        false => Ok(text.as_bytes().to_vec()),
    }
}

fn padded_base64(text: &str) -> Result<Vec<u8>, Flaw> {
    STANDARD.decode(text).map_err(|_| Flaw::Malformed)
}

fn hexadecimal(text: &str) -> Result<Vec<u8>, Flaw> {
    let nibble = |byte: u8| char::from(byte).to_digit(16).ok_or(Flaw::Malformed);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Flaw::Malformed);
    }
    pairs
        .iter()
        .map(|&[high, low]| Ok((nibble(high)? << 4 | nibble(low)?) as u8))
        .collect()
}

/// A number as those systems write it. One that is too great for anything is too costly.
fn decimal(text: &str) -> Result<u32, Flaw> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    match is_number && !text.is_empty() {
        true => text.parse().map_err(|_| Flaw::TooCostly),
        false => Err(Flaw::Malformed),
    }
}

fn log2(text: &str) -> Result<u32, Flaw> {
    let n = decimal(text)?;
    match n.is_power_of_two() && n > 1 {
        true => Ok(n.ilog2()),
        false => Err(Flaw::Malformed),
    }
}
