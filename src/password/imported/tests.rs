//! What is taken as a hash, and what is not.

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
        let refused = Imported::parse(&text).err();
        let is_named = matches!(
            refused,
            Some(Unusable::NoHash | Unusable::UnknownScheme(_) | Unusable::Malformed(_))
        );
        assert!(is_named, "{text}: {refused:?}");
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
            assert!(matches!(refused, Err(Unusable::TooCostly(_))), "{more}");
        }
    }
}

#[test]
fn padding_in_a_phc_string_is_taken_if_it_is_right() {
    let padded = |salt: &str, output: &str| {
        let (rest, last) = HASHES[3].rsplit_once('$').unwrap();
        format!("{rest}{salt}${last}{output}")
    };
    for (salt, output) in [("==", "="), ("", "="), ("==", "")] {
        let imported = Imported::parse(&padded(salt, output)).unwrap();
        assert!(imported.verify(PASSWORD), "{salt} {output}");
    }
    for (salt, output) in [("=", "="), ("===", ""), ("", "=="), ("======", "=")] {
        let refused = Imported::parse(&padded(salt, output));
        assert!(
            matches!(refused, Err(Unusable::Malformed("argon2id"))),
            "{salt} {output}"
        );
    }
}

#[test]
fn s_51_hashes_of_frameworks_are_bounded_in_form_and_cost() {
    use Unusable::{Malformed, TooCostly};
    let hex = |bytes: usize| "ab".repeat(bytes);
    let base64 =
        |bytes: usize| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, vec![7; bytes]);
    let of = |text: String| Imported::parse(&text).err();
    for (text, refused) in [
        (format!("pbkdf2_sha256$2000000$salt${}", base64(32)), None),
        (
            format!("pbkdf2_sha256$2000001$salt${}", base64(32)),
            Some(TooCostly("Django pbkdf2_sha256")),
        ),
        (
            format!("pbkdf2_sha256$99999999999$salt${}", base64(32)),
            Some(TooCostly("Django pbkdf2_sha256")),
        ),
        (
            format!("pbkdf2_sha256$1000$salt${}", base64(31)),
            Some(Malformed("Django pbkdf2_sha256")),
        ),
        (
            format!("pbkdf2_sha256$1000$${}", base64(32)),
            Some(Malformed("Django pbkdf2_sha256")),
        ),
        (
            format!("pbkdf2_sha256$+1000$salt${}", base64(32)),
            Some(Malformed("Django pbkdf2_sha256")),
        ),
        (
            format!("pbkdf2_sha256$0$salt${}", base64(32)),
            Some(Malformed("Django pbkdf2_sha256")),
        ),
        (
            format!("pbkdf2_sha1$1000$salt${}$", base64(20)),
            Some(Malformed("Django pbkdf2_sha1")),
        ),
        (format!("scrypt$131072$salt$8$8${}", base64(64)), None),
        (
            format!("scrypt$131072$salt$8$9${}", base64(64)),
            Some(TooCostly("Django scrypt")),
        ),
        (
            format!("scrypt$1000$salt$8$1${}", base64(64)),
            Some(Malformed("Django scrypt")),
        ),
        (
            format!("scrypt:262144:8:1$salt${}", hex(64)),
            Some(TooCostly("Werkzeug scrypt")),
        ),
        (
            format!("scrypt:1024:8:1$salt${}", hex(65)),
            Some(Malformed("Werkzeug scrypt")),
        ),
        (
            format!("scrypt:1024:8:1$salt${}a", hex(32)),
            Some(Malformed("Werkzeug scrypt")),
        ),
        (
            format!("scrypt:1024:8:1$salt${}+a", hex(32)),
            Some(Malformed("Werkzeug scrypt")),
        ),
        (
            format!("pbkdf2:sha256:2000001$salt${}", hex(32)),
            Some(TooCostly("Werkzeug pbkdf2:sha256")),
        ),
        (
            format!("pbkdf2:sha256$salt${}", hex(32)),
            Some(Unusable::UnknownScheme("Werkzeug's PBKDF2 with another digest")),
        ),
        (
            format!("bcrypt_sha256${}", HASHES[1].replace("$05$", "$17$")),
            Some(TooCostly("Django bcrypt_sha256")),
        ),
        (
            format!("bcrypt_sha256${}", HASHES[3]),
            Some(Malformed("Django bcrypt_sha256")),
        ),
        (
            format!("argon2{}", HASHES[3].replace("m=1024", "m=131073")),
            Some(TooCostly("Django argon2")),
        ),
        (format!("argon2{}", HASHES[6]), Some(Malformed("Django argon2"))),
        (
            "$pbkdf2-sha256$1000$AAECAwQFBgcICQoLDA0ODw$AAEC".to_owned(),
            Some(Malformed("pbkdf2-sha256")),
        ),
        // Two blocks of SHA-256 cost as much as two hashes.
        (
            format!("$pbkdf2-sha256$i=1000001$AAECAwQFBgcICQoLDA0ODw${}", base64(33)),
            Some(TooCostly("pbkdf2-sha256")),
        ),
    ] {
        assert_eq!(of(text.clone()), refused, "{text}");
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
