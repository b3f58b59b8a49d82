//! A network between the store and its server that delays, hangs, cuts, and loses replies.

use super::samples::{
    FAILED_WITHIN, PATIENCE, check, config, database, log_in, new_session, start, user_id, within,
};
use futures_util::future::join_all;
use sessiond::{
    domain::Timestamp,
    store::{Created, NewSession, PostgresStore, SessionKey, SessionStore as _},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use testkit::{
    postgres::PostgresServer,
    proxy::{Conduct, Proxy},
};

const MILLI: Duration = Duration::from_millis(1);

/// A store behind a proxy, and one on the same database that nothing is between.
async fn behind_proxy() -> (PostgresStore, Proxy, PostgresStore) {
    let server = PostgresServer::shared();
    let url = server.new_database();
    let proxy = Proxy::to(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    let proxied = format!("postgres://tester@{}/{}", proxy.address(), database(&url));
    let store = PostgresStore::connect(config(&proxied)).await.unwrap();
    (store, proxy, PostgresStore::connect(config(&url)).await.unwrap())
}

async fn recovers(store: &PostgresStore, new: &NewSession, now: Timestamp) {
    within(PATIENCE, "the store's recovery", async || {
        let found = check(store, &new.digest, now).await.ok()?;
        assert_eq!(found, Some(new.session.live));
        store.epoch(new.session.live.user_id).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_10_a_cut_network_is_an_error_at_once_and_never_an_answer() {
    let (store, proxy, _) = behind_proxy().await;
    let now = start();
    let new = log_in(&store, now, 600).await;
    for _ in 0..5 {
        proxy.set(Conduct::Refuse);
        within(PATIENCE, "noticing", async || {
            match check(&store, &new.digest, now).await {
                Ok(found) => assert_eq!(found, Some(new.session.live)),
                Err(_) => return Some(()),
            }
            None
        })
        .await;
        let asked_at = Instant::now();
        check(&store, &new.digest, now).await.unwrap_err();
        store.epoch(new.session.live.user_id).await.unwrap_err();
        assert!(asked_at.elapsed() < FAILED_WITHIN);
        proxy.set(Conduct::Pass);
        recovers(&store, &new, now).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f_17_a_half_open_connection_is_an_error_in_time() {
    let (store, proxy, _) = behind_proxy().await;
    let now = start();
    let new = log_in(&store, now, 600).await;
    proxy.set(Conduct::HoldAll);
    let asked_at = Instant::now();
    let (checked, created) = tokio::join!(
        async { check(&store, &new.digest, now).await },
        store.create(new_session(user_id(), now, 600), now)
    );
    checked.unwrap_err();
    created.unwrap_err();
    assert!(asked_at.elapsed() < FAILED_WITHIN);
    proxy.set(Conduct::Pass);
    recovers(&store, &new, now).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_13_a_lost_reply_is_an_error_and_trying_again_converges() {
    let (store, proxy, beside) = behind_proxy().await;
    let now = start();
    let kept = log_in(&store, now, 600).await;
    let ended = log_in(&store, now, 600).await;
    let mut created = new_session(user_id(), now, 600);
    created.epoch = store.epoch(created.session.live.user_id).await.unwrap();
    created.replaces = Some(kept.digest);

    proxy.set(Conduct::HoldReplies);
    let (destroyed, creating) = tokio::join!(
        store.destroy(SessionKey::Token(ended.digest), now),
        store.create(created.clone(), now)
    );
    destroyed.unwrap_err();
    creating.unwrap_err();
    // The server has done both, whole, as a connection past the proxy shows.
    assert_eq!(check(&beside, &ended.digest, now).await.unwrap(), None);
    assert_eq!(check(&beside, &kept.digest, now).await.unwrap(), None);
    assert_eq!(
        check(&beside, &created.digest, now).await.unwrap(),
        Some(created.session.live)
    );

    proxy.set(Conduct::Pass);
    let again = within(PATIENCE, "destroying again", async || {
        store.destroy(SessionKey::Token(ended.digest), now).await.ok()
    })
    .await;
    assert_eq!(again, None);
    // A log-in that is tried again has a token of its own; that of the first has reached no client, and expires.
    let mut again = new_session(created.session.live.user_id, now, 600);
    again.epoch = created.epoch;
    assert_eq!(store.create(again, now).await.unwrap(), Created::Yes);
}

#[tokio::test(flavor = "multi_thread")]
async fn f_12_calls_that_are_cut_off_behind_a_slow_network_mix_up_no_answers() {
    let (store, proxy, _) = behind_proxy().await;
    let store = Arc::new(store);
    let now = start();
    let mut sessions = Vec::new();
    for _ in 0..16 {
        sessions.push(log_in(&store, now, 600).await);
    }
    let sessions = Arc::new(sessions);
    proxy.set(Conduct::Delay(20 * MILLI));
    let callers = (0..64_usize).map(|caller| {
        let (store, sessions) = (Arc::clone(&store), Arc::clone(&sessions));
        tokio::spawn(async move {
            let mut answered = 0_u32;
            for turn in 0..60 {
                let new = &sessions[(caller * 7 + turn) % sessions.len()];
                // An answer takes forty milliseconds; callers wait for none to a hundred.
                let patience = u32::try_from((caller * 31 + turn * 17) % 101).unwrap() * MILLI;
                if let Ok(answer) = tokio::time::timeout(patience, check(&store, &new.digest, now)).await {
                    assert_eq!(answer.unwrap(), Some(new.session.live), "somebody else's answer");
                    answered += 1;
                }
            }
            answered
        })
    });
    let mut answered = 0;
    for caller in join_all(callers.collect::<Vec<_>>()).await {
        answered += caller.unwrap();
    }
    assert!(
        (1..3840).contains(&answered),
        "{answered} of 3840 were answered: not a mixture"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_while_a_process_is_cut_off_reaches_it_afterwards() {
    let (store, proxy, beside) = behind_proxy().await;
    let now = start();
    let new = log_in(&beside, now, 600).await;
    let live = new.session.live;
    let mut reader = store.revocations().read(Some(store.revocations().head()));
    proxy.set(Conduct::HoldAll);
    beside
        .destroy(SessionKey::Id(live.id), now)
        .await
        .unwrap()
        .unwrap();
    let ended_at = Instant::now();
    let confirmed_at = store.revocations().complete_until();
    within(PATIENCE, "time for a heartbeat", async || {
        (ended_at.elapsed() > 700 * MILLI).then_some(())
    })
    .await;
    assert_eq!(
        store.revocations().complete_until(),
        confirmed_at,
        "the log claims to know what it cannot know"
    );
    proxy.set(Conduct::Pass);
    let told = tokio::time::timeout(PATIENCE, reader.next(1)).await.unwrap();
    let ended = sessiond::domain::Revocation::Session {
        session: live.id,
        user: live.user_id,
    };
    assert_eq!(told[0].1, sessiond::store::RevocationEvent::Revoked(ended));
}
