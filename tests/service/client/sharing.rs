//! Checks that come together share calls.

use super::scripted::{Held, ScriptedServer};
use futures_util::future::join_all;
use sessiond::client::{CheckError, CheckedSession, ClientOptions, SessionClient};
use std::time::Duration;
use testkit::waiting::eventually;
use tokio::task::JoinHandle;

fn check(client: &SessionClient, held: &Held) -> JoinHandle<Result<CheckedSession, CheckError>> {
    let (client, token) = (client.clone(), held.token.clone());
    tokio::spawn(async move { client.check(&token).await })
}

#[tokio::test]
async fn checks_of_one_token_share_one_call() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, _watcher, _clock) = server.live_client(ClientOptions::default()).await;
    server.hold_back();
    let mut checks = vec![check(&client, &held)];
    server.arrived(1).await;
    checks.extend((0..200).map(|_| check(&client, &held)));
    tokio::task::yield_now().await;
    server.release();
    for check in checks {
        assert_eq!(check.await.unwrap().unwrap().session_id, held.session);
    }
    assert_eq!(server.call_count(), 1);
}

#[tokio::test]
async fn without_trust_checks_of_one_token_share_the_next_call() {
    let server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let client = server.client(ClientOptions {
        max_entries: 0,
        ..ClientOptions::default()
    });
    server.hold_back();
    // So many calls that the next checks must wait, and so wait together.
    let others: Vec<_> = (0..16).map(|n| server.hold_session(100 + n)).collect();
    let mut checks = Vec::new();
    for (n, other) in others.iter().enumerate() {
        checks.push(check(&client, other));
        server.arrived(n + 1).await;
    }
    let shared = join_all((0..200).map(|_| client.check(&held.token)));
    let release = async { server.release() };
    let (answers, ()) = futures_util::future::join(shared, release).await;
    for answer in answers {
        assert_eq!(answer.unwrap().session_id, held.session);
    }
    let calls = server.calls();
    assert_eq!(
        calls
            .iter()
            .flatten()
            .filter(|token| **token == held.token)
            .count(),
        1
    );
}

#[tokio::test]
async fn f_12_checks_of_many_tokens_ride_few_calls_and_each_gets_its_own_answer() {
    let mut server = ScriptedServer::start().await;
    let (client, _watcher, _clock) = server.live_client(ClientOptions::default()).await;
    let held: Vec<_> = (0..6_000).map(|n| server.hold_session(n)).collect();
    // Every seventh is none.
    held.iter().step_by(7).for_each(|held| server.end(held));
    server.hold_back();
    let answers = join_all(held.iter().map(|held| client.check(&held.token)));
    let release = async {
        server.arrived(1).await;
        server.release();
    };
    let (answers, ()) = futures_util::future::join(answers, release).await;
    for (n, (held, answer)) in held.iter().zip(answers).enumerate() {
        match n % 7 {
            0 => assert_eq!(answer, Err(CheckError::Invalid)),
            _ => {
                let checked = answer.unwrap();
                assert_eq!((checked.user_id, checked.session_id), (held.user, held.session));
            }
        }
    }
    let calls = server.calls();
    assert!(calls.len() <= 16 + 4, "{} calls", calls.len());
    assert!(calls.iter().all(|tokens| tokens.len() <= 4096));
    assert_eq!(calls.iter().flatten().count(), 6_000);
}

#[tokio::test]
async fn checks_gather_while_many_calls_are_under_way() {
    let mut server = ScriptedServer::start().await;
    let (client, _watcher, _clock) = server.live_client(ClientOptions::default()).await;
    server.hold_back();
    let mut checks = Vec::new();
    for n in 0..16 {
        checks.push(check(&client, &server.hold_session(n)));
        server.arrived(checks.len()).await;
    }
    for n in 16..200 {
        checks.push(check(&client, &server.hold_session(n)));
        // Whatever would leave at once has left by then.
        tokio::task::yield_now().await;
    }
    server.release();
    for check in checks {
        assert!(check.await.unwrap().is_ok());
    }
    let calls: Vec<usize> = server.calls().iter().map(Vec::len).collect();
    assert_eq!(calls, [vec![1; 16], vec![184]].concat());
}

#[tokio::test]
async fn f_12_a_check_that_is_given_up_disturbs_nobody() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, _watcher, _clock) = server.live_client(ClientOptions::default()).await;
    server.hold_back();
    let first = check(&client, &held);
    server.arrived(1).await;
    let second = check(&client, &held);
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    server.release();
    assert_eq!(second.await.unwrap().unwrap().session_id, held.session);
    assert_eq!(server.call_count(), 1);
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_is_remembered() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, _watcher, _clock) = server.live_client(ClientOptions::default()).await;
    server.hold_back();
    let only = check(&client, &held);
    server.arrived(1).await;
    only.abort();
    assert!(only.await.is_err());
    server.release();
    eventually("it is remembered", || client.try_cached(&held.token).is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s_68_interleaved_and_cancelled_checks_always_name_the_owner() {
    let mut server = ScriptedServer::start().await;
    // Fewer places than sessions, so that places change hands all the time.
    let options = ClientOptions {
        max_entries: 64,
        ..ClientOptions::default()
    };
    let (client, mut watcher, _clock) = server.live_client(options).await;
    let held: Vec<_> = (0..200).map(|n| server.hold_session(n)).collect();
    let mut tasks = Vec::new();
    for task in 0..8_usize {
        let (client, held) = (client.clone(), held.clone());
        tasks.push(tokio::spawn(async move {
            let mut answered = 0;
            for round in 0..2_000_usize {
                let held = &held[(round * 31 + task * 7) % held.len()];
                let check = client.check(&held.token);
                let limit = Duration::from_micros((round % 5) as u64 * 100);
                let answer = match round % 3 {
                    // Given up half-way, most of the time.
                    0 => tokio::time::timeout(limit, check).await.ok(),
                    _ => Some(check.await),
                };
                if let Some(answer) = answer {
                    let checked = answer.unwrap();
                    assert_eq!((checked.user_id, checked.session_id), (held.user, held.session));
                    answered += 1;
                }
            }
            answered
        }));
    }
    let telling = tokio::spawn({
        let held = held.clone();
        async move {
            for held in held.iter().cycle() {
                watcher.revoke(held);
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
    });
    for task in tasks {
        assert!(task.await.unwrap() > 1_000);
    }
    telling.abort();
}
