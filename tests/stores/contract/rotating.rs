//! How a session gets a new token, and what becomes of the old one.

use futures_util::future::join_all;
use sessiond::{
    domain::{LiveSession, Session, Timestamp, TokenDigest},
    store::{Created, NewSession, Rotation, SessionKey, SessionStore},
};
use testkit::{
    samples::{
        IDLE_TIMEOUT, check, digest, listed, lives, log_in, log_in_with, millis, new_session, secs, start,
        user_id,
    },
    stores::Opened,
};

type Sessions = Opened<dyn SessionStore>;

/// A rotation without grace.
fn rotation(from: TokenDigest, now: Timestamp) -> Rotation {
    Rotation {
        from,
        to: digest(),
        grace_until: now,
        authenticated_at: None,
    }
}

async fn rotate(store: &dyn SessionStore, rotation: Rotation, now: Timestamp) -> Session {
    store
        .rotate(rotation, now)
        .await
        .unwrap()
        .expect("the session lives")
}

/// A session that was rotated at `now` with a grace of 30 seconds, and its new token.
async fn in_grace(store: &Sessions, now: Timestamp) -> (NewSession, TokenDigest) {
    let new = log_in(&*store.here, user_id(), now).await;
    let rotation = Rotation {
        grace_until: now.after(secs(30)),
        ..rotation(new.digest, now)
    };
    rotate(&*store.here, rotation, now).await;
    (new, rotation.to)
}

pub(crate) async fn s_07_a_rotated_session_lives_under_its_new_token_only(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let rotation = rotation(new.digest, now);
    rotate(&*store.here, rotation, now).await;
    assert!(!lives(&*store.there, &rotation.from, now).await);
    assert_eq!(
        check(&*store.there, &rotation.to, now).await,
        Some(new.session.live)
    );
}

pub(crate) async fn a_rotation_keeps_everything_else(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let rotation = rotation(new.digest, now);
    let rotated = rotate(&*store.here, rotation, now).await;
    assert_eq!(rotated, new.session);
    assert_eq!(store.there.get(&rotation.to, now).await.unwrap(), Some(rotated));
}

pub(crate) async fn a_rotation_notes_when_the_user_authenticated(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let later = now.after(secs(60));
    let rotation = Rotation {
        authenticated_at: Some(later),
        ..rotation(new.digest, later)
    };
    let rotated = rotate(&*store.here, rotation, later).await;
    assert_eq!(
        rotated.live,
        LiveSession {
            authenticated_at: later,
            ..new.session.live
        }
    );
    assert_eq!(
        check(&*store.there, &rotation.to, later).await,
        Some(rotated.live)
    );
}

pub(crate) async fn an_old_token_works_until_the_end_of_its_grace(store: Sessions) {
    let now = start();
    let (old, to) = in_grace(&store, now).await;
    let end = now.after(secs(30));
    // A client must not cache the answer for longer: the end of the grace is not published again.
    let live = LiveSession {
        grace_ends_at: Some(end),
        ..old.session.live
    };
    let just_before = end.before(millis(1));
    assert_eq!(check(&*store.there, &old.digest, just_before).await, Some(live));
    let whole = store.there.get(&old.digest, just_before).await.unwrap();
    assert_eq!(whole, Some(Session { live, ..old.session }));
    assert_eq!(live.valid_until(), end);
    assert!(lives(&*store.there, &old.digest, end.before(millis(1))).await);
    assert!(!lives(&*store.there, &old.digest, end).await);
    assert!(lives(&*store.there, &to, end).await);
}

pub(crate) async fn a_second_rotation_ends_the_first_ones_grace(store: Sessions) {
    let now = start();
    let (old, to) = in_grace(&store, now).await;
    let second = Rotation {
        grace_until: now.after(secs(30)),
        ..rotation(to, now)
    };
    rotate(&*store.here, second, now).await;
    assert!(!lives(&*store.there, &old.digest, now).await);
    assert!(lives(&*store.there, &to, now).await);
    assert!(lives(&*store.there, &second.to, now).await);
}

pub(crate) async fn an_old_token_cannot_rotate(store: Sessions) {
    let now = start();
    let (old, to) = in_grace(&store, now).await;
    let second = rotation(old.digest, now);
    assert_eq!(store.here.rotate(second, now).await.unwrap(), None);
    assert!(!lives(&*store.there, &second.to, now).await);
    assert!(lives(&*store.there, &to, now).await);
    assert!(lives(&*store.there, &old.digest, now).await);
}

pub(crate) async fn a_rotation_does_not_touch(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let end = now.after(IDLE_TIMEOUT);
    let rotation = rotation(new.digest, end.before(millis(1)));
    rotate(&*store.here, rotation, end.before(millis(1))).await;
    assert!(!lives(&*store.there, &rotation.to, end).await);
}

pub(crate) async fn of_two_parallel_rotations_one_finds_the_session(store: Sessions) {
    let now = start();
    for _ in 0..20 {
        let new = log_in(&*store.here, user_id(), now).await;
        let rotations = [0, 1].map(|_| rotation(new.digest, now));
        let tasks = rotations.iter().copied().enumerate().map(|(turn, rotation)| {
            let process = store.process(turn);
            tokio::spawn(async move { process.rotate(rotation, now).await })
        });
        let answers = join_all(tasks.collect::<Vec<_>>()).await;
        let won = answers
            .into_iter()
            .map(|answer| answer.unwrap().unwrap().is_some())
            .collect::<Vec<_>>();
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        for (rotation, won) in rotations.iter().zip(won) {
            assert_eq!(lives(&*store.there, &rotation.to, now).await, won);
        }
        assert!(!lives(&*store.there, &new.digest, now).await);
    }
}

pub(crate) async fn s_13_destroying_by_a_token_ends_the_session_whatever_rotates_beside_it(store: Sessions) {
    let now = start();
    for turn in 0..40 {
        let new = log_in(&*store.here, user_id(), now).await;
        // With its grace the old token proves the session before and after the rotation: there is no moment to miss.
        let rotation = Rotation {
            grace_until: now.after(secs(30)),
            ..rotation(new.digest, now)
        };
        let (rotating, destroying) = (store.process(turn), store.process(turn / 2));
        let key = SessionKey::Token(new.digest);
        let rotated = tokio::spawn(async move { rotating.rotate(rotation, now).await });
        let destroyed = tokio::spawn(async move { destroying.destroy(key, now).await });
        rotated.await.unwrap().unwrap();
        assert!(destroyed.await.unwrap().unwrap().is_some());
        for digest in [rotation.from, rotation.to] {
            assert!(!lives(&*store.there, &digest, now).await);
        }
    }
}

pub(crate) async fn s_07_replacing_a_token_ends_the_session_whatever_rotates_beside_it(store: Sessions) {
    let now = start();
    for turn in 0..40 {
        let old = log_in(&*store.here, user_id(), now).await;
        let rotation = Rotation {
            grace_until: now.after(secs(30)),
            ..rotation(old.digest, now)
        };
        let (rotating, creating) = (store.process(turn), store.process(turn / 2));
        let new = NewSession {
            replaces: Some(old.digest),
            ..new_session(old.session.live.user_id, old.epoch, now)
        };
        let kept = new.digest;
        let rotated = tokio::spawn(async move { rotating.rotate(rotation, now).await });
        let created = tokio::spawn(async move { creating.create(new, now).await });
        rotated.await.unwrap().unwrap();
        assert_eq!(created.await.unwrap().unwrap(), Created::Yes);
        for digest in [rotation.from, rotation.to] {
            assert!(!lives(&*store.there, &digest, now).await);
        }
        assert!(lives(&*store.there, &kept, now).await);
    }
}

pub(crate) async fn what_does_not_live_cannot_be_rotated(store: Sessions) {
    let now = start();
    let destroyed = log_in(&*store.here, user_id(), now).await;
    store
        .here
        .destroy(SessionKey::Token(destroyed.digest), now)
        .await
        .unwrap()
        .unwrap();
    let revoked = log_in(&*store.here, user_id(), now).await;
    store
        .here
        .revoke_user(revoked.session.live.user_id, None, now)
        .await
        .unwrap();
    let expired = log_in(&*store.here, user_id(), now.before(IDLE_TIMEOUT)).await;
    for from in [destroyed.digest, revoked.digest, expired.digest, digest()] {
        let rotation = rotation(from, now);
        assert_eq!(store.there.rotate(rotation, now).await.unwrap(), None);
        assert!(!lives(&*store.there, &rotation.to, now).await);
    }
}

pub(crate) async fn s_13_no_token_outlives_its_session(store: Sessions) {
    let now = start();
    let (old, to) = in_grace(&store, now).await;
    store
        .here
        .destroy(SessionKey::Token(to), now)
        .await
        .unwrap()
        .unwrap();
    assert!(!lives(&*store.there, &old.digest, now).await);
    assert!(!lives(&*store.there, &to, now).await);
}

pub(crate) async fn s_13_no_rotated_session_outlives_a_revocation(store: Sessions) {
    let now = start();
    let (old, to) = in_grace(&store, now).await;
    assert_eq!(
        store
            .here
            .revoke_user(old.session.live.user_id, None, now)
            .await
            .unwrap(),
        1
    );
    assert!(!lives(&*store.there, &old.digest, now).await);
    assert!(!lives(&*store.there, &to, now).await);
}

pub(crate) async fn a_rotated_session_still_has_its_place_in_the_cap(store: Sessions) {
    let now = start();
    let user = user_id();
    let oldest = log_in(&*store.here, user, now).await;
    let second = log_in(&*store.here, user, now.after(millis(1))).await;
    let rotation = rotation(oldest.digest, now);
    rotate(&*store.here, rotation, now.after(millis(2))).await;
    let now = now.after(millis(3));
    let third = log_in_with(&*store.here, user, now, |new| new.max_per_user = 2).await;
    assert!(!lives(&*store.there, &rotation.to, now).await);
    assert_eq!(
        listed(&*store.there, user, now).await,
        [third.session.live.id, second.session.live.id]
    );
    let unrelated = new_session(user, third.epoch, now);
    assert!(!lives(&*store.there, &unrelated.digest, now).await);
}
