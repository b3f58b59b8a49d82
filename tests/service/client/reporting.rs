//! A use of a cached answer is activity, and is reported to sessiond.

use super::scripted::{ScriptedServer, unavailable};
use sessiond::client::{CheckError, ClientOptions};
use std::{collections::BTreeSet, time::Duration};
use testkit::waiting::eventually;

fn often() -> ClientOptions {
    ClientOptions {
        recheck_interval: Duration::from_millis(100),
        ..ClientOptions::default()
    }
}

#[tokio::test]
async fn what_was_used_is_checked_again_in_one_batch_and_nothing_else() {
    let mut server = ScriptedServer::start().await;
    let [used, also_used, idle] = [1, 11, 21].map(|n| server.hold_session(n));
    let (client, _watcher, _clock) = server.live_client(often()).await;
    for held in [&used, &also_used, &idle] {
        client.check(&held.token).await.unwrap();
    }
    assert_eq!(server.call_count(), 3);
    // Between two reports, so that both uses are in one.
    for _ in 0..10 {
        client.try_cached(&used.token).unwrap();
        client.try_cached(&also_used.token).unwrap();
    }
    eventually("both uses are reported", || {
        let reported: BTreeSet<String> = server.calls().into_iter().skip(3).flatten().collect();
        reported == BTreeSet::from([used.token.clone(), also_used.token.clone()])
    })
    .await;
    let calls = server.call_count();
    assert!(calls <= 5, "{calls}");

    // Nothing used since: three more reports have nothing to say.
    tokio::time::sleep(often().recheck_interval * 3).await;
    assert_eq!(server.call_count(), calls);
}

#[tokio::test]
async fn a_reported_use_prolongs_what_is_remembered() {
    let mut server = ScriptedServer::start().await;
    let mut held = server.hold_session(1);
    held.valid_for = Duration::from_secs(100);
    server.hold(&held);
    let (client, mut watcher, clock) = server.live_client(often()).await;
    client.check(&held.token).await.unwrap();
    clock.advance(Duration::from_secs(50));
    watcher.heartbeat(Duration::from_secs(50));
    client.try_cached(&held.token).unwrap();
    server.arrived(2).await;
    // Past the end that the first answer named, and before that of the second.
    clock.advance(Duration::from_secs(55));
    eventually("the second answer is given", || {
        client.try_cached(&held.token).is_some()
    })
    .await;
    assert_eq!(server.call_count(), 2);
}

#[tokio::test]
async fn s_13_a_report_that_is_answered_with_no_ends_what_is_remembered() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, _watcher, _clock) = server.live_client(often()).await;
    client.check(&held.token).await.unwrap();
    server.end(&held);
    eventually("it is refused", || client.try_cached(&held.token).is_none()).await;
    assert_eq!(client.check(&held.token).await, Err(CheckError::Invalid));
}

#[tokio::test]
async fn a_use_that_could_not_be_reported_is_reported_later() {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let (client, _watcher, _clock) = server.live_client(often()).await;
    client.check(&held.token).await.unwrap();
    // Three attempts of the first report, and then it works.
    (0..3).for_each(|_| server.fail_once(unavailable()));
    client.try_cached(&held.token).unwrap();
    server.arrived(1 + 3 + 1).await;
    assert!(client.try_cached(&held.token).is_some());
}
