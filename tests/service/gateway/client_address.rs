//! Which address a session is said to come from.

use super::{
    stage::{EMAIL, PASSWORD, SESSIONS, Stage, log_in_as, plain},
    wire::get,
};
use sessiond::gateway::GatewayConfig;

/// The address that a log-in with this X-Forwarded-For is recorded with.
async fn recorded(stage: &Stage, forwarded: &str) -> String {
    let reply = stage
        .send(log_in_as(EMAIL, PASSWORD).header("X-Forwarded-For", forwarded))
        .await
        .expect(200);
    let cookie = reply.header("set-cookie").unwrap().split(';').next().unwrap();
    // The same headers again, so that the gateway is reached in the same way.
    let list = stage
        .send(
            get(SESSIONS)
                .header("Cookie", cookie)
                .header("X-Forwarded-For", forwarded),
        )
        .await
        .expect(200)
        .json();
    let sessions = list["sessions"].as_array().unwrap();
    let current = sessions
        .iter()
        .find(|session| session["is_current"] == true)
        .unwrap();
    current["client"]["ip"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn s_57_what_an_untrusted_peer_forwards_is_not_believed() {
    let stage = Stage::set().await;
    for forwarded in [
        "192.0.2.1",
        "10.0.0.1, 192.0.2.1",
        "garbage",
        &"1.1.1.1,".repeat(200),
    ] {
        assert_eq!(recorded(&stage, forwarded).await, "127.0.0.1");
    }
}

#[tokio::test]
async fn s_57_behind_a_trusted_proxy_the_last_untrusted_hop_counts() {
    let config = GatewayConfig {
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
        ..plain()
    };
    let stage = Stage::set_with(config).await;
    assert_eq!(recorded(&stage, "192.0.2.1").await, "192.0.2.1");
    assert_eq!(recorded(&stage, "6.6.6.6, 192.0.2.1").await, "192.0.2.1");
    assert_eq!(
        recorded(&stage, "6.6.6.6, 192.0.2.1, 10.0.0.9").await,
        "192.0.2.1"
    );
    assert_eq!(recorded(&stage, "6.6.6.6, 2001:db8::1").await, "2001:db8::1");
    assert_eq!(recorded(&stage, "6.6.6.6, garbage").await, "127.0.0.1");
    assert_eq!(recorded(&stage, &"6.6.6.6,".repeat(200)).await, "127.0.0.1");
}

#[tokio::test]
async fn a_session_shows_what_the_client_called_itself() {
    let stage = Stage::set().await;
    let reply = stage
        .send(log_in_as(EMAIL, PASSWORD).header("User-Agent", format!("{}é\t\u{7}", "x".repeat(511))))
        .await;
    // hyper itself refuses control characters; without them an agent of any length is cut, not refused.
    assert_eq!(reply.status, 400);
    let reply = stage
        .send(log_in_as(EMAIL, PASSWORD).header("User-Agent", format!("{}é", "x".repeat(511))))
        .await
        .expect(200);
    let cookie = reply.header("set-cookie").unwrap().split(';').next().unwrap();
    let list = stage
        .send(get(SESSIONS).header("Cookie", cookie))
        .await
        .expect(200)
        .json();
    assert_eq!(list["sessions"][0]["client"]["user_agent"], "x".repeat(511));
}
