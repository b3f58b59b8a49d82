//! The layer in front of a service: which requests it lets through, and its answers to the others.

use super::scripted::{Held, ScriptedServer, unavailable};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use sessiond::client::{CheckedSession, ClientOptions, RequireSession, SessionClient};
use std::{convert::Infallible, time::Duration};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Layer as _, ServiceExt as _, service_fn};

type Body = Full<Bytes>;

/// What came through the guard, and what was answered.
#[derive(Debug)]
struct Seen {
    status: StatusCode,
    headers: http::HeaderMap,
    body: String,
}

impl Seen {
    fn grpc(&self) -> Status {
        Status::from_header_map(&self.headers).expect("a gRPC status")
    }

    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A service that says whose request it is, behind the guard.
async fn send(guard: &RequireSession, request: Request<Body>) -> Seen {
    let whoami = service_fn(|request: Request<Body>| async move {
        let who = match request.extensions().get::<CheckedSession>() {
            Some(session) => session.user_id.to_string(),
            None => "nobody".to_owned(),
        };
        Ok::<_, Infallible>(Response::new(Body::from(who)))
    });
    let response = guard.layer(whoami).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Seen {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

fn get(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::default()).unwrap()
}

fn grpc(headers: &[(&str, &str)]) -> Request<Body> {
    let headers: Vec<_> = headers
        .iter()
        .copied()
        .chain([("content-type", "application/grpc+proto")])
        .collect();
    get("/a.Service/Method", &headers)
}

/// A guard over a server that holds one session, once with nothing remembered and once with the session remembered.
async fn guards() -> (
    ScriptedServer,
    Held,
    [RequireSession; 2],
    super::scripted::Watcher,
) {
    let mut server = ScriptedServer::start().await;
    let held = server.hold_session(1);
    let cold = server.client(ClientOptions {
        max_entries: 0,
        ..ClientOptions::default()
    });
    let (warm, watcher, _clock) = server.live_client(ClientOptions::default()).await;
    warm.check(&held.token).await.unwrap();
    let guard = |client: SessionClient| RequireSession::new(client).cookie("__Host-session");
    (server, held, [guard(cold), guard(warm)], watcher)
}

#[tokio::test]
async fn whoever_proves_a_session_gets_through_under_its_users_name() {
    let (_server, held, guards, _watcher) = guards().await;
    let bearer = format!("Bearer {}", held.token);
    let cookie = format!("theme=dark; __Host-session={}", held.token);
    for guard in &guards {
        for header in [
            ("session-token", &held.token),
            ("authorization", &bearer),
            ("cookie", &cookie),
        ] {
            let header = (header.0, header.1.as_str());
            for request in [get("/users/me", &[header]), grpc(&[header])] {
                let seen = send(guard, request).await;
                assert_eq!((seen.status, seen.body), (StatusCode::OK, held.user.to_string()));
            }
        }
    }
}

#[tokio::test]
async fn whoever_proves_none_is_refused_in_the_language_of_the_request() {
    let (_server, held, guards, _watcher) = guards().await;
    let other = super::scripted::session(7).token;
    let two_cookies = format!("__Host-session={}; __Host-session={}", held.token, held.token);
    let cases: [&[(&str, &str)]; 6] = [
        &[],
        &[("session-token", &other)],
        &[("session-token", "rubbish")],
        &[
            ("session-token", &held.token),
            ("authorization", &format!("Bearer {other}")),
        ],
        &[("cookie", &two_cookies)],
        &[("cookie", &format!("__host-session={}", held.token))],
    ];
    for guard in &guards {
        for headers in cases {
            let seen = send(guard, get("/users/me", headers)).await;
            assert_eq!(seen.status, StatusCode::UNAUTHORIZED, "{headers:?}");
            assert_eq!(seen.header(header::CONTENT_TYPE), "application/problem+json");
            assert_eq!(seen.header(header::WWW_AUTHENTICATE), "Bearer");
            let problem: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
            assert_eq!(problem["status"], 401);
            assert!(!seen.body.contains(&held.token) && !seen.body.contains(&other));

            let seen = send(guard, grpc(headers)).await;
            assert_eq!((seen.status, seen.body.as_str()), (StatusCode::OK, ""));
            assert_eq!(seen.header(header::CONTENT_TYPE), "application/grpc");
            assert_eq!(seen.grpc().code(), Code::Unauthenticated);
            let reason = seen.grpc().get_details_error_info().unwrap().reason;
            assert_eq!(reason, "INVALID_SESSION");
        }
    }
}

#[tokio::test]
async fn s_96_while_nobody_can_tell_it_is_503_and_not_401() {
    let (mut server, held, [cold, warm], watcher) = guards().await;
    server.fail_from_now_on(unavailable());
    let token = [("session-token", held.token.as_str())];
    let seen = send(&cold, get("/users/me", &token)).await;
    assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(seen.header(header::RETRY_AFTER), "1");
    assert!(!seen.headers.contains_key(header::WWW_AUTHENTICATE));
    assert_eq!(send(&cold, grpc(&token)).await.grpc().code(), Code::Unavailable);
    // What is remembered while the stream lives is known.
    assert_eq!(send(&warm, get("/users/me", &token)).await.status, StatusCode::OK);
    drop(watcher);
    // The stream is asked for anew when its end has been noticed.
    server.watcher().await;
    let seen = send(&warm, get("/users/me", &token)).await;
    assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE);

    // That sessiond refuses this program is not the user's fault either.
    server.fail_from_now_on(Status::permission_denied("sessions:check"));
    let seen = send(&cold, get("/users/me", &token)).await;
    assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn excluded_paths_need_no_session_and_learn_of_none() {
    let (server, held, [_, warm], _watcher) = guards().await;
    let guard = warm
        .exclude(["/api/v1/status/", "/api/v1/stat*", "/docs/*"])
        .unwrap();
    let cases = [
        ("/api/v1/status", true),
        ("/api/v1/status/", true),
        ("/api/v1/status/?verbose=1", true),
        ("/api/v1/stats", true),
        ("/docs", true),
        ("/docs/index.html", true),
        ("/api/v1/users", false),
        ("/api/v1/sta", false),
        ("/api/v1/status/../users", false),
        ("/api/v1/status//", false),
        ("/api/v1/stat%75s", false),
        ("/", false),
    ];
    for (path, excluded) in cases {
        let seen = send(&guard, get(path, &[])).await;
        assert_eq!(seen.status == StatusCode::OK, excluded, "{path}");
        // With a session, an excluded path is no different, and costs no check.
        let calls = server.call_count();
        let seen = send(&guard, get(path, &[("session-token", &held.token)])).await;
        let who = if excluded {
            "nobody".to_owned()
        } else {
            held.user.to_string()
        };
        assert_eq!((seen.status, seen.body), (StatusCode::OK, who), "{path}");
        assert_eq!(server.call_count(), calls);
    }
    assert!(guard.clone().exclude(["/a/*/b"]).is_err());
}

#[tokio::test]
async fn an_old_log_in_is_refused_where_a_recent_one_is_needed() {
    let (_server, held, guards, _watcher) = guards().await;
    let token = [("session-token", held.token.as_str())];
    for guard in guards {
        // Younger than this, by a clock that has little to do with the server's.
        let recent = guard
            .clone()
            .max_auth_age(held.auth_age + Duration::from_secs(30));
        assert_eq!(send(&recent, get("/", &token)).await.status, StatusCode::OK);

        let strict = guard.max_auth_age(held.auth_age - Duration::from_secs(1));
        let seen = send(&strict, get("/", &token)).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        let challenge = r#"Bearer error="insufficient_user_authentication", max_age="59""#;
        assert_eq!(seen.header(header::WWW_AUTHENTICATE), challenge);
        let status = send(&strict, grpc(&token)).await.grpc();
        assert_eq!(status.code(), Code::FailedPrecondition);
        let reason = status.get_details_error_info().unwrap().reason;
        assert_eq!(reason, "REAUTHENTICATION_REQUIRED");
    }
}

#[tokio::test]
async fn s_69_no_request_brings_its_own_identity() {
    let (server, held, [_, warm], _watcher) = guards().await;
    let someone = warm_session(&server).await;
    let guard = warm.exclude(["/status"]).unwrap();
    for name in ["x-user-id", "user-id", "x-session-id"] {
        let request = get("/", &[("session-token", &held.token), (name, "admin")]);
        assert_eq!(send(&guard, request).await.body, held.user.to_string());
        assert_eq!(
            send(&guard, get("/status", &[(name, "admin")])).await.body,
            "nobody"
        );
    }
    // Nor does one that an outer layer of another kind left behind.
    let mut request = get("/status", &[]);
    request.extensions_mut().insert(someone);
    assert_eq!(send(&guard, request).await.body, "nobody");
    let mut request = get("/", &[("session-token", &held.token)]);
    request.extensions_mut().insert(someone);
    assert_eq!(send(&guard, request).await.body, held.user.to_string());
}

async fn warm_session(server: &ScriptedServer) -> CheckedSession {
    let other = server.hold_session(91);
    let client = server.client(ClientOptions {
        max_entries: 0,
        ..ClientOptions::default()
    });
    client.check(&other.token).await.unwrap()
}

#[tokio::test]
async fn places_for_the_token_can_be_chosen() {
    let (_server, held, [_, warm], _watcher) = guards().await;
    let guard = warm
        .metadata(Some(header::HeaderName::from_static("x-my-token")))
        .no_bearer()
        .cookie("sid");
    let bearer = format!("Bearer {}", held.token);
    let cookie = format!("sid={}", held.token);
    let cases = [
        (("x-my-token", held.token.as_str()), StatusCode::OK),
        (("cookie", cookie.as_str()), StatusCode::OK),
        (("session-token", held.token.as_str()), StatusCode::UNAUTHORIZED),
        (("authorization", bearer.as_str()), StatusCode::UNAUTHORIZED),
    ];
    for (header, status) in cases {
        assert_eq!(
            send(&guard, get("/", &[header])).await.status,
            status,
            "{}",
            header.0
        );
    }
}
