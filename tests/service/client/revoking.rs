//! A revocation that arrives drops cached answers and beats calls in flight.

use super::scripted::{Held, ScriptedServer, Watcher, unavailable};
use sessiond::{
    client::{CheckError, ClientOptions, SessionClient},
    domain::Revocation,
    pb::{self, watch_revocations_response::Event},
};
use std::time::Duration;
use testkit::waiting::eventually;
use tonic::Code;

#[tokio::test]
async fn s_13_a_revocation_that_is_heard_ends_what_is_remembered() {
    type Tell = fn(&mut Watcher, &Held);
    let told: [Tell; 7] = [
        |watcher, held| watcher.revoke(held),
        |watcher, held| watcher.revoke_user(held.user),
        |watcher, _| watcher.tell(Event::Everyone(pb::EveryoneRevoked {})),
        |watcher, _| watcher.forget_everything(),
        |watcher, held| {
            watcher.tell(Event::User(pb::UserRevoked {
                user_id: held.user.to_string(),
                except_session_id: super::scripted::session(5).session.to_string(),
            }));
        },
        // What cannot be read may concern anyone.
        |watcher, _| watcher.tell(Event::Session(pb::SessionRevoked::default())),
        |watcher, _| watcher.tell(Event::User(pb::UserRevoked::default())),
    ];
    for tell in told {
        let mut server = ScriptedServer::start().await;
        let held = server.hold_session(1);
        // So that no report of its use finds out before the stream does.
        let recheck_interval = Duration::from_secs(10);
        let options = ClientOptions {
            recheck_interval,
            ..ClientOptions::default()
        };
        let (client, mut watcher, _clock) = server.live_client(options).await;
        client.check(&held.token).await.unwrap();
        assert!(client.try_cached(&held.token).is_some());
        server.end(&held);
        tell(&mut watcher, &held);
        eventually("it is refused from memory", || {
            client.try_cached(&held.token).is_none()
        })
        .await;
        assert_eq!(server.call_count(), 1);
        assert!(client.is_cache_live());
        assert_eq!(client.check(&held.token).await, Err(CheckError::Invalid));
    }
}

#[tokio::test]
async fn a_revocation_leaves_others_remembered() {
    let mut server = ScriptedServer::start().await;
    // The first two are one user's.
    let [ends, same_user, other] = [1, 2, 11].map(|n| server.hold_session(n));
    let (client, mut watcher, _clock) = server.live_client(ClientOptions::default()).await;
    for held in [&ends, &same_user, &other] {
        client.check(&held.token).await.unwrap();
    }
    server.end(&ends);
    watcher.revoke(&ends);
    eventually("it is refused", || client.try_cached(&ends.token).is_none()).await;
    assert!(client.try_cached(&same_user.token).is_some());
    server.end(&same_user);
    watcher.revoke_user(same_user.user);
    eventually("it is refused", || client.try_cached(&same_user.token).is_none()).await;
    assert!(client.try_cached(&other.token).is_some());
}

/// Waits until every event sent has arrived. The marker is cached before.
async fn heard(server: &ScriptedServer, client: &SessionClient, watcher: &mut Watcher, marker: &Held) {
    server.end(marker);
    watcher.revoke(marker);
    eventually("the marker is heard", || {
        client.try_cached(&marker.token).is_none()
    })
    .await;
}

#[tokio::test]
async fn s_13_a_revocation_beats_the_answer_that_is_under_way() {
    type Tell = fn(&mut Watcher, &Held);
    let told: [Tell; 3] = [
        |watcher, held| watcher.revoke(held),
        |watcher, held| watcher.revoke_user(held.user),
        |watcher, _| watcher.forget_everything(),
    ];
    for tell in told {
        let mut server = ScriptedServer::start().await;
        let (held, marker) = (server.hold_session(1), server.hold_session(11));
        let (client, mut watcher, _clock) = server.live_client(ClientOptions::default()).await;
        client.check(&marker.token).await.unwrap();

        // The answer "yes" is made, and waits in the network.
        server.hold_back();
        let check = tokio::spawn({
            let (client, token) = (client.clone(), held.token.clone());
            async move { client.check(&token).await }
        });
        server.arrived(2).await;
        // Meanwhile the session ends, and the client receives that.
        server.end(&held);
        tell(&mut watcher, &held);
        heard(&server, &client, &mut watcher, &marker).await;
        server.release();

        // The old answer is not believed: the client asks again.
        assert_eq!(check.await.unwrap(), Err(CheckError::Invalid));
        assert_eq!(client.try_cached(&held.token), None);
        assert_eq!(client.check(&held.token).await, Err(CheckError::Invalid));
    }
}

#[tokio::test]
async fn s_13_a_joined_call_never_gives_an_answer_from_before_a_revocation() {
    let mut server = ScriptedServer::start().await;
    let (held, marker) = (server.hold_session(1), server.hold_session(11));
    let (client, mut watcher, _clock) = server.live_client(ClientOptions::default()).await;
    client.check(&marker.token).await.unwrap();
    server.hold_back();
    let check = |client: &SessionClient| {
        let (client, token) = (client.clone(), held.token.clone());
        tokio::spawn(async move { client.check(&token).await })
    };
    let first = check(&client);
    server.arrived(2).await;
    server.end(&held);
    watcher.revoke(&held);
    heard(&server, &client, &mut watcher, &marker).await;
    let late = check(&client);
    server.release();
    assert_eq!(late.await.unwrap(), Err(CheckError::Invalid));
    assert_eq!(first.await.unwrap(), Err(CheckError::Invalid));
}

#[tokio::test]
async fn s_13_without_trust_a_check_shares_no_call_that_left_before_it() {
    let server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    // The stream carries nothing: no heartbeat ever comes.
    let client = server.client(ClientOptions::default());
    server.hold_back();
    let check = |client: &SessionClient| {
        let (client, token) = (client.clone(), held.token.clone());
        tokio::spawn(async move { client.check(&token).await })
    };
    let early = check(&client);
    server.arrived(1).await;
    server.end(&held);
    let late = check(&client);
    server.arrived(2).await;
    server.release();
    // Both were true while it was under way.
    assert!(matches!(early.await.unwrap(), Ok(_) | Err(CheckError::Invalid)));
    assert_eq!(late.await.unwrap(), Err(CheckError::Invalid));
}

#[tokio::test]
async fn s_13_what_this_program_ends_is_refused_before_the_stream_tells_it() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, _watcher, _clock) = server.live_client(ClientOptions::default()).await;
    client.check(&held.token).await.unwrap();
    assert!(client.destroy_session(&held.token).await.unwrap());
    assert_eq!(client.try_cached(&held.token), None);
    assert_eq!(client.check(&held.token).await, Err(CheckError::Invalid));
    assert!(!client.destroy_session(&held.token).await.unwrap());
}

#[tokio::test]
async fn s_13_what_this_program_ends_beats_the_answer_that_is_under_way() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, _watcher, _clock) = server.live_client(ClientOptions::default()).await;
    server.hold_back();
    let check = tokio::spawn({
        let (client, token) = (client.clone(), held.token.clone());
        async move { client.check(&token).await }
    });
    server.arrived(1).await;
    client.destroy_session(&held.token).await.unwrap();
    server.release();
    assert_eq!(check.await.unwrap(), Err(CheckError::Invalid));
    assert_eq!(client.try_cached(&held.token), None);
}

#[tokio::test]
async fn destroying_is_retried_and_forgets_even_if_the_outcome_is_unknown() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, _watcher, _clock) = server.live_client(ClientOptions::default()).await;
    client.check(&held.token).await.unwrap();
    for _ in 0..3 {
        server.fail_once(unavailable());
    }
    let failed = client.destroy_session(&held.token).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    assert_eq!(server.destroyed().len(), 3);
    assert_eq!(client.try_cached(&held.token), None);
}

#[tokio::test]
async fn a_program_may_forget_what_it_revoked_by_other_calls() {
    let mut server = ScriptedServer::start().await;
    let (held, other) = (server.hold_session(1), server.hold_session(11));
    let (client, _watcher, _clock) = server.live_client(ClientOptions::default()).await;
    client.check(&held.token).await.unwrap();
    client.check(&other.token).await.unwrap();
    client.forget(Revocation::User {
        user: held.user,
        except: None,
    });
    assert_eq!(client.try_cached(&held.token), None);
    assert!(client.try_cached(&other.token).is_some());
    client.forget_token(&other.token);
    assert_eq!(client.try_cached(&other.token), None);
}

#[tokio::test]
async fn s_13_a_no_is_not_undone_by_an_older_yes_that_comes_later() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, watcher, _clock) = server.live_client(ClientOptions::default()).await;
    let check = |client: &SessionClient| {
        let (client, token) = (client.clone(), held.token.clone());
        tokio::spawn(async move { client.check(&token).await })
    };
    // A yes is made, and waits in the network.
    server.hold_back();
    let old = check(&client);
    server.arrived(1).await;
    server.end(&held);
    // The stream is cut before it carries the end, so that the next check does not share that call.
    drop(watcher);
    let mut watcher = server.watcher().await;
    server.let_pass_from_now_on();
    assert_eq!(client.check(&held.token).await, Err(CheckError::Invalid));
    watcher.heartbeat(Duration::ZERO);
    eventually("the client trusts again", || client.is_cache_live()).await;
    server.release();
    assert_eq!(old.await.unwrap(), Err(CheckError::Invalid));
    assert_eq!(client.try_cached(&held.token), None);
}
