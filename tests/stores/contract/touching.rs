//! What a touch does, and what it must never do.

use sessiond::{
    domain::{LiveSession, Timestamp, TokenDigest, last_seen_slack},
    store::{Rotation, SessionKey, SessionStore},
};
use testkit::{
    samples::{
        IDLE_TIMEOUT, LIFETIME, check, digest, lives, log_in, log_in_with, millis, secs, span, start, user_id,
    },
    stores::Opened,
    waiting::{PATIENCE, within},
};

type Sessions = Opened<dyn SessionStore>;

/// Touches a session and waits until both processes see it.
pub(crate) async fn touch_and_wait(
    store: &Sessions,
    live: &LiveSession,
    digest: &TokenDigest,
    at: Timestamp,
) {
    store.here.touch(live, digest, at);
    let slack = last_seen_slack(live.span.idle_timeout());
    within(slack / 2, "a touch", async || {
        for process in [&store.here, &store.there] {
            if check(&**process, digest, at).await?.last_seen_at < at {
                return None;
            }
        }
        Some(())
    })
    .await;
}

/// Waits until the touches that were noted before are written or dropped: they are not later than one noted now.
async fn let_touches_settle(store: &Sessions, now: Timestamp) {
    let new = log_in(&*store.here, user_id(), now).await;
    touch_and_wait(store, &new.session.live, &new.digest, now.after(secs(100))).await;
}

pub(crate) async fn s_08_a_touch_extends_the_idle_expiry(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let seen_at = now.after(secs(400));
    let live = check(&*store.here, &new.digest, seen_at).await.unwrap();
    touch_and_wait(&store, &live, &new.digest, seen_at).await;
    let end = seen_at.after(IDLE_TIMEOUT);
    let live = check(&*store.there, &new.digest, end.before(millis(1)))
        .await
        .unwrap();
    assert_eq!(
        live,
        LiveSession {
            last_seen_at: seen_at,
            ..new.session.live
        }
    );
    assert!(!lives(&*store.there, &new.digest, end).await);
}

pub(crate) async fn s_10_a_touch_is_written_within_half_of_the_slack(store: Sessions) {
    let now = start();
    let new = log_in_with(&*store.here, user_id(), now, |new| {
        new.session.live.span = span(LIFETIME, secs(60));
    })
    .await;
    let seen_at = now.after(secs(30));
    // Half of the slack is three seconds here.
    touch_and_wait(&store, &new.session.live, &new.digest, seen_at).await;
    let whole = store.there.get(&new.digest, seen_at).await.unwrap().unwrap();
    assert_eq!(whole.live.last_seen_at, seen_at);
    let listed = store
        .there
        .list(new.session.live.user_id, None, 1, seen_at)
        .await
        .unwrap();
    assert_eq!(listed, [whole]);
}

pub(crate) async fn a_touch_never_lowers_what_is_noted(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let late = now.after(secs(300));
    touch_and_wait(&store, &new.session.live, &new.digest, late).await;
    store
        .here
        .touch(&new.session.live, &new.digest, now.after(secs(200)));
    store
        .there
        .touch(&new.session.live, &new.digest, now.after(secs(100)));
    let_touches_settle(&store, now).await;
    assert_eq!(
        check(&*store.there, &new.digest, late)
            .await
            .unwrap()
            .last_seen_at,
        late
    );
}

pub(crate) async fn s_13_a_touch_revives_no_destroyed_session(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let live = check(&*store.here, &new.digest, now).await.unwrap();
    store.here.touch(&live, &new.digest, now.after(secs(60)));
    store
        .there
        .destroy(SessionKey::Token(new.digest), now)
        .await
        .unwrap()
        .unwrap();
    store.here.touch(&live, &new.digest, now.after(secs(120)));
    let_touches_settle(&store, now).await;
    for process in [&store.here, &store.there] {
        assert!(!lives(&**process, &new.digest, now).await);
    }
}

pub(crate) async fn s_13_a_touch_revives_no_revoked_session(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let live = check(&*store.here, &new.digest, now).await.unwrap();
    store.here.touch(&live, &new.digest, now.after(secs(60)));
    store.there.revoke_user(live.user_id, None, now).await.unwrap();
    store.here.touch(&live, &new.digest, now.after(secs(120)));
    let_touches_settle(&store, now).await;
    for process in [&store.here, &store.there] {
        assert!(!lives(&**process, &new.digest, now).await);
    }
}

pub(crate) async fn s_08_a_touch_revives_no_expired_session(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let end = now.after(IDLE_TIMEOUT);
    assert!(!lives(&*store.there, &new.digest, end).await);
    store
        .here
        .touch(&new.session.live, &new.digest, end.after(millis(1)));
    let_touches_settle(&store, now).await;
    assert!(!lives(&*store.there, &new.digest, end.after(millis(2))).await);
}

pub(crate) async fn a_touch_inserts_nothing(store: Sessions) {
    let now = start();
    let never_stored =
        testkit::samples::new_session(user_id(), store.here.epoch(user_id()).await.unwrap(), now);
    let live = never_stored.session.live;
    store.here.touch(&live, &never_stored.digest, now.after(secs(60)));
    let kept = log_in(&*store.here, user_id(), now).await;
    store
        .here
        .touch(&kept.session.live, &digest(), now.after(secs(60)));
    let_touches_settle(&store, now).await;
    assert!(!lives(&*store.there, &never_stored.digest, now).await);
    assert_eq!(store.there.list(live.user_id, None, 10, now).await.unwrap(), []);
}

pub(crate) async fn a_touch_with_an_old_token_counts_for_its_session(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let to = digest();
    let rotation = Rotation {
        from: new.digest,
        to,
        grace_until: now.after(IDLE_TIMEOUT),
        authenticated_at: None,
    };
    store.here.rotate(rotation, now).await.unwrap().unwrap();
    let seen_at = now.after(secs(400));
    let live = check(&*store.here, &new.digest, seen_at).await.unwrap();
    touch_and_wait(&store, &live, &new.digest, seen_at).await;
    assert_eq!(
        check(&*store.there, &to, seen_at).await.unwrap().last_seen_at,
        seen_at
    );
}

pub(crate) async fn many_touches_are_all_written(store: Sessions) {
    let now = start();
    let user = user_id();
    let mut sessions = Vec::new();
    for n in 0..100 {
        sessions.push(log_in(&*store.here, user, now.after(millis(n))).await);
    }
    for (n, new) in sessions.iter().enumerate() {
        // Each is seen several times and by both processes; the last one counts.
        for later in [0, 2, 1] {
            let at = now.after(secs(60 + later)).after(millis(n as u64));
            store
                .process(n + later as usize)
                .touch(&new.session.live, &new.digest, at);
        }
    }
    for (n, new) in sessions.iter().enumerate() {
        let last = now.after(secs(62)).after(millis(n as u64));
        within(PATIENCE, "every touch", async || {
            (check(&*store.there, &new.digest, last).await?.last_seen_at == last).then_some(())
        })
        .await;
    }
}
