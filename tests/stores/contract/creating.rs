//! How sessions come to life: what they replace, what makes room for them, and when they are refused.

use futures_util::future::join_all;
use sessiond::{
    domain::{SessionId, Timestamp, UserId},
    store::{Created, NewSession, Rotation, SessionStore},
};
use std::{sync::Arc, time::Duration};
use testkit::{
    samples::{
        IDLE_TIMEOUT, digest, listed, lives, living, log_in, log_in_with, millis, new_session, secs, start,
        user_id,
    },
    stores::Opened,
    waiting::{PATIENCE, within},
};

type Sessions = Opened<dyn SessionStore>;

/// Creates all of these at once, in tasks of their own, half of them in each process.
async fn create_at_once(store: &Sessions, sessions: &[NewSession], now: Timestamp) -> Vec<Created> {
    let tasks = sessions.iter().cloned().enumerate().map(|(turn, new)| {
        let process = store.process(turn);
        tokio::spawn(async move { process.create(new, now).await })
    });
    let created = join_all(tasks.collect::<Vec<_>>()).await;
    created
        .into_iter()
        .map(|created| created.unwrap().unwrap())
        .collect()
}

fn ids(sessions: &[NewSession]) -> Vec<SessionId> {
    sessions.iter().map(|new| new.session.live.id).collect()
}

fn newest_first(mut ids: Vec<SessionId>) -> Vec<SessionId> {
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids
}

/// Sessions of one user, each a millisecond younger than the one before, created under a cap.
async fn log_in_times(
    store: &dyn SessionStore,
    user: UserId,
    from: Timestamp,
    times: u64,
    cap: u32,
) -> Vec<NewSession> {
    let mut sessions = Vec::new();
    for n in 0..times {
        let at = from.after(millis(n));
        sessions.push(log_in_with(store, user, at, |new| new.max_per_user = cap).await);
    }
    sessions
}

pub(crate) async fn s_07_a_created_session_replaces_another_in_the_same_commit(store: Sessions) {
    let now = start();
    let user = user_id();
    let old = log_in(&*store.here, user, now).await;
    let bystander = log_in(&*store.here, user, now).await;
    let new = log_in_with(&*store.here, user, now, |new| new.replaces = Some(old.digest)).await;
    assert!(!lives(&*store.there, &old.digest, now).await);
    assert!(lives(&*store.there, &new.digest, now).await);
    assert!(lives(&*store.there, &bystander.digest, now).await);
}

pub(crate) async fn s_07_fifty_logins_that_replace_one_token_all_live_and_it_dies(store: Sessions) {
    let now = start();
    let user = user_id();
    let old = log_in(&*store.here, user, now).await;
    let sessions: Vec<_> = (0..50)
        .map(|_| NewSession {
            replaces: Some(old.digest),
            ..new_session(user, old.epoch, now)
        })
        .collect();
    assert_eq!(create_at_once(&store, &sessions, now).await, [Created::Yes; 50]);
    assert!(!lives(&*store.there, &old.digest, now).await);
    assert_eq!(living(&*store.there, &sessions, now).await, ids(&sessions));
    assert_eq!(
        listed(&*store.there, user, now).await,
        newest_first(ids(&sessions))
    );
}

pub(crate) async fn s_07_an_old_token_in_its_grace_is_replaced_with_its_session(store: Sessions) {
    let now = start();
    let user = user_id();
    let old = log_in(&*store.here, user, now).await;
    let rotation = Rotation {
        from: old.digest,
        to: digest(),
        grace_until: now.after(secs(30)),
        authenticated_at: None,
    };
    store.here.rotate(rotation, now).await.unwrap().unwrap();
    let new = log_in_with(&*store.here, user, now, |new| new.replaces = Some(old.digest)).await;
    assert!(!lives(&*store.there, &old.digest, now).await);
    assert!(!lives(&*store.there, &rotation.to, now).await);
    assert_eq!(listed(&*store.there, user, now).await, [new.session.live.id]);
}

pub(crate) async fn another_users_session_can_be_replaced(store: Sessions) {
    let now = start();
    let old = log_in(&*store.here, user_id(), now).await;
    let new = log_in_with(&*store.here, user_id(), now, |new| {
        new.replaces = Some(old.digest)
    })
    .await;
    assert!(!lives(&*store.there, &old.digest, now).await);
    assert!(lives(&*store.there, &new.digest, now).await);
    assert_eq!(listed(&*store.there, old.session.live.user_id, now).await, []);
}

pub(crate) async fn replacing_what_does_not_live_changes_nothing_else(store: Sessions) {
    let now = start();
    let user = user_id();
    let bystander = log_in(&*store.here, user, now).await;
    let new = log_in_with(&*store.here, user, now, |new| new.replaces = Some(digest())).await;
    assert_eq!(
        living(&*store.there, &[bystander.clone(), new.clone()], now).await,
        ids(&[bystander, new])
    );
}

pub(crate) async fn s_19_the_oldest_sessions_make_room(store: Sessions) {
    let now = start();
    let user = user_id();
    let sessions = log_in_times(&*store.here, user, now, 8, 3).await;
    let now = now.after(millis(8));
    assert_eq!(living(&*store.there, &sessions, now).await, ids(&sessions[5..]));
    assert_eq!(
        listed(&*store.there, user, now).await,
        newest_first(ids(&sessions[5..]))
    );
}

pub(crate) async fn s_19_fifty_parallel_logins_leave_as_many_sessions_as_the_cap(store: Sessions) {
    let now = start();
    let user = user_id();
    let epoch = store.here.epoch(user).await.unwrap();
    let older: Vec<_> = log_in_times(&*store.here, user, now.before(secs(1)), 5, 5).await;
    let sessions: Vec<_> = (0..50)
        .map(|_| NewSession {
            max_per_user: 5,
            ..new_session(user, epoch, now)
        })
        .collect();
    assert_eq!(create_at_once(&store, &sessions, now).await, [Created::Yes; 50]);
    let living_now = newest_first(living(&*store.there, &sessions, now).await);
    assert_eq!(living_now.len(), 5);
    assert_eq!(listed(&*store.there, user, now).await, living_now);
    assert_eq!(living(&*store.there, &older, now).await, []);
}

pub(crate) async fn s_19_the_cap_makes_room_for_a_session_whose_clock_was_behind(store: Sessions) {
    let now = start();
    let user = user_id();
    let ahead = log_in_with(&*store.here, user, now.after(secs(5)), |new| new.max_per_user = 1).await;
    let behind = log_in_with(&*store.here, user, now, |new| new.max_per_user = 1).await;
    assert_eq!(
        living(&*store.there, &[ahead, behind.clone()], now).await,
        ids(&[behind])
    );
}

pub(crate) async fn s_19_a_replaced_session_makes_room_first(store: Sessions) {
    let now = start();
    let user = user_id();
    let sessions = log_in_times(&*store.here, user, now, 3, 3).await;
    let now = now.after(millis(3));
    let new = log_in_with(&*store.here, user, now, |new| {
        new.max_per_user = 3;
        new.replaces = Some(sessions[2].digest);
    })
    .await;
    assert_eq!(living(&*store.there, &sessions, now).await, ids(&sessions[..2]));
    assert!(lives(&*store.there, &new.digest, now).await);
}

pub(crate) async fn s_19_expired_sessions_do_not_count_against_the_cap(store: Sessions) {
    let now = start();
    let user = user_id();
    let long = log_in_with(&*store.here, user, now, |new| {
        new.max_per_user = 3;
        new.session.live.span = testkit::samples::span(secs(7200), secs(7200));
    })
    .await;
    let short = log_in_times(&*store.here, user, now.after(millis(1)), 2, 3).await;
    let later = now.after(IDLE_TIMEOUT).after(secs(1));
    let new = log_in_times(&*store.here, user, later, 2, 3).await;
    let later = later.after(millis(2));
    assert_eq!(living(&*store.there, &short, later).await, []);
    assert!(lives(&*store.there, &long.digest, later).await);
    assert_eq!(living(&*store.there, &new, later).await, ids(&new));
}

pub(crate) async fn s_19_the_cap_of_one_user_leaves_others_alone(store: Sessions) {
    let now = start();
    let other = log_in(&*store.here, user_id(), now.before(secs(60))).await;
    let sessions = log_in_times(&*store.here, user_id(), now, 4, 2).await;
    let now = now.after(millis(4));
    assert_eq!(living(&*store.there, &sessions, now).await, ids(&sessions[2..]));
    assert!(lives(&*store.there, &other.digest, now).await);
}

pub(crate) async fn s_19_a_lowered_cap_evicts_as_many_as_exceed_it(store: Sessions) {
    let now = start();
    let user = user_id();
    let mut sessions = log_in_times(&*store.here, user, now, 6, 100).await;
    sessions.extend(log_in_times(&*store.here, user, now.after(secs(1)), 1, 2).await);
    let now = now.after(secs(2));
    assert_eq!(living(&*store.there, &sessions, now).await, ids(&sessions[5..]));
}

pub(crate) async fn s_15_no_session_is_created_once_the_epoch_has_moved(store: Sessions) {
    let now = start();
    let user = user_id();
    let epoch = store.here.epoch(user).await.unwrap();
    store.there.revoke_user(user, None, now).await.unwrap();
    let late = new_session(user, epoch, now);
    assert_eq!(
        store.here.create(late.clone(), now).await.unwrap(),
        Created::EpochMoved
    );
    assert!(!lives(&*store.there, &late.digest, now).await);
    log_in(&*store.here, user, now).await;
}

pub(crate) async fn s_17_no_session_is_created_once_everyones_epoch_has_moved(store: Sessions) {
    let now = start();
    let user = user_id();
    let epoch = store.here.epoch(user).await.unwrap();
    store.there.revoke_everyone(now).await.unwrap();
    let late = new_session(user, epoch, now);
    assert_eq!(
        store.here.create(late.clone(), now).await.unwrap(),
        Created::EpochMoved
    );
    assert!(!lives(&*store.there, &late.digest, now).await);
    log_in(&*store.here, user, now).await;
}

pub(crate) async fn a_creation_that_is_refused_changes_nothing(store: Sessions) {
    let now = start();
    let (user, other) = (user_id(), user_id());
    let epoch = store.here.epoch(user).await.unwrap();
    store.here.revoke_user(user, None, now).await.unwrap();
    let own = log_in(&*store.here, user, now).await;
    let others = log_in(&*store.here, other, now).await;
    let late = NewSession {
        replaces: Some(others.digest),
        max_per_user: 1,
        ..new_session(user, epoch, now)
    };
    assert_eq!(
        store.here.create(late.clone(), now).await.unwrap(),
        Created::EpochMoved
    );
    let all = [own.clone(), others.clone(), late];
    assert_eq!(living(&*store.there, &all, now).await, ids(&[own, others]));
}

pub(crate) async fn s_15_revoking_wins_against_a_hundred_parallel_logins(store: Sessions) {
    let now = start();
    let user = user_id();
    let epoch = store.here.epoch(user).await.unwrap();
    let sessions: Vec<_> = (0..100)
        .map(|_| NewSession {
            max_per_user: 1000,
            ..new_session(user, epoch, now)
        })
        .collect();
    let revoke = async {
        // Somewhere among the creations: once the first ones are there.
        within(PATIENCE, "a first session", async || {
            (!listed(&*store.there, user, now).await.is_empty()).then_some(())
        })
        .await;
        store.there.revoke_user(user, None, now).await.unwrap()
    };
    let (created, _) = tokio::join!(create_at_once(&store, &sessions, now), revoke);
    assert!(created.contains(&Created::Yes));
    assert_eq!(living(&*store.here, &sessions, now).await, []);
    assert_eq!(living(&*store.there, &sessions, now).await, []);
    assert_eq!(listed(&*store.there, user, now).await, []);
}

pub(crate) async fn a_creation_that_nobody_waits_for_happens_whole_or_not_at_all(store: Sessions) {
    let now = start();
    let user = user_id();
    let mut last = log_in(&*store.here, user, now).await;
    for round in 0..100_u32 {
        let new = NewSession {
            replaces: Some(last.digest),
            ..new_session(user, last.epoch, now)
        };
        let process: Arc<dyn SessionStore> = store.process(round as usize);
        let patience = Duration::from_micros(u64::from(round) * 40);
        let answer = tokio::time::timeout(patience, process.create(new.clone(), now)).await;
        // A list is one read: it sees both sides of a commit, or neither.
        let seen = listed(&*store.there, user, now).await;
        assert_eq!(seen.len(), 1, "round {round}: a session was lost or doubled");
        if answer.is_ok() {
            assert_eq!(seen, ids(std::slice::from_ref(&new)), "round {round}");
        }
        // A creation whose caller has left may still be in flight: a moved epoch keeps it out of the next round.
        last = log_in_with(&*store.here, user, now.after(millis(u64::from(round))), |next| {
            next.max_per_user = 1;
        })
        .await;
        if answer.is_err() {
            store
                .here
                .revoke_user(user, Some(last.session.live.id), now)
                .await
                .unwrap();
            last.epoch = store.here.epoch(user).await.unwrap();
        }
    }
}
