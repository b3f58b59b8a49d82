//! Holds opened stores against a manifest.

use super::known::{KnownSession, KnownUser, Manifest};
use sessiond::{
    domain::{Email, Password, SessionId, Timestamp, TokenDigest},
    password::{HashingConfig, PasswordHasher, Verdict},
    store::{SessionKey, SessionStore, UserStore},
};
use std::collections::BTreeSet;

/// Everything listed is found, nothing else is, and the stores go on from there.
pub(crate) async fn prove(manifest: &Manifest, users: &dyn UserStore, sessions: &dyn SessionStore) {
    let now = Timestamp::from_millis(manifest.at);
    prove_users(manifest, users).await;
    prove_passwords(manifest, users).await;
    prove_sessions(manifest, sessions, now).await;
    // What is freed is only what is over.
    while sessions.sweep(now, 10).await.unwrap() > 0 {}
    prove_sessions(manifest, sessions, now).await;
    assert_eq!(sessions.count(now).await.unwrap(), manifest.sessions.len() as u64);

    let ended = &manifest.sessions[0];
    let key = SessionKey::Token(digest(&ended.tokens[0]));
    let (id, _) = sessions.destroy(key, now).await.unwrap().unwrap();
    assert_eq!(id.to_string(), ended.id);
    for token in &ended.tokens {
        prove_dead(token, "it was destroyed just now", sessions, now).await;
    }
}

async fn prove_users(manifest: &Manifest, users: &dyn UserStore) {
    assert_eq!(users.count().await.unwrap(), manifest.users.len() as u64);
    let listed = users.list(None, 1000).await.unwrap();
    let listed: BTreeSet<_> = listed.iter().map(|user| user.id.to_string()).collect();
    let known: BTreeSet<_> = manifest.users.iter().map(|user| user.id.clone()).collect();
    assert_eq!(listed, known);
    for known in &manifest.users {
        let by_id = users.by_id(known.id.parse().unwrap()).await.unwrap().unwrap();
        let by_email = users.by_email(email(&known.email).key()).await.unwrap().unwrap();
        for found in [by_id, by_email] {
            assert_eq!(KnownUser::of(&found), *known);
        }
    }
    for gone in &manifest.gone_emails {
        assert_eq!(users.by_email(email(gone).key()).await.unwrap(), None, "{gone}");
    }
}

async fn prove_passwords(manifest: &Manifest, users: &dyn UserStore) {
    let hashing = HashingConfig {
        cost: 10,
        threads: 1,
        ..HashingConfig::default()
    };
    let passwords = PasswordHasher::start(hashing).unwrap();
    assert!(!manifest.passwords.is_empty());
    for (of, password) in &manifest.passwords {
        let stored = users.by_email(email(of).key()).await.unwrap().unwrap();
        let verify =
            |password: String| passwords.verify(Password::new(password), stored.password_hash.clone());
        let verdict = verify(password.clone()).await.unwrap();
        assert!(matches!(verdict, Verdict::Right { .. }), "{of}");
        assert_eq!(verify(format!("{password}!")).await.unwrap(), Verdict::Wrong);
    }
}

async fn prove_sessions(manifest: &Manifest, sessions: &dyn SessionStore, now: Timestamp) {
    for known in &manifest.sessions {
        for token in &known.tokens {
            let found = sessions.get(&digest(token), now).await.unwrap().unwrap();
            assert_eq!(KnownSession::of(&found, &known.tokens), *known);
            let live = sessions.check(&digest(token), now).wait().await.unwrap();
            assert_eq!(live, Some(found.live));
        }
    }
    for (why, token) in &manifest.dead_tokens {
        prove_dead(token, why, sessions, now).await;
    }
    for user in &manifest.users {
        let id = user.id.parse().unwrap();
        let listed = sessions.list(id, None, 1000, now).await.unwrap();
        let listed: BTreeSet<SessionId> = listed.iter().map(|session| session.live.id).collect();
        let of_user = manifest
            .sessions
            .iter()
            .filter(|session| session.user_id == user.id);
        let known = of_user.map(|session| session.id.parse().unwrap()).collect();
        assert_eq!(listed, known);
        // A session that was begun before the last ending must go on finding out that it came too late.
        assert_eq!(
            sessions.epoch(id).await.unwrap().count(),
            manifest.epochs[&user.id]
        );
    }
}

async fn prove_dead(token: &str, why: &str, sessions: &dyn SessionStore, now: Timestamp) {
    let digest = digest(token);
    assert_eq!(sessions.check(&digest, now).wait().await.unwrap(), None, "{why}");
    assert_eq!(sessions.get(&digest, now).await.unwrap(), None, "{why}");
}

fn digest(token: &str) -> TokenDigest {
    TokenDigest::of_presented(token).unwrap()
}

fn email(text: &str) -> Email {
    Email::new("email", text).unwrap()
}
