//! Passwords through the hasher's public face, at the lowest cost that can be configured.

use futures_util::FutureExt as _;
use sessiond::{
    domain::{Password, PasswordHash},
    password::{HashingBusy, HashingConfig, HashingConfigError, PasswordHasher, Verdict},
};
use std::{sync::LazyLock, time::Duration};

const RIGHT: Verdict = Verdict::Right { rehashed: None };

fn config() -> HashingConfig {
    HashingConfig {
        cost: 10,
        ..HashingConfig::default()
    }
}

fn hasher() -> PasswordHasher {
    static HASHER: LazyLock<PasswordHasher> = LazyLock::new(|| {
        let config = HashingConfig {
            queue: 1_000,
            ..config()
        };
        PasswordHasher::start(config).unwrap()
    });
    HASHER.clone()
}

fn password(text: &str) -> Password {
    Password::new(text.to_owned())
}

async fn hash(text: &str) -> PasswordHash {
    hasher().hash(password(text)).await.unwrap()
}

async fn verify(text: &str, stored: &PasswordHash) -> Verdict {
    hasher()
        .verify(password(text), Some(stored.clone()))
        .await
        .unwrap()
}

#[tokio::test]
async fn s_36_what_cannot_be_a_password_is_wrong_at_once_and_computes_nothing() {
    // Of its own, so that nothing else counts.
    let hasher = PasswordHasher::start(config()).unwrap();
    let stored = hasher.hash(password("fox, owl and bee")).await.unwrap();
    assert_eq!(hasher.stats().computed, 1);
    let long = ["a".repeat(257), "a".repeat(1 << 20), "\u{1f600}".repeat(257)];
    for text in ["", "\0", &long[0], &long[1], &long[2]] {
        for stored in [None, Some(stored.clone())] {
            // Never pending: it has not been near the pool.
            let verdict = hasher.verify(password(text), stored).now_or_never();
            assert_eq!(verdict, Some(Ok(Verdict::Wrong)));
        }
    }
    assert_eq!(hasher.stats().computed, 1);

    let longest = "\u{1f600}".repeat(256);
    let stored = hasher.hash(password(&longest)).await.unwrap();
    assert_eq!(hasher.verify(password(&longest), Some(stored)).await, Ok(RIGHT));
    assert_eq!(hasher.stats().computed, 3);
}

#[test]
fn s_36_the_minimum_length_can_be_lowered_to_8_and_not_below() {
    let with = |min_chars| {
        PasswordHasher::start(HashingConfig {
            min_chars,
            ..config()
        })
    };
    let text = password("eightch.");
    assert!(with(8).unwrap().check_new("password", &text, &[]).is_ok());
    assert!(hasher().check_new("password", &text, &[]).is_err());
    assert!(matches!(with(7), Err(HashingConfigError::MinChars(7))));
    assert!(matches!(with(257), Err(HashingConfigError::MinChars(257))));
}

#[tokio::test]
async fn s_38_a_password_is_compared_exactly_as_given() {
    let stored = hash("Fox, Owl and Bee").await;
    assert_eq!(verify("Fox, Owl and Bee", &stored).await, RIGHT);
    for other in [
        "Fox, Owl and Bee ",
        " Fox, Owl and Bee",
        "fOX, oWL AND bEE",
        "fox, owl and bee",
        "Fox, Owl and Be",
    ] {
        assert_eq!(verify(other, &stored).await, Verdict::Wrong, "{other:?}");
    }
}

#[tokio::test]
async fn s_39_every_byte_of_a_long_password_counts() {
    let right = "0123456789".repeat(8);
    let stored = hash(&right).await;
    assert_eq!(verify(&right, &stored).await, RIGHT);
    for at in [71, 72, 73, 79] {
        let mut other = right.clone();
        other.replace_range(at..=at, "x");
        assert_eq!(verify(&other, &stored).await, Verdict::Wrong, "byte {at}");
    }
}

#[tokio::test]
async fn s_40_nul_ends_no_password() {
    let ours = hash("hunter2").await;
    // bcrypt alone takes "hunter2\0hunter2" for "hunter2".
    let imported = PasswordHash::from_stored(bcrypt::hash("hunter2", 4).unwrap());
    for stored in [ours, imported] {
        for text in ["hunter2\0hunter2", "hunter2\0", "\0", "\0hunter2"] {
            assert_eq!(verify(text, &stored).await, Verdict::Wrong, "{text:?}");
        }
        assert!(matches!(verify("hunter2", &stored).await, Verdict::Right { .. }));
    }
    let refused = hasher().check_new("password", &password("hunter2\0hunter2 hunter2"), &[]);
    assert!(refused.unwrap_err().description.contains("U+0000"));
}

#[tokio::test]
async fn s_41_two_spellings_of_a_character_are_one_password() {
    let stored = hash("caf\u{e9} \u{fb01}lled at dawn").await;
    assert_eq!(verify("cafe\u{301} \u{fb01}lled at dawn", &stored).await, RIGHT);
    // NFC, not NFKC: a ligature is not its letters.
    assert_eq!(verify("caf\u{e9} filled at dawn", &stored).await, Verdict::Wrong);
}

#[test]
fn s_42_a_refusal_names_the_field_and_the_rule() {
    let refusal = |text, context: &[&str]| {
        hasher()
            .check_new("user.password", &password(text), context)
            .unwrap_err()
    };
    let common = refusal("passwordpassword", &["zoe"]);
    assert_eq!(common.field, "user.password");
    assert_eq!(
        common.description,
        "must not be a common password, nor a repetition of one"
    );
    let context = refusal("quartermainequartermaine", &["zebulon.quartermaine"]);
    assert_eq!(
        context.description,
        "must not be made of the user's email or the service's name"
    );
}

#[tokio::test]
async fn s_46_the_cost_is_from_10_to_16() {
    let with = |cost| PasswordHasher::start(HashingConfig { cost, ..config() });
    for cost in [0, 9, 17, 31, u32::MAX] {
        assert!(matches!(with(cost), Err(HashingConfigError::Cost(said)) if said == cost));
    }
    assert_eq!(HashingConfig::default().cost, 12);
    let stored = with(11)
        .unwrap()
        .hash(password("fox, owl and bee"))
        .await
        .unwrap();
    assert!(stored.expose().starts_with("$sessiond-bcrypt$v=1,k=0$2b$11$"));
}

#[tokio::test]
async fn s_47_an_imported_hash_is_replaced_by_one_of_ours() {
    for text in [
        "$2y$05$vcrhGm7dF4zIquGZ5D5nvOupyojoIzUSDXHS0bOyUAygaoLV94.9.",
        "$argon2id$v=19$m=1024,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$dwJwt0yJI/Oo5OUezreYuCUKYgRwwi5f1/K3Z6vB9aE",
        "$scrypt$ln=10,r=8,p=2$AAECAwQFBgcICQoLDA0ODw$N1jqhAKYaeLYo9Kd+q2oBqMBGWZvJXCBm6F+tyTeLcg",
        "$pbkdf2-sha256$i=999$AAECAwQFBgcICQoLDA0ODw$A2Y+9n6chFTQy8KZcDPszxSAd4w",
    ] {
        let right = "p\u{e4}ssphr\u{e4}se of L\u{e9}on";
        let imported = hasher()
            .check_import("user.password_hash", text)
            .unwrap()
            .unwrap();
        let Verdict::Right { rehashed: Some(ours) } = verify(right, &imported).await else {
            panic!("not replaced: {text}");
        };
        assert!(ours.expose().starts_with("$sessiond-bcrypt$v=1,k=0$2b$10$"));
        assert_eq!(verify(right, &ours).await, RIGHT);
        assert_eq!(
            hasher().check_import("user.password_hash", ours.expose()),
            Ok(Some(ours))
        );
    }
}

#[tokio::test]
async fn an_import_that_cannot_be_verified_is_refused_by_name() {
    let refusal = |text: &str| hasher().check_import("user.password_hash", text).unwrap_err();
    let too_costly = "$2b$31$vcrhGm7dF4zIquGZ5D5nvOupyojoIzUSDXHS0bOyUAygaoLV94.9.";
    let unknown_pepper = hash("fox, owl and bee").await.expose().replace("k=0", "k=2026");
    for (text, rule) in [
        ("", "must be a hash of bcrypt, or"),
        ("a password", "must be a hash of bcrypt, or"),
        ("$1$salt$hash", "must be a hash of bcrypt, or"),
        ("$sessiond-bcrypt$v=1,k=0", "must be well-formed"),
        ("$sessiond-bcrypt$v=2,k=0$2b$10$", "must be a hash of bcrypt, or"),
        (too_costly, "must take no more than"),
        (&unknown_pepper, "must be a hash made with a pepper"),
    ] {
        let violation = refusal(text);
        assert_eq!(violation.field, "user.password_hash");
        assert!(violation.description.starts_with(rule), "{violation} for {text}");
    }
}

#[tokio::test]
async fn s_51_a_malformed_stored_hash_is_a_wrong_password() {
    let bcrypt = "$2b$05$vcrhGm7dF4zIquGZ5D5nvOupyojoIzUSDXHS0bOyUAygaoLV94.9.";
    for text in [
        "",
        &"\u{e9}".repeat(30),
        &format!("$2b$05${}", "\u{e9}".repeat(26) + "a"),
        &bcrypt.replace("$2b$", "$2x$"),
        &bcrypt.replace("$05$", "$31$"),
        &format!("$sessiond-bcrypt$v=1,k=0{}", bcrypt.replace("$05$", "$31$")),
        &format!("$sessiond-bcrypt$v=1,k=0{}", &bcrypt[..40]),
        "$sessiond-bcrypt$v=1,k=",
        "$argon2id$v=19$m=4294967295,t=4294967295,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODw",
        "$scrypt$ln=63,r=4294967295,p=4294967295$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODw",
    ] {
        let stored = PasswordHash::from_stored(text.to_owned());
        let asked = verify("p\u{e4}ssphr\u{e4}se of L\u{e9}on", &stored);
        let verdict = tokio::time::timeout(Duration::from_secs(20), asked).await;
        assert_eq!(verdict, Ok(Verdict::Wrong), "{text}");
    }
}

#[tokio::test]
async fn s_60_nobody_costs_one_hash() {
    let hasher = PasswordHasher::start(config()).unwrap();
    let verdict = hasher.verify(password("fox, owl and bee"), None).await;
    assert_eq!(verdict, Ok(Verdict::Wrong));
    assert_eq!(hasher.stats().computed, 1);
}

#[tokio::test]
async fn s_48_what_the_queue_cannot_hold_is_refused_the_rest_is_answered() {
    let hasher = PasswordHasher::start(HashingConfig {
        threads: 2,
        queue: 4,
        ..config()
    })
    .unwrap();
    // Polled one after the other on this thread: each is queued or refused before the next.
    let asked = (0..100).map(|_| hasher.verify(password("fox, owl and bee"), None));
    let answers = futures_util::future::join_all(asked).await;
    let mut verdicts = 0;
    for answer in answers {
        match answer {
            Ok(verdict) => {
                assert_eq!(verdict, Verdict::Wrong);
                verdicts += 1;
            }
            Err(HashingBusy { retry_after }) => {
                assert!(retry_after >= Duration::from_secs(1) && retry_after.subsec_nanos() == 0);
            }
        }
    }
    // Two run and four wait; a few more if a thread was through with its first before all had asked.
    assert!((6..50).contains(&verdicts), "{verdicts}");
    assert_eq!(hasher.stats().computed, verdicts);
}

#[tokio::test]
async fn s_48_callers_that_leave_never_make_more_run_than_there_are_threads() {
    let hasher = PasswordHasher::start(HashingConfig {
        threads: 2,
        queue: 8,
        ..config()
    })
    .unwrap();
    for _ in 0..10_000 {
        // Polled once, which queues or refuses it, and dropped.
        let asked = hasher.verify(password("fox, owl and bee"), None).now_or_never();
        assert!(matches!(asked, None | Some(Err(HashingBusy { .. }))));
        assert!(hasher.stats().running <= 2);
    }
    // Callers that stay are served, however many have left.
    let verdict = hasher.verify(password("fox, owl and bee"), None).await;
    assert_eq!(verdict, Ok(Verdict::Wrong));
    assert!(hasher.stats().computed < 100, "{:?}", hasher.stats());
}

/// What the libraries made that people come from: which made it, the scheme or what becomes of it, the hash. Its `make.py` says how.
fn framework_hashes() -> impl Iterator<Item = [&'static str; 3]> {
    let lines = include_str!("framework_hashes/hashes.tsv").lines();
    lines.map(|line| line.split('\t').collect::<Vec<_>>().try_into().unwrap())
}

#[tokio::test]
async fn s_47_hashes_of_django_werkzeug_and_passlib_are_taken_and_replaced() {
    let right = "p\u{e4}ssphr\u{e4}se of L\u{e9}on";
    let mut taken = 0;
    for [maker, scheme, text] in framework_hashes() {
        let is_taken = !scheme.starts_with("refused") && scheme != "no password";
        if !is_taken {
            continue;
        }
        taken += 1;
        let imported = hasher().check_import("password_hash", text).unwrap().unwrap();
        // Those take a second each.
        if scheme == "default cost" {
            continue;
        }
        let Verdict::Right { rehashed: Some(ours) } = verify(right, &imported).await else {
            panic!("{maker} {scheme}: not replaced");
        };
        assert_eq!(verify(right, &ours).await, RIGHT, "{maker} {scheme}");
        let wrong = verify("p\u{e4}ssphr\u{e4}se of L\u{e9}a", &imported).await;
        assert_eq!(wrong, Verdict::Wrong, "{maker} {scheme}");
    }
    assert_eq!(taken, 25);
}

#[test]
fn a_hash_that_is_refused_is_told_by_its_schemes_name() {
    let mut refused = 0;
    for [maker, scheme, text] in framework_hashes() {
        let Some(name) = scheme.strip_prefix("refused: ") else {
            continue;
        };
        refused += 1;
        let violation = hasher().check_import("password_hash", text).unwrap_err();
        assert!(violation.description.contains(name), "{maker}: {violation}");
        assert!(!violation.description.contains(text), "{maker}: {violation}");
    }
    assert_eq!(refused, 9);
}

#[test]
fn djangos_mark_of_an_unusable_password_is_no_password() {
    let [_, _, text] = framework_hashes()
        .find(|[_, scheme, _]| *scheme == "no password")
        .unwrap();
    assert_eq!(hasher().check_import("password_hash", text), Ok(None));
}
