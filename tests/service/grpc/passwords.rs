//! Passwords: the rules, the changes, and what a change ends.

use sessiond::pb::{
    self, change_password_request::Subject, create_user_request::Credential as New,
    set_password_request::Credential as Set,
};
use testkit::service::{PASSWORD, Process, Service, bad_fields, reason};
use tonic::{Code, Status};

const OTHER_PASSWORD: &str = "a zebra that eats batteries";

async fn user_with(process: &Process, email: &str, credential: New) -> Result<pb::User, Status> {
    let request = pb::CreateUserRequest {
        email: email.into(),
        credential: Some(credential),
        ..Default::default()
    };
    Ok(process
        .users
        .clone()
        .create_user(request)
        .await?
        .into_inner()
        .user
        .unwrap())
}

async fn change(
    process: &Process,
    subject: Subject,
    current: &str,
    new: &str,
) -> Result<pb::ChangePasswordResponse, Status> {
    let request = pb::ChangePasswordRequest {
        subject: Some(subject),
        current_password: current.into(),
        new_password: new.into(),
    };
    Ok(process.users.clone().change_password(request).await?.into_inner())
}

pub(crate) async fn s_16_a_changed_password_ends_the_other_sessions(service: Service) {
    let user = service.here.user("ann@example.com").await;
    let mut tokens = Vec::new();
    for _ in 0..5 {
        tokens.push(service.here.session_of(&user).await.session_token);
    }
    service.advance(60);
    let subject = Subject::SessionToken(tokens[0].clone());
    let changed = change(&service.here, subject, PASSWORD, OTHER_PASSWORD)
        .await
        .unwrap();
    for token in &tokens {
        assert!(!service.there.is_alive(token).await);
    }
    assert!(service.there.is_alive(&changed.session_token).await);
    let session = changed.session.unwrap();
    assert_eq!(
        session.authenticated_at.unwrap().seconds - session.created_at.unwrap().seconds,
        60
    );
    assert_eq!(
        reason(
            &service
                .there
                .log_in("ann@example.com", PASSWORD)
                .await
                .unwrap_err()
        ),
        "INVALID_CREDENTIALS"
    );
    assert!(
        service
            .there
            .log_in("ann@example.com", OTHER_PASSWORD)
            .await
            .is_ok()
    );

    let changed = change(&service.there, Subject::UserId(user.id), OTHER_PASSWORD, PASSWORD)
        .await
        .unwrap();
    assert_eq!((changed.session_token.as_str(), changed.session), ("", None));
    assert!(service.here.log_in("ann@example.com", PASSWORD).await.is_ok());
}

pub(crate) async fn s_36_a_password_that_cannot_be_one_costs_no_hash(service: Service) {
    service.here.user("ann@example.com").await;
    let before = service.here.hasher.stats().computed;
    for password in ["x".repeat(257), "x".repeat(10_000), "\u{1f434}".repeat(257)] {
        let refused = service
            .here
            .log_in("ann@example.com", &password)
            .await
            .unwrap_err();
        assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
    }
    let too_short = user_with(
        &service.here,
        "bob@example.com",
        New::Password("fourteen chars".into()),
    )
    .await;
    assert_eq!(bad_fields(&too_short.unwrap_err()), ["password"]);
    let too_long = user_with(&service.here, "bob@example.com", New::Password("x".repeat(257))).await;
    assert_eq!(bad_fields(&too_long.unwrap_err()), ["password"]);
    assert_eq!(service.here.hasher.stats().computed, before);

    let horses = "\u{1f434}".repeat(64);
    user_with(&service.here, "bob@example.com", New::Password(horses.clone()))
        .await
        .unwrap();
    assert!(service.here.log_in("bob@example.com", &horses).await.is_ok());
}

pub(crate) async fn s_38_a_password_is_compared_exactly(service: Service) {
    service.here.user("ann@example.com").await;
    for password in [
        format!("{PASSWORD} "),
        format!(" {PASSWORD}"),
        PASSWORD.to_uppercase(),
        PASSWORD[..PASSWORD.len() - 1].to_owned(),
    ] {
        let refused = service
            .here
            .log_in("ann@example.com", &password)
            .await
            .unwrap_err();
        assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
    }
}

pub(crate) async fn s_39_every_byte_of_a_long_password_counts(service: Service) {
    let password: String = (0..80)
        .map(|n: u32| char::from_digit(n * n % 31 % 10, 10).unwrap())
        .collect();
    user_with(&service.here, "ann@example.com", New::Password(password.clone()))
        .await
        .unwrap();
    assert!(service.here.log_in("ann@example.com", &password).await.is_ok());
    for position in [70, 71, 72, 79] {
        let mut other = password.clone().into_bytes();
        other[position] = b'_';
        let other = String::from_utf8(other).unwrap();
        assert!(
            service.here.log_in("ann@example.com", &other).await.is_err(),
            "byte {position}"
        );
    }
}

pub(crate) async fn s_40_nul_does_not_cut_a_password(service: Service) {
    service.here.user("ann@example.com").await;
    for password in [
        format!("{PASSWORD}\0{PASSWORD}"),
        format!("{PASSWORD}\0"),
        format!("\0{PASSWORD}"),
    ] {
        let refused = service
            .here
            .log_in("ann@example.com", &password)
            .await
            .unwrap_err();
        assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
        let refused = user_with(&service.here, "bob@example.com", New::Password(password))
            .await
            .unwrap_err();
        assert_eq!(bad_fields(&refused), ["password"]);
    }
}

pub(crate) async fn s_41_both_spellings_of_a_character_are_one_password(service: Service) {
    let composed = "caf\u{e9} caf\u{e9} caf\u{e9} caf\u{e9}";
    let decomposed = "cafe\u{301} cafe\u{301} cafe\u{301} cafe\u{301}";
    user_with(&service.here, "ann@example.com", New::Password(composed.into()))
        .await
        .unwrap();
    assert!(service.here.log_in("ann@example.com", decomposed).await.is_ok());
    user_with(
        &service.here,
        "bob@example.com",
        New::Password("the \u{fb01}sh is in the sea".into()),
    )
    .await
    .unwrap();
    assert!(
        service
            .here
            .log_in("bob@example.com", "the fish is in the sea")
            .await
            .is_err()
    );
}

pub(crate) async fn s_42_a_common_password_is_refused_with_a_reason(service: Service) {
    for password in [
        "passwordpassword",
        "sessiondsessiond",
        "annannannannann",
        "ann@example.com",
    ] {
        let refused = user_with(&service.here, "ann@example.com", New::Password(password.into()))
            .await
            .unwrap_err();
        assert_eq!(bad_fields(&refused), ["password"], "{password}");
        assert!(refused.message().contains("password "), "{}", refused.message());
        assert!(!refused.message().contains(password));
    }
}

/// bcrypt of "correct horse battery" at cost 10, made with another implementation.
const IMPORTED: &str = "$2b$10$abcdefghijklmnopqrstuuaMRCTDPXHUOqmqC3cSkYLRQbQ5VVXjG";

pub(crate) async fn s_47_an_imported_hash_is_replaced_at_log_in(service: Service) {
    let imported = bcrypt::hash("an imported password", 10).unwrap();
    let user = user_with(
        &service.here,
        "ann@example.com",
        New::PasswordHash(imported.clone()),
    )
    .await
    .unwrap();
    let stored = async || {
        let id = user.id.parse().unwrap();
        let record = service.user_store.by_id(id).await.unwrap().unwrap();
        record.password_hash.unwrap().expose().to_owned()
    };
    assert!(
        service
            .here
            .log_in("ann@example.com", "a wrong password")
            .await
            .is_err()
    );
    let before = stored().await;
    assert!(
        service
            .here
            .log_in("ann@example.com", "an imported password")
            .await
            .is_ok()
    );
    let after = stored().await;
    assert_ne!(before, after);
    assert!(!after.contains(&imported));
    assert!(
        service
            .there
            .log_in("ann@example.com", "an imported password")
            .await
            .is_ok()
    );
    assert_eq!(stored().await, after, "what is up to date stays");

    for hash in [
        "",
        "x",
        "$2x$10$",
        "$2b$31$abcdefghijklmnopqrstuuaMRCTDPXHUOqmqC3cSkYLRQbQ5VVXjG",
        &IMPORTED[..59],
    ] {
        let refused = user_with(&service.here, "bob@example.com", New::PasswordHash(hash.into()))
            .await
            .unwrap_err();
        assert_eq!(bad_fields(&refused), ["password_hash"], "{hash}");
    }
}

pub(crate) async fn s_47_a_rehash_never_undoes_a_password_change(service: Service) {
    for round in 0..5 {
        let email = format!("user{round}@example.com");
        let imported = bcrypt::hash(PASSWORD, 10).unwrap();
        let user = user_with(&service.here, &email, New::PasswordHash(imported))
            .await
            .unwrap();
        let log_ins: Vec<_> = (0..3)
            .map(|n| {
                let process = if n % 2 == 0 {
                    service.here.clone()
                } else {
                    service.there.clone()
                };
                let email = email.clone();
                tokio::spawn(async move { process.log_in(&email, PASSWORD).await })
            })
            .collect();
        change(&service.there, Subject::UserId(user.id), PASSWORD, OTHER_PASSWORD)
            .await
            .unwrap();
        for log_in in log_ins {
            if let Ok(created) = log_in.await.unwrap() {
                assert!(!service.here.is_alive(&created.session_token).await);
            }
        }
        assert!(service.here.log_in(&email, PASSWORD).await.is_err());
        assert!(service.here.log_in(&email, OTHER_PASSWORD).await.is_ok());
    }
}

pub(crate) async fn s_51_a_malformed_hash_logs_nobody_in(service: Service) {
    use sessiond::{domain::PasswordHash, store::ReplacedHash};
    let user = service.here.user("ann@example.com").await;
    let id = user.id.parse().unwrap();
    for malformed in [
        "",
        "x",
        "$2x$12$abcdefghijklmnopqrstuuaMRCTDPXHUOqmqC3cSkYLRQbQ5VVXjG",
        &"\u{e9}".repeat(30),
    ] {
        let hash = PasswordHash::from_stored(malformed.to_owned());
        assert!(
            service
                .user_store
                .replace_password(id, ReplacedHash::Any, &hash)
                .await
                .unwrap()
        );
        for password in ["", "x", PASSWORD] {
            assert!(service.here.log_in("ann@example.com", password).await.is_err());
        }
    }
    let hash = PasswordHash::from_stored(IMPORTED.replace("$10$", "$31$"));
    assert!(
        service
            .user_store
            .replace_password(id, ReplacedHash::Any, &hash)
            .await
            .unwrap()
    );
    assert_eq!(
        reason(
            &service
                .here
                .log_in("ann@example.com", PASSWORD)
                .await
                .unwrap_err()
        ),
        "INVALID_CREDENTIALS"
    );
}

pub(crate) async fn an_administrator_sets_a_password(service: Service) {
    let user = service.here.user("ann@example.com").await;
    let token = service.here.session_of(&user).await.session_token;
    let set = async |id: &str, credential| {
        let request = pb::SetPasswordRequest {
            user_id: id.into(),
            credential,
        };
        service.here.users.clone().set_password(request).await
    };
    let set_user = set(&user.id, Some(Set::Password(OTHER_PASSWORD.into())))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(set_user.user.unwrap().id, user.id);
    assert!(!service.there.is_alive(&token).await);
    assert!(
        service
            .there
            .log_in("ann@example.com", OTHER_PASSWORD)
            .await
            .is_ok()
    );
    let imported = bcrypt::hash(PASSWORD, 10).unwrap();
    set(&user.id, Some(Set::PasswordHash(imported))).await.unwrap();
    assert!(service.there.log_in("ann@example.com", PASSWORD).await.is_ok());

    let missing = set(
        "01890000-0000-7000-8000-000000000000",
        Some(Set::Password(OTHER_PASSWORD.into())),
    )
    .await;
    assert_eq!(missing.unwrap_err().code(), Code::NotFound);
    assert_eq!(
        bad_fields(&set("", None).await.unwrap_err()),
        ["user_id", "credential"]
    );
}

pub(crate) async fn s_20_a_wrong_current_password_changes_nothing(service: Service) {
    let user = service.here.user("ann@example.com").await;
    let token = service.here.session_of(&user).await.session_token;
    let subject = || Subject::SessionToken(token.clone());
    let refused = change(&service.here, subject(), "a wrong password", OTHER_PASSWORD)
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
    let refused = change(&service.here, subject(), PASSWORD, "short")
        .await
        .unwrap_err();
    assert_eq!(bad_fields(&refused), ["new_password"]);
    let refused = change(&service.here, subject(), "", "").await.unwrap_err();
    assert_eq!(bad_fields(&refused), ["current_password", "new_password"]);
    let refused = change(
        &service.here,
        Subject::SessionToken("x".into()),
        PASSWORD,
        OTHER_PASSWORD,
    )
    .await
    .unwrap_err();
    assert_eq!(reason(&refused), "INVALID_SESSION");
    assert!(service.there.is_alive(&token).await);
    assert!(service.there.log_in("ann@example.com", PASSWORD).await.is_ok());
}
