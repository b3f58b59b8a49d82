//! Schemes that are known by name only, so that a refusal can say what was presented.

/// What hashes of a scheme begin with, and its name for people.
const SCHEMES: [(&str, &str); 22] = [
    ("$2x$", "a faulty bcrypt ($2x$)"),
    ("$2$", "the first bcrypt ($2$)"),
    ("$argon2d$", "argon2d"),
    ("$bcrypt-sha256$", "passlib's bcrypt-sha256"),
    ("$1$", "md5-crypt"),
    ("$apr1$", "Apache's md5-crypt"),
    ("$5$", "sha256-crypt"),
    ("$6$", "sha512-crypt"),
    ("$y$", "yescrypt"),
    ("$7$", "scrypt of crypt(3)"),
    ("$P$", "phpass"),
    ("$H$", "phpass"),
    ("$wp$", "WordPress's bcrypt over HMAC"),
    ("$S$", "Drupal's SHA-512"),
    ("md5$", "Django's MD5"),
    ("sha1$", "Django's SHA-1"),
    ("unsalted_", "an unsalted digest of Django"),
    ("bcrypt_", "a bcrypt variant of Django that is not bcrypt_sha256"),
    ("pbkdf2:", "Werkzeug's PBKDF2 with another digest"),
    ("pbkdf2_", "Django's PBKDF2 with another digest"),
    ("{", "an LDAP scheme"),
    ("AQAAAA", "ASP.NET Identity"),
];

/// The name of the scheme that a text seems to be of.
pub(super) fn scheme_of(text: &str) -> Option<&'static str> {
    let known = SCHEMES.iter().find(|(tag, _)| text.starts_with(tag));
    known.map(|(_, name)| *name).or_else(|| {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_hex && matches!(text.len(), 32 | 40 | 64 | 96 | 128)).then_some("a bare digest")
    })
}
