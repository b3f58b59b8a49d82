//! Lists, counts, and the freeing of space.

use futures_util::future::join_all;
use sessiond::{
    domain::{SessionId, Timestamp, TokenDigest},
    store::{Created, NewSession, ScanCursor, SessionKey, SessionStore},
};
use std::collections::BTreeSet;
use testkit::{
    samples::{
        IDLE_TIMEOUT, LIFETIME, listed, lives, living, log_in, log_in_with, millis, new_session, secs, span,
        start, user_id,
    },
    stores::Opened,
};

type Sessions = Opened<dyn SessionStore>;

async fn ten_sessions(store: &Sessions, now: Timestamp) -> Vec<NewSession> {
    let user = user_id();
    let mut sessions = Vec::new();
    for n in 0..10 {
        // Some in one millisecond, some not.
        sessions.push(log_in(&*store.process(n as usize), user, now.after(millis(n / 3))).await);
    }
    sessions.sort_unstable_by_key(|new| std::cmp::Reverse(new.session.live.id));
    sessions
}

fn ids(sessions: &[NewSession]) -> Vec<SessionId> {
    sessions.iter().map(|new| new.session.live.id).collect()
}

pub(crate) async fn s_18_a_list_has_the_living_sessions_newest_first(store: Sessions) {
    let now = start();
    let sessions = ten_sessions(&store, now).await;
    let user = sessions[0].session.live.user_id;
    let now = now.after(secs(1));
    let whole: Vec<_> = sessions.into_iter().map(|new| new.session).collect();
    assert_eq!(store.there.list(user, None, 100, now).await.unwrap(), whole);
    assert_eq!(store.there.list(user, None, 4, now).await.unwrap(), whole[..4]);
    assert_eq!(store.there.list(user, None, 0, now).await.unwrap(), []);
    assert_eq!(store.there.list(user_id(), None, 100, now).await.unwrap(), []);
}

pub(crate) async fn s_18_a_list_continues_before_an_id(store: Sessions) {
    let now = start();
    let sessions = ten_sessions(&store, now).await;
    let user = sessions[0].session.live.user_id;
    let now = now.after(secs(1));
    let mut paged = Vec::new();
    let mut before = None;
    loop {
        let page = store.there.list(user, before, 3, now).await.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        before = Some(last.live.id);
        paged.extend(page.iter().map(|session| session.live.id));
        // What comes to life or ends meanwhile shifts no page.
        log_in(&*store.here, user, now).await;
        store.here.destroy(SessionKey::Id(paged[0]), now).await.unwrap();
    }
    assert_eq!(paged, ids(&sessions));
    let unknown = testkit::samples::session_id(now.before(secs(60)));
    assert_eq!(store.there.list(user, Some(unknown), 3, now).await.unwrap(), []);
}

pub(crate) async fn a_list_never_has_what_expired_or_was_revoked(store: Sessions) {
    let now = start();
    let user = user_id();
    log_in(&*store.here, user, now).await;
    store.here.revoke_user(user, None, now).await.unwrap();
    let short = log_in_with(&*store.here, user, now, |new| {
        new.session.live.span = span(LIFETIME, secs(60));
    })
    .await;
    let long = log_in(&*store.here, user, now).await;
    let replaced = log_in(&*store.here, user, now).await;
    let new = log_in_with(&*store.here, user, now, |new| {
        new.replaces = Some(replaced.digest)
    })
    .await;
    let mut all = ids(&[short, long.clone(), new.clone()]);
    all.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(
        listed(&*store.there, user, now.after(secs(60)).before(millis(1))).await,
        all
    );
    let mut left = ids(&[long, new]);
    left.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(listed(&*store.there, user, now.after(secs(60))).await, left);
    // The dead take no place in a page.
    assert_eq!(
        store
            .there
            .list(user, None, 2, now.after(secs(60)))
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(listed(&*store.there, user, now.after(IDLE_TIMEOUT)).await, []);
}

pub(crate) async fn a_list_has_nobody_elses_sessions(store: Sessions) {
    let now = start();
    let mine = log_in(&*store.here, user_id(), now).await;
    log_in(&*store.here, user_id(), now).await;
    assert_eq!(
        listed(&*store.there, mine.session.live.user_id, now).await,
        ids(&[mine])
    );
}

pub(crate) async fn a_count_is_of_living_sessions(store: Sessions) {
    let now = start();
    let user = user_id();
    assert_eq!(store.there.count(now).await.unwrap(), 0);
    let sessions = [
        log_in(&*store.here, user, now).await,
        log_in(&*store.here, user, now).await,
        log_in(&*store.here, user_id(), now).await,
        log_in(&*store.here, user_id(), now).await,
    ];
    assert_eq!(store.there.count(now).await.unwrap(), 4);
    store
        .here
        .destroy(SessionKey::Token(sessions[2].digest), now)
        .await
        .unwrap();
    assert_eq!(store.there.count(now).await.unwrap(), 3);
    log_in_with(&*store.here, user, now.after(millis(1)), |new| {
        new.max_per_user = 2
    })
    .await;
    assert_eq!(store.there.count(now).await.unwrap(), 3);
    log_in_with(&*store.here, user, now.after(millis(2)), |new| {
        new.replaces = Some(sessions[3].digest)
    })
    .await;
    assert_eq!(store.there.count(now).await.unwrap(), 3);
    store.here.revoke_user(user, None, now).await.unwrap();
    assert_eq!(store.there.count(now).await.unwrap(), 0);
    log_in(&*store.here, user, now).await;
    assert_eq!(store.there.count(now).await.unwrap(), 1);
    let later = now.after(IDLE_TIMEOUT);
    while store.here.sweep(later, 100).await.unwrap() > 0 {}
    assert_eq!(store.there.count(later).await.unwrap(), 0);
}

pub(crate) async fn a_sweep_changes_no_answer(store: Sessions) {
    let now = start();
    let user = user_id();
    let mut sessions = Vec::new();
    for n in 0..12 {
        let idle_timeout = secs(60 * (1 + n % 3));
        let new = log_in_with(&*store.here, user, now.after(millis(n)), |new| {
            new.session.live.span = span(LIFETIME, idle_timeout);
        })
        .await;
        sessions.push(new);
    }
    for minutes in 0..4 {
        let now = now.after(secs(60 * minutes)).after(millis(20));
        let answers = async || {
            (
                living(&*store.there, &sessions, now).await,
                listed(&*store.there, user, now).await,
                store.there.epoch(user).await.unwrap(),
            )
        };
        let before = answers().await;
        assert_eq!(before.0.len(), 12 - 4 * minutes as usize);
        while store.here.sweep(now, 3).await.unwrap() > 0 {}
        assert_eq!(answers().await, before);
    }
}

pub(crate) async fn a_sweep_frees_no_more_than_its_limit_and_in_the_end_everything(store: Sessions) {
    let now = start();
    for _ in 0..10 {
        log_in(&*store.here, user_id(), now).await;
    }
    let kept = log_in(&*store.here, user_id(), now.after(secs(1))).await;
    let end = now.after(IDLE_TIMEOUT);
    assert_eq!(store.here.sweep(end.before(millis(1)), 100).await.unwrap(), 0);
    let mut freed = Vec::new();
    loop {
        match store.here.sweep(end, 4).await.unwrap() {
            0 => break,
            some => freed.push(some),
        }
    }
    assert!(freed.iter().all(|freed| *freed <= 4), "{freed:?}");
    assert_eq!(freed.iter().sum::<u64>(), 10);
    assert!(lives(&*store.there, &kept.digest, end).await);
    assert_eq!(store.there.count(end).await.unwrap(), 1);
}

pub(crate) async fn a_sweep_leaves_what_a_revocation_said_in_force(store: Sessions) {
    let now = start();
    let user = user_id();
    let epoch = store.here.epoch(user).await.unwrap();
    let old = log_in(&*store.here, user, now).await;
    store.here.revoke_user(user, None, now).await.unwrap();
    let moved = store.here.epoch(user).await.unwrap();
    // Long after everything of the user has expired as well.
    let later = now.after(secs(1_000_000));
    while store.here.sweep(later, 100).await.unwrap() > 0 {}
    assert!(!lives(&*store.there, &old.digest, now).await);
    assert!(store.there.epoch(user).await.unwrap() >= moved);
    let late = new_session(user, epoch, later);
    assert_eq!(
        store.there.create(late, later).await.unwrap(),
        Created::EpochMoved
    );
}

pub(crate) async fn parallel_sweeps_free_each_session_once(store: Sessions) {
    let now = start();
    for _ in 0..30 {
        log_in(&*store.here, user_id(), now).await;
    }
    let end = now.after(IDLE_TIMEOUT);
    let tasks = (0..6).map(|turn| {
        let process = store.process(turn);
        tokio::spawn(async move { process.sweep(end, 10).await })
    });
    let answers = join_all(tasks.collect::<Vec<_>>()).await;
    let mut freed: u64 = answers.into_iter().map(|answer| answer.unwrap().unwrap()).sum();
    loop {
        match store.here.sweep(end, 10).await.unwrap() {
            0 => break,
            some => freed += some,
        }
    }
    assert_eq!(freed, 30);
}

/// Every digest that a scan from the beginning gives.
async fn scanned(store: &dyn SessionStore, now: Timestamp) -> BTreeSet<TokenDigest> {
    let mut digests = BTreeSet::new();
    let mut cursor = Some(ScanCursor::default());
    while let Some(at) = cursor {
        let page = store.scan(at, now).await.unwrap();
        digests.extend(page.digests);
        cursor = page.next;
    }
    digests
}

pub(crate) async fn a_scan_gives_every_living_session_and_no_other(store: Sessions) {
    let now = start();
    let mut expected = BTreeSet::new();
    for n in 0..60 {
        let user = user_id();
        let new = log_in(&*store.process(n), user, now).await;
        match n % 4 {
            0 => drop(
                store
                    .here
                    .destroy(SessionKey::Token(new.digest), now)
                    .await
                    .unwrap(),
            ),
            1 => drop(store.here.revoke_user(user, None, now).await.unwrap()),
            _ => drop(expected.insert(new.digest)),
        }
    }
    assert_eq!(scanned(&*store.there, now).await, expected);
    assert_eq!(scanned(&*store.there, now.after(LIFETIME)).await, BTreeSet::new());
    store.here.revoke_everyone(now).await.unwrap();
    let again = log_in(&*store.here, user_id(), now).await;
    for digest in scanned(&*store.there, now).await {
        // A store may still give what everyone's revocation has ended; asking for it decides.
        let is_alive = store.there.get(&digest, now).await.unwrap().is_some();
        assert_eq!(is_alive, digest == again.digest);
    }
    assert!(scanned(&*store.there, now).await.contains(&again.digest));
}
