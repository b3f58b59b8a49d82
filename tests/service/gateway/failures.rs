//! When the service fails, refuses or is gone: never "logged out", and the cookie is kept.

use super::{
    scripted::{Scripted, SlowLogIns, failure},
    stage::{
        EMAIL, LOGOUT, ME, PASSWORD, SESSIONS, Stage, USERS, channel_to, log_in_as, plain, serve_gateway,
    },
    wire::{Ask, Jar, Reply, ask, delete, get, post},
};
use serde_json::json;
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::{Code, Status};

fn jar() -> Jar {
    Jar::with("session", &format!("ses_{}", "A".repeat(43)))
}

/// A request to every route that asks the service, as a browser with a session sends it.
fn every_route() -> Vec<Ask> {
    let id = "019a0000-0000-7000-8000-000000000000";
    let asks = [
        log_in_as(EMAIL, PASSWORD),
        delete(LOGOUT),
        get(ME),
        ask("PATCH", ME).json(&json!({ "first_name": "x" })),
        post("/api/v1/users/me/password").json(&json!({ "current_password": "x", "new_password": "y" })),
        post(USERS).json(&json!({ "email": "a@b.c", "password": PASSWORD })),
        get(USERS),
        get(&format!("{USERS}/{id}")),
        ask("PUT", &format!("{USERS}/{id}")).json(&json!({ "first_name": "x" })),
        delete(&format!("{USERS}/{id}")),
        get(SESSIONS),
        delete(SESSIONS),
        delete(&format!("{SESSIONS}/{id}")),
        get("/api/v1/status"),
        get("/api/v1/stats"),
    ];
    asks.into_iter().map(|ask| ask.cookies(&jar())).collect()
}

#[track_caller]
fn assert_kept(reply: &Reply) {
    assert_eq!(reply.header("set-cookie"), None, "{reply:?}");
    assert_eq!(reply.header("clear-site-data"), None, "{reply:?}");
    assert!(!reply.body.contains("the text of the service"), "{reply:?}");
}

#[tokio::test]
async fn s_96_a_service_that_is_gone_is_503_everywhere_and_keeps_the_cookie() {
    let stage = Stage::set().await;
    let jar = stage.log_in(EMAIL).await;
    stage.send(get(ME).cookies(&jar)).await.expect(200);
    stage.stop_service().await;
    for ask in every_route() {
        let reply = stage.send(ask).await.expect(503);
        assert_eq!(reply.json()["type"], "urn:sessiond:problem:unavailable");
        assert_kept(&reply);
    }
}

#[tokio::test]
async fn s_96_a_connection_that_breaks_off_is_503() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let breaking = tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    let web = serve_gateway(plain(), channel_to(address));
    for ask in every_route() {
        assert_kept(&ask.send(web.address).await.expect(503));
    }
    breaking.abort();
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_504() {
    let scripted = Scripted::silent();
    for ask in every_route() {
        let reply = ask.send(scripted.web.address).await.expect(504);
        assert_kept(&reply);
    }
}

#[tokio::test]
async fn every_row_of_the_error_table_holds_on_every_route() {
    type Row = (fn() -> Status, u16, Option<&'static str>);
    let rows: [Row; 9] = [
        (
            || failure(Code::Unavailable, "STORE_UNAVAILABLE", None),
            503,
            None,
        ),
        (
            || {
                failure(
                    Code::ResourceExhausted,
                    "HASHING_BUSY",
                    Some(Duration::from_millis(2500)),
                )
            },
            429,
            Some("3"),
        ),
        (
            || failure(Code::ResourceExhausted, "HASHING_BUSY", None),
            429,
            Some("1"),
        ),
        (
            || failure(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", None),
            504,
            None,
        ),
        (|| failure(Code::Internal, "INTERNAL", None), 502, None),
        // The gateway, not the user, is refused.
        (|| Status::unauthenticated("the text of the service"), 502, None),
        (
            || failure(Code::Unauthenticated, "UNKNOWN_CALLER", None),
            502,
            None,
        ),
        (
            || failure(Code::PermissionDenied, "SCOPE_MISSING", None),
            403,
            None,
        ),
        (|| Status::unimplemented("the text of the service"), 502, None),
    ];
    for (status, expected, retry_after) in rows {
        let scripted = Scripted::answering(status);
        for ask in every_route() {
            let reply = ask.send(scripted.web.address).await.expect(expected);
            assert_eq!(reply.header("retry-after"), retry_after);
            assert_kept(&reply);
        }
    }
}

#[tokio::test]
async fn a_failing_store_is_not_told_as_a_closed_registration() {
    let closed = sessiond::gateway::GatewayConfig {
        registration: false,
        ..plain()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let web = serve_gateway(closed, channel_to(address));
    let register = post(USERS).json(&json!({ "email": "a@b.c", "password": PASSWORD }));
    register.cookies(&jar()).send(web.address).await.expect(503);
}

#[tokio::test]
async fn the_gateway_goes_on_when_the_service_comes_back() {
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let web = serve_gateway(plain(), channel_to(port));
    get(ME).cookies(&jar()).send(web.address).await.expect(503);
    let listener = sessiond::listener::Listener::bind(port).unwrap();
    let (_trigger, shutdown) = sessiond::shutdown::channel();
    let options = sessiond::listener::Options::new(sessiond::listener::Protocol::Rpc);
    let answer = || {
        tower::service_fn(|_: http::Request<sessiond::listener::RequestBody>| {
            let response: http::Response<tonic::body::Body> =
                failure(Code::Unauthenticated, "INVALID_SESSION", None).into_http();
            std::future::ready(Ok::<_, std::convert::Infallible>(response))
        })
    };
    listener.serve(options, shutdown, answer).unwrap();
    let patience = Duration::from_secs(30);
    let back = async { while get(ME).cookies(&jar()).send(web.address).await.status != 401 {} };
    tokio::time::timeout(patience, back).await.unwrap();
}

#[tokio::test]
async fn log_ins_that_pile_up_leave_room_for_session_checks() {
    let slow = SlowLogIns::start();
    let address = slow.web.address;
    let mut log_ins = tokio::task::JoinSet::new();
    for _ in 0..128 {
        log_ins.spawn(async move { log_in_as(EMAIL, PASSWORD).send(address).await });
    }
    let _all_begun = slow.begun.acquire_many(128).await.unwrap();
    let one_more = log_in_as(EMAIL, PASSWORD).send(address).await.expect(429);
    assert_eq!(one_more.header("retry-after"), Some("1"));
    get(ME).cookies(&jar()).send(address).await.expect(401);
    log_ins.abort_all();
}
