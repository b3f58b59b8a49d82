//! How one session ends.

use futures_util::future::join_all;
use sessiond::store::{Rotation, SessionKey, SessionStore};
use testkit::{
    samples::{
        IDLE_TIMEOUT, digest, listed, lives, living, log_in, log_in_with, secs, session_id, start, user_id,
    },
    stores::Opened,
};

type Sessions = Opened<dyn SessionStore>;

pub(crate) async fn s_13_after_destroy_no_check_succeeds(store: Sessions) {
    let now = start();
    for turn in 0..100 {
        let new = log_in(&*store.process(turn), user_id(), now).await;
        // Both processes have read it, so that whatever they remember is tried.
        assert!(lives(&*store.here, &new.digest, now).await);
        assert!(lives(&*store.there, &new.digest, now).await);
        let destroyed = store
            .process(turn / 2)
            .destroy(SessionKey::Token(new.digest), now)
            .await
            .unwrap();
        assert_eq!(destroyed, Some((new.session.live.id, new.session.live.user_id)));
        assert!(!lives(&*store.here, &new.digest, now).await);
        assert!(!lives(&*store.there, &new.digest, now).await);
    }
}

pub(crate) async fn s_13_a_session_is_destroyed_by_its_id(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let live = new.session.live;
    assert_eq!(
        store.here.destroy(SessionKey::Id(live.id), now).await.unwrap(),
        Some((live.id, live.user_id))
    );
    assert!(!lives(&*store.there, &new.digest, now).await);
    assert_eq!(listed(&*store.there, live.user_id, now).await, []);
}

pub(crate) async fn s_13_a_session_is_destroyed_by_an_old_token_in_its_grace(store: Sessions) {
    let now = start();
    let old = log_in(&*store.here, user_id(), now).await;
    let rotation = Rotation {
        from: old.digest,
        to: digest(),
        grace_until: now.after(secs(30)),
        authenticated_at: None,
    };
    store.here.rotate(rotation, now).await.unwrap().unwrap();
    let destroyed = store
        .there
        .destroy(SessionKey::Token(old.digest), now.after(secs(29)))
        .await
        .unwrap();
    assert_eq!(destroyed, Some((old.session.live.id, old.session.live.user_id)));
    for digest in [rotation.from, rotation.to] {
        assert!(!lives(&*store.here, &digest, now).await);
    }
}

pub(crate) async fn an_old_token_past_its_grace_destroys_nothing(store: Sessions) {
    let now = start();
    let old = log_in(&*store.here, user_id(), now).await;
    let rotation = Rotation {
        from: old.digest,
        to: digest(),
        grace_until: now.after(secs(30)),
        authenticated_at: None,
    };
    store.here.rotate(rotation, now).await.unwrap().unwrap();
    let later = now.after(secs(30));
    assert_eq!(
        store
            .here
            .destroy(SessionKey::Token(old.digest), later)
            .await
            .unwrap(),
        None
    );
    assert!(lives(&*store.there, &rotation.to, later).await);
}

pub(crate) async fn s_14_destroying_again_says_that_there_was_none(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let id = new.session.live.id;
    assert!(
        store
            .here
            .destroy(SessionKey::Id(id), now)
            .await
            .unwrap()
            .is_some()
    );
    let keys = [
        SessionKey::Id(id),
        SessionKey::Token(new.digest),
        SessionKey::Token(digest()),
        SessionKey::Id(session_id(now)),
    ];
    for key in keys {
        assert_eq!(store.here.destroy(key, now).await.unwrap(), None);
        assert_eq!(store.there.destroy(key, now).await.unwrap(), None);
    }
}

pub(crate) async fn of_parallel_destroys_exactly_one_finds_the_session(store: Sessions) {
    let now = start();
    for _ in 0..20 {
        let new = log_in(&*store.here, user_id(), now).await;
        let tasks = (0..8).map(|turn| {
            let process = store.process(turn);
            let key = match turn < 4 {
                true => SessionKey::Id(new.session.live.id),
                false => SessionKey::Token(new.digest),
            };
            tokio::spawn(async move { process.destroy(key, now).await })
        });
        let answers = join_all(tasks.collect::<Vec<_>>()).await;
        let found = answers
            .into_iter()
            .filter(|answer| answer.as_ref().unwrap().as_ref().unwrap().is_some());
        assert_eq!(found.count(), 1);
    }
}

pub(crate) async fn s_14_an_expired_session_cannot_be_destroyed(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let end = now.after(IDLE_TIMEOUT);
    assert_eq!(
        store
            .here
            .destroy(SessionKey::Token(new.digest), end)
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        store
            .here
            .destroy(SessionKey::Id(new.session.live.id), end)
            .await
            .unwrap(),
        None
    );
}

pub(crate) async fn a_destroyed_session_frees_its_place_in_the_cap(store: Sessions) {
    let now = start();
    let user = user_id();
    let first = log_in(&*store.here, user, now).await;
    let second = log_in(&*store.here, user, now).await;
    store
        .here
        .destroy(SessionKey::Token(second.digest), now)
        .await
        .unwrap()
        .unwrap();
    let third = log_in_with(&*store.here, user, now, |new| new.max_per_user = 2).await;
    let ids = [first.session.live.id, third.session.live.id];
    assert_eq!(living(&*store.there, &[first, second, third], now).await, ids);
}

pub(crate) async fn destroying_one_session_leaves_the_others(store: Sessions) {
    let now = start();
    let user = user_id();
    let first = log_in(&*store.here, user, now).await;
    let second = log_in(&*store.here, user, now).await;
    let others = log_in(&*store.here, user_id(), now).await;
    let epoch = store.here.epoch(user).await.unwrap();
    store
        .here
        .destroy(SessionKey::Token(first.digest), now)
        .await
        .unwrap()
        .unwrap();
    assert!(lives(&*store.there, &second.digest, now).await);
    assert!(lives(&*store.there, &others.digest, now).await);
    assert_eq!(store.there.epoch(user).await.unwrap(), epoch);
}
