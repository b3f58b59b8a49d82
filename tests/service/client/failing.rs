//! "I cannot tell" is not "no".

use super::scripted::{ScriptedServer, invalid_session, unavailable};
use sessiond::client::{CallerCredential, CannotTell, CheckError, ClientOptions, SessionClient};
use std::time::Duration;
use testkit::waiting::in_time;
use tokio::net::TcpListener;
use tonic::{Code, Status, transport::Endpoint};

#[tokio::test]
async fn s_96_no_failure_but_the_verdict_itself_is_a_no() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, _watcher, _clock) = server.live_client(ClientOptions::default()).await;
    for code in (1..=16).map(Code::from_i32) {
        server.fail_from_now_on(Status::new(code, "as a proxy or a broken server might say"));
        let error = client.check(&held.token).await.unwrap_err();
        let is_refusal = matches!(code, Code::Unauthenticated | Code::PermissionDenied);
        assert_eq!(error == CheckError::CallerRefused, is_refusal, "{code:?}");
        assert_ne!(error, CheckError::Invalid, "{code:?}");
    }
    server.fail_from_now_on(invalid_session());
    assert_eq!(client.check(&held.token).await, Err(CheckError::Invalid));
}

#[tokio::test]
async fn s_96_within_a_batch_each_token_has_its_own_verdict() {
    let mut server = ScriptedServer::start().await;
    let (lives, unknown, none) = (
        server.hold_session(1),
        server.hold_session(2),
        super::scripted::session(3),
    );
    server.cannot_ask_about(&unknown);
    let (client, _watcher, _clock) = server.live_client(ClientOptions::default()).await;
    // Calls enough under way that the three must wait for one another.
    server.hold_back();
    let mut filling = Vec::new();
    for n in 0..16 {
        let filler = server.hold_session(100 + n);
        let client = client.clone();
        filling.push(tokio::spawn(async move { client.check(&filler.token).await }));
        server.arrived(filling.len()).await;
    }
    let checks = futures_util::future::join4(
        client.check(&lives.token),
        client.check(&unknown.token),
        client.check(&none.token),
        async { server.release() },
    );
    let (lives_answer, unknown_answer, none_answer, ()) = checks.await;
    assert_eq!(lives_answer.unwrap().session_id, lives.session);
    assert_eq!(
        unknown_answer,
        Err(CheckError::CannotTell(CannotTell::Unreachable))
    );
    assert_eq!(none_answer, Err(CheckError::Invalid));
    assert_eq!(server.calls().last().unwrap().len(), 3);
}

#[tokio::test]
async fn a_check_is_repeated_twice_while_sessiond_is_unavailable() {
    let server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let client = server.client(ClientOptions::default());
    server.fail_once(unavailable());
    server.fail_once(unavailable());
    assert!(client.check(&held.token).await.is_ok());
    assert_eq!(server.call_count(), 3);

    (0..3).for_each(|_| server.fail_once(unavailable()));
    let error = client.check(&held.token).await;
    assert_eq!(error, Err(CheckError::CannotTell(CannotTell::Unreachable)));
    assert_eq!(server.call_count(), 6);
}

#[tokio::test]
async fn what_repetition_cannot_mend_is_not_repeated() {
    let server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let client = server.client(ClientOptions::default());
    let failures = [
        Status::resource_exhausted(""),
        Status::deadline_exceeded(""),
        Status::permission_denied(""),
        Status::invalid_argument(""),
        invalid_session(),
    ];
    for (n, failure) in failures.into_iter().enumerate() {
        server.fail_once(failure);
        assert!(client.check(&held.token).await.is_err());
        assert_eq!(server.call_count(), n + 1);
    }
}

#[tokio::test]
async fn s_96_a_server_that_does_not_answer_is_no_no() {
    let server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let deadline = Duration::from_millis(200);
    let client = server.client(ClientOptions {
        deadline,
        ..ClientOptions::default()
    });
    server.hold_back();
    let error = in_time(client.check(&held.token)).await;
    assert_eq!(error, Err(CheckError::CannotTell(CannotTell::DeadlinePassed)));
}

#[tokio::test]
async fn s_96_a_server_that_is_not_there_is_no_no() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let client = SessionClient::start(endpoint, ClientOptions::default()).unwrap();
    let token = super::scripted::session(1).token;
    let error = client.check(&token).await;
    assert_eq!(error, Err(CheckError::CannotTell(CannotTell::Unreachable)));
}

#[tokio::test]
async fn s_96_an_outage_leaves_live_answers_alone() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, _watcher, _clock) = server.live_client(ClientOptions::default()).await;
    client.check(&held.token).await.unwrap();
    server.fail_from_now_on(unavailable());
    assert!(client.check(&held.token).await.is_ok());
}

#[tokio::test]
async fn this_programs_credential_goes_with_every_call_and_shows_nowhere() {
    let server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let credential = CallerCredential::api_key("key-of-a-test").unwrap();
    let options = ClientOptions {
        credential,
        ..ClientOptions::default()
    };
    assert!(!format!("{options:?}").contains("key-of-a-test"));
    let client = server.client(options);
    client.check(&held.token).await.unwrap();
    assert_eq!(server.authorizations(), [Some("Bearer key-of-a-test".to_owned())]);
    for key in ["", "two words", "a\nb", "\u{e9}"] {
        assert!(CallerCredential::api_key(key).is_err(), "{key:?}");
    }
}

#[test]
fn outside_a_runtime_a_client_does_not_start() {
    let endpoint = Endpoint::from_static("http://127.0.0.1:1");
    assert!(SessionClient::start(endpoint, ClientOptions::default()).is_err());
}
