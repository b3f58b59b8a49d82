//! What a check finds, and when it stops finding it.

use sessiond::{
    domain::{Attributes, AuthMethod, Client},
    store::SessionStore,
};
use std::collections::BTreeMap;
use testkit::{
    samples::{
        IDLE_TIMEOUT, LIFETIME, check, digest, lives, log_in, log_in_with, millis, secs, start, user_id,
    },
    stores::Opened,
    waiting::{PATIENCE, within},
};

type Sessions = Opened<dyn SessionStore>;

pub(crate) async fn a_check_finds_what_create_stored_and_nothing_else(store: Sessions) {
    let now = start();
    let first = log_in(&*store.here, user_id(), now).await;
    let second = log_in(&*store.here, user_id(), now).await;
    for new in [&first, &second] {
        assert_eq!(
            check(&*store.there, &new.digest, now).await,
            Some(new.session.live)
        );
    }
    assert_eq!(check(&*store.there, &digest(), now).await, None);
}

pub(crate) async fn no_session_is_found_under_another_digest(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    for byte in 0..32 {
        let mut near = *new.digest.as_bytes();
        near[byte] ^= 1;
        let near = sessiond::domain::TokenDigest::from_bytes(near);
        assert!(!lives(&*store.there, &near, now).await, "byte {byte}");
    }
}

pub(crate) async fn s_08_a_session_ends_at_the_instant_of_its_idle_expiry(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let end = now.after(IDLE_TIMEOUT);
    assert!(lives(&*store.there, &new.digest, end.before(millis(1))).await);
    assert!(!lives(&*store.there, &new.digest, end).await);
    assert!(!lives(&*store.there, &new.digest, end.after(LIFETIME)).await);
}

pub(crate) async fn s_09_a_session_ends_at_the_instant_of_its_absolute_expiry(store: Sessions) {
    let now = start();
    let new = log_in_with(&*store.here, user_id(), now, |new| {
        new.session.live.span = testkit::samples::span(secs(300), IDLE_TIMEOUT);
    })
    .await;
    let end = now.after(secs(300));
    assert!(lives(&*store.there, &new.digest, end.before(millis(1))).await);
    assert!(!lives(&*store.there, &new.digest, end).await);
}

pub(crate) async fn s_09_touches_do_not_move_the_absolute_expiry(store: Sessions) {
    let now = start();
    let new = log_in_with(&*store.here, user_id(), now, |new| {
        new.session.live.span = testkit::samples::span(secs(500), secs(400));
    })
    .await;
    let seen_at = now.after(secs(300));
    let live = check(&*store.here, &new.digest, seen_at).await.unwrap();
    store.here.touch(&live, &new.digest, seen_at);
    within(PATIENCE, "the touch", async || {
        let live = check(&*store.there, &new.digest, seen_at).await?;
        (live.last_seen_at == seen_at).then_some(())
    })
    .await;
    let end = now.after(secs(500));
    assert!(lives(&*store.there, &new.digest, end.before(millis(1))).await);
    assert!(!lives(&*store.there, &new.digest, end).await);
}

pub(crate) async fn a_get_returns_every_field(store: Sessions) {
    let now = start();
    let new = log_in_with(&*store.here, user_id(), now, |new| {
        new.session.live.last_seen_at = now.after(millis(1));
        new.session.live.authenticated_at = now.before(secs(77));
        new.session.live.auth_method = AuthMethod::Caller;
        new.session.live.span = testkit::samples::span(secs(4321), secs(321));
    })
    .await;
    assert_eq!(
        check(&*store.there, &new.digest, now).await,
        Some(new.session.live)
    );
    assert_eq!(
        store.there.get(&new.digest, now).await.unwrap(),
        Some(new.session)
    );
}

pub(crate) async fn s_85_a_session_is_kept_to_the_letter(store: Sessions) {
    let now = start();
    let user = user_id();
    let texts = [
        "",
        "' OR 1=1 --",
        "\"",
        "\r\n",
        "{}",
        "{a}{b}",
        "*",
        "?[a-z]",
        "%s%n%",
        "\\",
        "\\u0000",
        "$1",
        "\t\x01\x7f",
        "naïve Ω 漢字 👩‍💻 \u{202e}",
        "; DROP TABLE sessions; --",
        " lead and trail ",
        "[1,2]",
        "null",
    ];
    for (turn, text) in texts.into_iter().enumerate() {
        let at = now.after(millis(turn as u64));
        let new = log_in_with(&*store.here, user, at, |new| {
            new.session.client = Client::from_stored(text.into(), text.into(), text.into());
            let entries = BTreeMap::from([
                ("k".to_owned(), text.to_owned()),
                ("a.b_c:/-".into(), text.repeat(3)),
            ]);
            new.session.attributes = Attributes::new(entries).unwrap();
        })
        .await;
        let got = store.there.get(&new.digest, at).await.unwrap();
        assert_eq!(got.as_ref(), Some(&new.session), "{text:?}");
        let newest = store.there.list(user, None, 1, at).await.unwrap();
        assert_eq!(newest, [new.session], "{text:?}");
    }
    let full = log_in_with(&*store.here, user, now.after(secs(1)), |new| {
        let entries = (0..16).map(|n| (format!("{n:064}"), "x".repeat(192))).collect();
        new.session.attributes = Attributes::new(entries).unwrap();
        new.session.client =
            Client::new("::ffff:192.0.2.1".into(), "u".repeat(512), "é".repeat(100)).unwrap();
    })
    .await;
    assert_eq!(
        store.there.get(&full.digest, now).await.unwrap(),
        Some(full.session)
    );
}

pub(crate) async fn the_store_answers_a_ping(store: Sessions) {
    store.here.ping().await.unwrap();
    store.there.ping().await.unwrap();
}
