//! Copies from store to store.

use sessiond::{
    domain::TokenDigest,
    store::{Created, NewSession, ReplacedHash, SessionKey, copy_sessions, copy_users},
};
use testkit::{
    samples::{listed, log_in, start, user_id, user_record},
    stores,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_move_from_store_to_store_keep_their_tokens() {
    let now = start();
    let chain = [
        stores::memory::sessions().await,
        stores::embedded::sessions().await,
        stores::postgres::sessions().await,
        stores::redis::single().await,
        stores::redis::cluster().await,
    ];
    let mut sessions = Vec::new();
    for _ in 0..10 {
        let user = user_id();
        for _ in 0..3 {
            sessions.push(log_in(&*chain[0].here, user, now).await);
        }
    }
    let ended = sessions.pop().unwrap();
    chain[0]
        .here
        .destroy(SessionKey::Token(ended.digest), now)
        .await
        .unwrap();
    for pair in chain.windows(2) {
        let done = copy_sessions(&*pair[0].here, &*pair[1].here, now, &mut |_| {})
            .await
            .unwrap();
        assert_eq!((done.looked_at, done.copied, done.taken_away), (29, 29, 0));
        for NewSession { digest, session, .. } in &sessions {
            assert_eq!(
                pair[1].there.get(digest, now).await.unwrap().as_ref(),
                Some(session)
            );
        }
        assert_eq!(pair[1].there.get(&ended.digest, now).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_started_again_goes_on_and_revives_nothing() {
    let now = start();
    let from = stores::embedded::sessions().await;
    let to = stores::postgres::sessions().await;
    let user = user_id();
    let first = log_in(&*from.here, user, now).await;
    copy_sessions(&*from.here, &*to.here, now, &mut |_| {})
        .await
        .unwrap();

    // What happened in the source since: one session ended, and another began.
    from.here
        .destroy(SessionKey::Token(first.digest), now)
        .await
        .unwrap();
    let second = log_in(&*from.here, user, now).await;
    let mut reports = 0;
    let done = copy_sessions(&*from.here, &*to.here, now, &mut |_| reports += 1)
        .await
        .unwrap();
    assert_eq!((done.looked_at, done.copied, done.taken_away), (1, 1, 1));
    assert!(reports > 0);
    let lives = async |digest: TokenDigest| to.there.check(&digest, now).wait().await.unwrap().is_some();
    assert!(!lives(first.digest).await);
    assert!(lives(second.digest).await);

    // The copy is a store like any other: the next log-in brings the cap back into force.
    let mut new = log_in_of(&second, now);
    new.epoch = to.here.epoch(user).await.unwrap();
    new.max_per_user = 1;
    assert_eq!(to.here.create(new.clone(), now).await.unwrap(), Created::Yes);
    assert_eq!(listed(&*to.there, user, now).await, [new.session.live.id]);
}

/// Another session of the same user.
fn log_in_of(session: &NewSession, now: sessiond::domain::Timestamp) -> NewSession {
    testkit::samples::new_session(session.session.live.user_id, session.epoch, now)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_move_with_their_passwords_and_changes_follow() {
    let from = stores::embedded::users().await;
    let to = stores::postgres::users().await;
    let (kept, deleted) = (user_record(), user_record());
    for record in [&kept, &deleted] {
        from.here.insert(record).await.unwrap();
    }
    let done = copy_users(&*from.here, &*to.here, &mut |_| {}).await.unwrap();
    assert_eq!((done.looked_at, done.copied, done.taken_away), (2, 2, 0));
    assert_eq!(to.there.by_id(kept.user.id).await.unwrap().as_ref(), Some(&kept));

    from.here.delete(deleted.user.id).await.unwrap();
    let mut changed = kept.clone();
    changed.user.version += 1;
    changed.user.disabled_at = Some(start());
    changed.password_hash = Some(sessiond::domain::PasswordHash::from_stored("another".into()));
    from.here.update(&changed.user, kept.user.version).await.unwrap();
    let hash = changed.password_hash.as_ref().unwrap();
    from.here
        .replace_password(kept.user.id, ReplacedHash::Any, hash)
        .await
        .unwrap();
    let done = copy_users(&*from.here, &*to.here, &mut |_| {}).await.unwrap();
    assert_eq!((done.looked_at, done.copied, done.taken_away), (1, 1, 1));
    assert_eq!(to.there.by_id(kept.user.id).await.unwrap(), Some(changed));
    assert_eq!(to.there.by_id(deleted.user.id).await.unwrap(), None);
}
