//! How many sessions end at once, and how epochs move.

use futures_util::future::join_all;
use sessiond::store::{Created, Rotation, SessionKey, SessionStore};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use testkit::{
    samples::{
        IDLE_TIMEOUT, check, digest, listed, lives, living, log_in, log_in_with, new_session, secs,
        session_id, start, user_id,
    },
    stores::Opened,
};

type Sessions = Opened<dyn SessionStore>;

pub(crate) async fn s_17_revoking_a_user_ends_all_their_sessions_and_no_other(store: Sessions) {
    let now = start();
    let user = user_id();
    let mut sessions = Vec::new();
    for turn in 0..5 {
        sessions.push(log_in(&*store.process(turn), user, now).await);
    }
    let other = log_in(&*store.here, user_id(), now).await;
    assert_eq!(store.here.revoke_user(user, None, now).await.unwrap(), 5);
    for process in [&store.here, &store.there] {
        assert_eq!(living(&**process, &sessions, now).await, []);
        assert_eq!(listed(&**process, user, now).await, []);
        assert!(lives(&**process, &other.digest, now).await);
    }
}

pub(crate) async fn s_16_the_excepted_session_is_spared(store: Sessions) {
    let now = start();
    let user = user_id();
    let kept = log_in(&*store.here, user, now).await;
    let mut sessions = vec![kept.clone()];
    for _ in 0..4 {
        sessions.push(log_in(&*store.here, user, now).await);
    }
    let id = kept.session.live.id;
    assert_eq!(store.here.revoke_user(user, Some(id), now).await.unwrap(), 4);
    assert_eq!(living(&*store.there, &sessions, now).await, [id]);
    assert_eq!(listed(&*store.there, user, now).await, [id]);
    assert_eq!(
        check(&*store.there, &kept.digest, now).await,
        Some(kept.session.live)
    );
}

pub(crate) async fn s_16_the_spared_session_ends_with_the_next_revocation(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let live = new.session.live;
    for _ in 0..3 {
        assert_eq!(
            store
                .here
                .revoke_user(live.user_id, Some(live.id), now)
                .await
                .unwrap(),
            0
        );
        assert!(lives(&*store.there, &new.digest, now).await);
    }
    assert_eq!(store.here.revoke_user(live.user_id, None, now).await.unwrap(), 1);
    assert!(!lives(&*store.there, &new.digest, now).await);
    let again = log_in(&*store.here, live.user_id, now).await;
    store
        .here
        .revoke_user(live.user_id, Some(again.session.live.id), now)
        .await
        .unwrap();
    assert_eq!(store.here.revoke_everyone(now).await.unwrap(), 1);
    assert!(!lives(&*store.there, &again.digest, now).await);
}

pub(crate) async fn the_spared_session_rotates_as_before(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let live = new.session.live;
    let rotation = Rotation {
        from: new.digest,
        to: digest(),
        grace_until: now.after(secs(30)),
        authenticated_at: None,
    };
    store.here.rotate(rotation, now).await.unwrap().unwrap();
    store
        .here
        .revoke_user(live.user_id, Some(live.id), now)
        .await
        .unwrap();
    for digest in [rotation.from, rotation.to] {
        assert!(lives(&*store.there, &digest, now).await);
    }
    let second = Rotation {
        from: rotation.to,
        to: digest(),
        grace_until: now,
        authenticated_at: None,
    };
    store.here.rotate(second, now).await.unwrap().unwrap();
    assert!(lives(&*store.there, &second.to, now).await);
}

pub(crate) async fn the_session_of_another_user_spares_nothing(store: Sessions) {
    let now = start();
    let own = log_in(&*store.here, user_id(), now).await;
    let others = log_in(&*store.here, user_id(), now).await;
    let user = own.session.live.user_id;
    for except in [others.session.live.id, session_id(now)] {
        let new = log_in(&*store.here, user, now).await;
        store.here.revoke_user(user, Some(except), now).await.unwrap();
        assert!(!lives(&*store.there, &new.digest, now).await);
    }
    assert!(!lives(&*store.there, &own.digest, now).await);
    assert!(lives(&*store.there, &others.digest, now).await);
    // Nor was it moved to the epoch of someone else.
    assert_eq!(
        store
            .here
            .revoke_user(others.session.live.user_id, None, now)
            .await
            .unwrap(),
        1
    );
    assert!(!lives(&*store.there, &others.digest, now).await);
}

pub(crate) async fn a_dead_session_spares_nothing(store: Sessions) {
    let now = start();
    let user = user_id();
    let revoked = log_in(&*store.here, user, now).await;
    store.here.revoke_user(user, None, now).await.unwrap();
    let destroyed = log_in(&*store.here, user, now).await;
    store
        .here
        .destroy(SessionKey::Token(destroyed.digest), now)
        .await
        .unwrap();
    let expired = log_in(&*store.here, user, now.before(IDLE_TIMEOUT)).await;
    let dead = [revoked, destroyed, expired];
    for except in &dead {
        let new = log_in(&*store.here, user, now).await;
        assert_eq!(
            store
                .here
                .revoke_user(user, Some(except.session.live.id), now)
                .await
                .unwrap(),
            1
        );
        assert!(!lives(&*store.there, &new.digest, now).await);
        assert_eq!(living(&*store.there, &dead, now).await, []);
    }
}

pub(crate) async fn revoking_counts_living_sessions_only(store: Sessions) {
    let now = start();
    let user = user_id();
    log_in(&*store.here, user, now.before(IDLE_TIMEOUT)).await;
    let destroyed = log_in(&*store.here, user, now).await;
    store
        .here
        .destroy(SessionKey::Token(destroyed.digest), now)
        .await
        .unwrap();
    log_in(&*store.here, user, now).await;
    log_in(&*store.here, user, now).await;
    assert_eq!(store.there.revoke_user(user, None, now).await.unwrap(), 2);
    assert_eq!(store.there.revoke_user(user, None, now).await.unwrap(), 0);
    assert_eq!(store.there.revoke_user(user_id(), None, now).await.unwrap(), 0);
    assert_eq!(store.there.revoke_everyone(now).await.unwrap(), 0);
}

pub(crate) async fn the_epoch_moves_with_every_revocation_and_with_nothing_else(store: Sessions) {
    let now = start();
    let (user, other) = (user_id(), user_id());
    let epochs = async || {
        (
            store.there.epoch(user).await.unwrap(),
            store.there.epoch(other).await.unwrap(),
        )
    };
    let first = epochs().await;
    let new = log_in(&*store.here, user, now).await;
    let rotation = Rotation {
        from: new.digest,
        to: digest(),
        grace_until: now,
        authenticated_at: None,
    };
    store.here.rotate(rotation, now).await.unwrap().unwrap();
    store
        .here
        .destroy(SessionKey::Token(rotation.to), now)
        .await
        .unwrap()
        .unwrap();
    log_in_with(&*store.here, user, now, |new| new.max_per_user = 1).await;
    store.here.sweep(now, 100).await.unwrap();
    assert_eq!(epochs().await, first);

    store.here.revoke_user(user, None, now).await.unwrap();
    let second = epochs().await;
    assert!(second.0 > first.0);
    assert_eq!(second.1, first.1);
    // A revocation that finds no session moves it too: a login may be under way.
    store.here.revoke_user(user, None, now).await.unwrap();
    let third = epochs().await;
    assert!(third.0 > second.0);

    store.here.revoke_everyone(now).await.unwrap();
    let fourth = epochs().await;
    assert!(fourth.0 > third.0);
    assert!(fourth.1 > third.1);
}

pub(crate) async fn a_session_created_after_a_revocation_lives(store: Sessions) {
    let now = start();
    let user = user_id();
    for _ in 0..5 {
        let new = log_in(&*store.here, user, now).await;
        assert!(lives(&*store.there, &new.digest, now).await);
        assert_eq!(store.there.revoke_user(user, None, now).await.unwrap(), 1);
        assert!(!lives(&*store.here, &new.digest, now).await);
    }
}

pub(crate) async fn s_17_revoking_everyone_ends_every_session(store: Sessions) {
    let now = start();
    let mut sessions = Vec::new();
    for turn in 0..10 {
        sessions.push(log_in(&*store.process(turn), user_id(), now).await);
    }
    log_in(&*store.here, user_id(), now.before(IDLE_TIMEOUT)).await;
    assert_eq!(store.here.revoke_everyone(now).await.unwrap(), 10);
    for process in [&store.here, &store.there] {
        assert_eq!(living(&**process, &sessions, now).await, []);
        for new in &sessions {
            assert_eq!(listed(&**process, new.session.live.user_id, now).await, []);
        }
    }
    assert_eq!(store.there.count(now).await.unwrap(), 0);
}

pub(crate) async fn sessions_created_after_everyones_were_revoked_live(store: Sessions) {
    let now = start();
    let user = user_id();
    store.here.revoke_user(user, None, now).await.unwrap();
    store.here.revoke_everyone(now).await.unwrap();
    let mine = log_in(&*store.here, user, now).await;
    let others = log_in(&*store.here, user_id(), now).await;
    assert!(lives(&*store.there, &mine.digest, now).await);
    assert!(lives(&*store.there, &others.digest, now).await);
    // The user's own epoch and everyone's are not mixed up.
    assert_eq!(store.here.revoke_user(user, None, now).await.unwrap(), 1);
    assert!(!lives(&*store.there, &mine.digest, now).await);
    assert!(lives(&*store.there, &others.digest, now).await);
}

pub(crate) async fn parallel_revocations_all_move_the_epoch(store: Sessions) {
    let now = start();
    let user = user_id();
    let before = store.here.epoch(user).await.unwrap();
    let new = log_in(&*store.here, user, now).await;
    let tasks = (0..20).map(|turn| {
        let process = store.process(turn);
        tokio::spawn(async move {
            match turn % 5 {
                0 => process.revoke_everyone(now).await,
                _ => process.revoke_user(user, None, now).await,
            }
        })
    });
    let answers = join_all(tasks.collect::<Vec<_>>()).await;
    let ended: u64 = answers.into_iter().map(|answer| answer.unwrap().unwrap()).sum();
    assert_eq!(ended, 1, "the session ended once");
    let after = store.there.epoch(user).await.unwrap();
    assert_eq!(after.count() - before.count(), 20);
    assert!(!lives(&*store.there, &new.digest, now).await);
}

pub(crate) async fn s_13_parallel_checks_never_see_a_session_come_back(store: Sessions) {
    let now = start();
    for round in 0..20 {
        let new = log_in(&*store.here, user_id(), now).await;
        let live = new.session.live;
        let is_dead = Arc::new(AtomicBool::new(false));
        let readers = (0..4).map(|turn| {
            let (process, is_dead) = (store.process(turn), Arc::clone(&is_dead));
            tokio::spawn(async move {
                let mut seen_dead = false;
                while !seen_dead {
                    let was_dead = is_dead.load(Ordering::SeqCst);
                    let seen = check(&*process, &new.digest, now).await;
                    if let Some(live) = seen {
                        assert!(!was_dead, "a session lived after its end was acknowledged");
                        process.touch(&live, &new.digest, now.after(secs(61)));
                    }
                    seen_dead = seen.is_none();
                    tokio::task::yield_now().await;
                }
                for _ in 0..20 {
                    assert_eq!(
                        check(&*process, &new.digest, now).await,
                        None,
                        "a session came back"
                    );
                }
            })
        });
        let readers: Vec<_> = readers.collect();
        let process = store.process(round);
        match round % 3 {
            0 => drop(process.destroy(SessionKey::Id(live.id), now).await.unwrap()),
            1 => drop(process.revoke_user(live.user_id, None, now).await.unwrap()),
            _ => drop(process.revoke_everyone(now).await.unwrap()),
        }
        is_dead.store(true, Ordering::SeqCst);
        for reader in join_all(readers).await {
            reader.unwrap();
        }
        let late = new_session(live.user_id, new.epoch, now);
        let created = store.here.create(late, now).await.unwrap();
        assert_eq!(created == Created::Yes, round % 3 == 0);
    }
}
