//! Which answers are remembered, and for how long.

use super::scripted::{BOUND, ScriptedServer, session};
use sessiond::client::{CheckError, ClientOptions, SessionClient};
use std::time::Duration;
use testkit::waiting::eventually;

async fn is_asked_for(server: &ScriptedServer, client: &SessionClient, token: &str) -> bool {
    let before = server.call_count();
    let answer = client.check(token).await;
    let calls = server.call_count() - before;
    // A revocation that arrives meanwhile makes it two.
    assert!(calls <= 2, "{calls} calls for one check: {answer:?}");
    calls > 0
}

#[tokio::test]
async fn a_second_check_is_answered_from_memory() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, _watcher, clock) = server.live_client(ClientOptions::default()).await;
    assert_eq!(client.try_cached(&held.token), None);
    let asked = client.check(&held.token).await.unwrap();
    assert_eq!((asked.user_id, asked.session_id), (held.user, held.session));
    assert_eq!(asked.auth_age, held.auth_age);

    clock.advance(Duration::from_secs(5));
    let remembered = client.check(&held.token).await.unwrap();
    assert_eq!(client.try_cached(&held.token), Some(remembered));
    assert_eq!(server.call_count(), 1);
    assert_eq!(
        (remembered.user_id, remembered.session_id),
        (held.user, held.session)
    );
    assert_eq!(remembered.authenticated_at, asked.authenticated_at);
    assert_eq!(remembered.auth_age, held.auth_age + Duration::from_secs(5));
}

#[tokio::test]
async fn no_is_never_remembered() {
    let mut server = ScriptedServer::start().await;
    let (client, _watcher, _clock) = server.live_client(ClientOptions::default()).await;
    let held = session(1);
    assert_eq!(client.check(&held.token).await, Err(CheckError::Invalid));
    server.hold(&held);
    assert!(client.check(&held.token).await.is_ok());
}

#[tokio::test]
async fn what_cannot_be_a_token_is_refused_without_a_call() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, _watcher, _clock) = server.live_client(ClientOptions::default()).await;
    client.check(&held.token).await.unwrap();
    for text in [
        "",
        "ses_",
        &held.token[1..],
        &format!("{}A", held.token),
        &format!("{}\0", held.token),
    ] {
        assert_eq!(client.check(text).await, Err(CheckError::Invalid), "{text:?}");
    }
    assert_eq!(server.call_count(), 1);
}

#[tokio::test]
async fn nothing_is_given_from_memory_before_the_first_heartbeat() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let client = server.client(ClientOptions::default());
    let mut watcher = server.watcher().await;
    watcher.forget_everything();
    assert!(is_asked_for(&server, &client, &held.token).await);
    assert!(is_asked_for(&server, &client, &held.token).await);
    watcher.heartbeat(Duration::ZERO);
    client.cache_live().await;
    assert!(client.is_cache_live());
}

#[tokio::test]
async fn an_answer_is_given_until_shortly_before_its_session_would_end() {
    let mut server = ScriptedServer::start().await;
    let mut held = session(1);
    held.valid_for = Duration::from_secs(40);
    server.hold(&held);
    let recheck_interval = Duration::from_secs(10);
    let options = ClientOptions {
        recheck_interval,
        ..ClientOptions::default()
    };
    let (client, _watcher, clock) = server.live_client(options).await;
    client.check(&held.token).await.unwrap();
    // The margin is twice the interval at which uses are reported.
    clock.advance(held.valid_for - recheck_interval * 2 - Duration::from_millis(1));
    assert!(client.try_cached(&held.token).is_some());
    clock.advance(Duration::from_millis(1));
    assert_eq!(client.try_cached(&held.token), None);
    assert!(is_asked_for(&server, &client, &held.token).await);
}

#[tokio::test]
async fn an_answer_that_holds_no_longer_is_not_remembered() {
    let mut server = ScriptedServer::start().await;
    let mut held = session(1);
    held.valid_for = Duration::ZERO;
    server.hold(&held);
    let (client, _watcher, _clock) = server.live_client(ClientOptions::default()).await;
    assert!(client.check(&held.token).await.is_ok());
    assert_eq!(client.try_cached(&held.token), None);
}

#[tokio::test]
async fn memory_is_bounded() {
    let mut server = ScriptedServer::start().await;
    let options = ClientOptions {
        max_entries: 64,
        ..ClientOptions::default()
    };
    let (client, _watcher, _clock) = server.live_client(options).await;
    let held: Vec<_> = (0..500).map(|n| server.hold_session(n)).collect();
    for held in &held {
        let checked = client.check(&held.token).await.unwrap();
        assert_eq!(checked.session_id, held.session);
    }
    let remembered = held
        .iter()
        .filter(|held| client.try_cached(&held.token).is_some())
        .count();
    assert!((32..=64).contains(&remembered), "{remembered}");
}

#[tokio::test]
async fn without_memory_every_check_is_asked_and_nothing_is_watched() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let client = server.client(ClientOptions {
        max_entries: 0,
        ..ClientOptions::default()
    });
    for _ in 0..3 {
        assert!(is_asked_for(&server, &client, &held.token).await);
    }
    assert!(!client.is_cache_live());
    // A client with memory is the first to watch.
    let (_client, watcher, _clock) = server.live_client(ClientOptions::default()).await;
    assert_eq!(watcher.cursor, "");
}

#[tokio::test]
async fn s_13_in_silence_the_trust_lapses_at_the_bound() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, _watcher, clock) = server.live_client(ClientOptions::default()).await;
    client.check(&held.token).await.unwrap();
    clock.advance(BOUND - Duration::from_millis(1));
    assert!(client.try_cached(&held.token).is_some());
    clock.advance(Duration::from_millis(1));
    assert!(!client.is_cache_live());
    assert!(is_asked_for(&server, &client, &held.token).await);
}

#[tokio::test]
async fn s_13_a_delayed_heartbeat_is_trusted_from_when_it_was_true() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, mut watcher, clock) = server.live_client(ClientOptions::default()).await;
    client.check(&held.token).await.unwrap();

    // A proxy kept this one for 50 s: true at 10 s, received at 60 s, trusted until 70 s.
    clock.advance(Duration::from_secs(60));
    watcher.heartbeat(Duration::from_secs(10));
    eventually("the heartbeat is heard", || client.is_cache_live()).await;
    assert!(client.try_cached(&held.token).is_some());
    clock.advance(Duration::from_secs(10));
    assert_eq!(client.try_cached(&held.token), None);

    // And this one for longer than the bound: it revives nothing, and the stream is asked for anew.
    watcher.heartbeat(Duration::from_secs(10));
    let again = server.watcher().await;
    assert_eq!(again.cursor, "cursor-4");
    assert!(!client.is_cache_live());
    assert!(is_asked_for(&server, &client, &held.token).await);
}

#[tokio::test]
async fn a_heartbeat_cannot_vouch_for_the_future() {
    let mut server = ScriptedServer::start().await;
    let (client, mut watcher, clock) = server.live_client(ClientOptions::default()).await;
    // The server's clock runs wild.
    watcher.heartbeat(Duration::from_secs(1_000_000));
    let held = server.hold_session(1);
    let marker = server.hold_session(11);
    client.check(&held.token).await.unwrap();
    client.check(&marker.token).await.unwrap();
    server.end(&marker);
    watcher.revoke(&marker);
    eventually("the heartbeat is heard", || {
        client.try_cached(&marker.token).is_none()
    })
    .await;
    assert!(client.try_cached(&held.token).is_some());
    clock.advance(BOUND);
    assert!(!client.is_cache_live());
}

#[tokio::test]
async fn a_heartbeat_of_a_server_that_cannot_tell_prolongs_nothing() {
    use sessiond::pb::{Heartbeat, watch_revocations_response::Event};
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, mut watcher, clock) = server.live_client(ClientOptions::default()).await;
    client.check(&held.token).await.unwrap();
    clock.advance(BOUND);
    watcher.tell(Event::Heartbeat(Heartbeat { complete_until: None }));
    watcher.tell(Event::Heartbeat(Heartbeat { complete_until: None }));
    assert!(is_asked_for(&server, &client, &held.token).await);
    // It did not break the stream: when the server knows again, so does the client.
    watcher.heartbeat(BOUND);
    eventually("the client trusts again", || client.is_cache_live()).await;
}

#[tokio::test]
async fn s_13_a_cut_stream_sends_checks_to_the_server_at_once() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, watcher, _clock) = server.live_client(ClientOptions::default()).await;
    client.check(&held.token).await.unwrap();
    drop(watcher);
    eventually("the cut is noticed", || !client.is_cache_live()).await;
    assert!(is_asked_for(&server, &client, &held.token).await);
    assert!(is_asked_for(&server, &client, &held.token).await);
}

#[tokio::test]
async fn a_resumed_stream_goes_on_where_it_was_cut_and_memory_with_it() {
    let mut server = ScriptedServer::start().await;
    let (stays, ends) = (server.hold_session(1), server.hold_session(11));
    let (client, watcher, _clock) = server.live_client(ClientOptions::default()).await;
    client.check(&stays.token).await.unwrap();
    client.check(&ends.token).await.unwrap();
    drop(watcher);
    let mut watcher = server.watcher().await;
    assert_eq!(watcher.cursor, "cursor-2");
    assert!(!client.is_cache_live());
    server.end(&ends);
    watcher.revoke(&ends);
    watcher.heartbeat(Duration::ZERO);
    eventually("the client trusts again", || client.is_cache_live()).await;
    assert!(client.try_cached(&stays.token).is_some());
    assert_eq!(client.try_cached(&ends.token), None);
}

#[tokio::test]
async fn a_cursor_that_is_refused_is_given_up() {
    let mut server = ScriptedServer::start().await;
    let (_client, watcher, _clock) = server.live_client(ClientOptions::default()).await;
    drop(watcher);
    let watcher = server.watcher().await;
    watcher.refuse(tonic::Status::invalid_argument("no cursor of mine"));
    assert_eq!(server.watcher().await.cursor, "");
}

#[tokio::test]
async fn the_last_clone_ends_the_stream() {
    let mut server = ScriptedServer::start().await;
    let (client, watcher, _clock) = server.live_client(ClientOptions::default()).await;
    let clone = client.clone();
    drop(client);
    assert!(clone.is_cache_live());
    drop(clone);
    watcher.client_left().await;
}
