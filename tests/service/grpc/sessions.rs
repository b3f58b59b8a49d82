//! Check, end, list and rotate sessions.

use prost::Message as _;
use sessiond::pb::{self, destroy_session_request::Session as Key, list_sessions_request::Owner};
use std::{collections::BTreeSet, time::Duration};
use testkit::service::{PASSWORD, Process, Service, bad_fields, by_user_id, reason, visible};
use tonic::Code;

async fn destroy_by_id(process: &Process, id: &str) -> bool {
    let request = pb::DestroySessionRequest {
        session: Some(Key::SessionId(id.into())),
    };
    process
        .sessions
        .clone()
        .destroy_session(request)
        .await
        .unwrap()
        .into_inner()
        .existed
}

async fn list(process: &Process, owner: Owner, page_size: i32, page_token: &str) -> pb::ListSessionsResponse {
    let request = pb::ListSessionsRequest {
        owner: Some(owner),
        page_size,
        page_token: page_token.into(),
    };
    process
        .sessions
        .clone()
        .list_sessions(request)
        .await
        .unwrap()
        .into_inner()
}

pub(crate) async fn s_03_every_dead_token_has_one_answer(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let destroyed = service.here.session_of(&user).await.session_token;
    service.here.destroy(&destroyed).await;
    let revoked = service.here.session_of(&user).await.session_token;
    service.here.revoke_user(&user.id, "").await;
    let expired = service.here.session_of(&user).await.session_token;
    service.advance(1801);
    let unknown = format!("ses_{}", "B".repeat(43));
    let mut answers = BTreeSet::new();
    for token in [
        destroyed.as_str(),
        &revoked,
        &expired,
        &unknown,
        "",
        "x",
        "ses_",
        &"y".repeat(1000),
    ] {
        let refused = service.there.check(token).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert_eq!(reason(&refused), "INVALID_SESSION");
        answers.insert(format!("{:?}", visible(&refused)));
    }
    assert_eq!(answers.len(), 1, "{answers:#?}");
}

pub(crate) async fn s_08_an_idle_session_expires(service: Service) {
    let token = service
        .here
        .session_of(&service.here.quick_user("ann@example.com").await)
        .await
        .session_token;
    service.advance(1799);
    assert!(service.there.is_alive(&token).await);
    service.advance(1800);
    assert!(!service.there.is_alive(&token).await);
    assert!(!service.here.is_alive(&token).await);
}

pub(crate) async fn s_08_activity_keeps_a_session_alive(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let token = service.here.session_of(&user).await.session_token;
    for _ in 0..5 {
        service.advance(1500);
        let answer = service.here.check(&token).await.unwrap();
        assert_eq!(answer.valid_until.unwrap().seconds, service.now_secs() + 1800);
        service.activity_is_written(&user.id).await;
        assert!(service.there.is_alive(&token).await);
    }
}

pub(crate) async fn s_09_no_activity_extends_the_lifetime(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let lifetime = Some(prost_types::Duration {
        seconds: 3600,
        nanos: 0,
    });
    let request = pb::CreateSessionRequest {
        lifetime,
        ..by_user_id(&user.id)
    };
    let token = service.here.create(request).await.unwrap().session_token;
    for _ in 0..3 {
        service.advance(1199);
        assert!(service.here.is_alive(&token).await);
        service.activity_is_written(&user.id).await;
    }
    service.advance(3);
    assert!(!service.here.is_alive(&token).await);
    assert!(!service.there.is_alive(&token).await);
}

pub(crate) async fn s_13_after_destroy_no_process_finds_the_session(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    for n in 0..50 {
        let created = service.here.session_of(&user).await;
        assert!(service.there.is_alive(&created.session_token).await);
        match n % 2 {
            0 => assert!(service.here.destroy(&created.session_token).await),
            _ => assert!(destroy_by_id(&service.there, &created.session.unwrap().id).await),
        }
        assert!(!service.here.is_alive(&created.session_token).await);
        assert!(!service.there.is_alive(&created.session_token).await);
    }
}

pub(crate) async fn s_14_destroying_is_idempotent_and_no_oracle(service: Service) {
    let token = service
        .here
        .session_of(&service.here.quick_user("ann@example.com").await)
        .await
        .session_token;
    assert!(service.here.destroy(&token).await);
    assert!(!service.there.destroy(&token).await);
    for token in ["", "x", &format!("ses_{}", "C".repeat(43))] {
        assert!(!service.here.destroy(token).await);
    }
    assert!(!destroy_by_id(&service.here, "01890000-0000-7000-8000-000000000000").await);
}

pub(crate) async fn s_17_all_sessions_of_a_user_or_of_everyone_can_be_revoked(service: Service) {
    let ann = service.here.quick_user("ann@example.com").await;
    let bob = service.here.quick_user("bob@example.com").await;
    let mut anns = Vec::new();
    for _ in 0..5 {
        anns.push(service.here.session_of(&ann).await);
    }
    let bobs = service.here.session_of(&bob).await.session_token;
    let spared = anns[2].session.clone().unwrap().id;
    assert_eq!(service.there.revoke_user(&ann.id, &spared).await, 4);
    for (n, session) in anns.iter().enumerate() {
        assert_eq!(service.here.is_alive(&session.session_token).await, n == 2);
    }
    assert!(service.here.is_alive(&bobs).await);

    let everyone = pb::RevokeSessionsRequest {
        target: Some(pb::revoke_sessions_request::Target::Everyone(pb::Everyone {})),
        ..Default::default()
    };
    let revoked = service
        .here
        .sessions
        .clone()
        .revoke_sessions(everyone)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(revoked.revoked_count, 2);
    assert!(!service.there.is_alive(&anns[2].session_token).await);
    assert!(!service.there.is_alive(&bobs).await);
    let again = service.here.session_of(&bob).await.session_token;
    assert!(service.there.is_alive(&again).await);
}

pub(crate) async fn s_18_sessions_are_listed_without_their_tokens(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let first = service.here.session_of(&user).await;
    service.advance(1);
    let second = service.here.session_of(&user).await;
    let owner = Owner::SessionToken(first.session_token.clone());
    let listed = list(&service.there, owner, 0, "").await.sessions;
    let marks: Vec<_> = listed
        .iter()
        .map(|session| (session.id.clone(), session.is_current))
        .collect();
    assert_eq!(
        marks,
        [
            (second.session.unwrap().id, false),
            (first.session.clone().unwrap().id, true)
        ]
    );
    let id = first.session.unwrap().id;
    assert!(!service.here.is_alive(&id).await, "an id proves nothing");

    let dead = list_refusal(&service.here, Owner::SessionToken("x".into())).await;
    assert_eq!(reason(&dead), "INVALID_SESSION");
}

async fn list_refusal(process: &Process, owner: Owner) -> tonic::Status {
    let request = pb::ListSessionsRequest {
        owner: Some(owner),
        ..Default::default()
    };
    process.sessions.clone().list_sessions(request).await.unwrap_err()
}

pub(crate) async fn s_21_callers_can_demand_a_recent_log_in(service: Service) {
    let user = service.here.user("ann@example.com").await;
    let created = service.here.log_in("ann@example.com", PASSWORD).await.unwrap();
    let current = async |token: &str, max_auth_age: i64| {
        let max_auth_age = Some(prost_types::Duration {
            seconds: max_auth_age,
            nanos: 0,
        });
        let request = pb::CurrentUserRequest {
            session_token: token.into(),
            max_auth_age,
        };
        service.here.sessions.clone().current_user(request).await
    };
    service.advance(300);
    assert!(current(&created.session_token, 300).await.is_ok());
    let refused = current(&created.session_token, 299).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason(&refused), "REAUTHENTICATION_REQUIRED");
    assert_eq!(
        bad_fields(&current(&created.session_token, -1).await.unwrap_err()),
        ["max_auth_age"]
    );

    let mut again = testkit::service::by_password("ann@example.com", PASSWORD);
    again.replaces_session_token = created.session_token.clone();
    let again = service.here.create(again).await.unwrap();
    let fresh = current(&again.session_token, 1).await.unwrap().into_inner();
    assert_eq!(fresh.user.unwrap().id, user.id);
    let moved = fresh.session.unwrap().authenticated_at.unwrap().seconds
        - created.session.unwrap().authenticated_at.unwrap().seconds;
    assert_eq!(moved, 300);
}

pub(crate) async fn s_62_a_check_tells_no_more_than_it_must(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let created = service.here.session_of(&user).await;
    let session = created.session.unwrap();
    // Taken apart in full: a field that is added to the answer has to be thought of here.
    let pb::UserIdForSessionResponse {
        user_id,
        session_id,
        authenticated_at,
        auth_method,
        valid_until,
        valid_for,
    } = service.here.check(&created.session_token).await.unwrap();
    assert_eq!((user_id, session_id), (user.id, session.id));
    assert_eq!(
        (authenticated_at, auth_method),
        (session.authenticated_at, session.auth_method)
    );
    assert_eq!(
        valid_until.unwrap().seconds,
        session.created_at.unwrap().seconds + 1800
    );
    assert_eq!(valid_for.unwrap().seconds, 1800);
}

pub(crate) async fn lists_are_paged(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let mut created = Vec::new();
    for _ in 0..7 {
        created.insert(0, service.here.session_of(&user).await.session.unwrap().id);
        service.advance(1);
    }
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = list(&service.there, Owner::UserId(user.id.clone()), 3, &page_token).await;
        listed.extend(page.sessions.into_iter().map(|session| session.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, created);
}

pub(crate) async fn a_session_is_rotated_with_and_without_grace(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let created = service.here.session_of(&user).await;
    let rotate = async |token: &str, grace: Option<i64>| {
        let grace = grace.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        let request = pb::RotateSessionRequest {
            session_token: token.into(),
            grace,
        };
        service
            .here
            .sessions
            .clone()
            .rotate_session(request)
            .await
            .map(tonic::Response::into_inner)
    };
    let first = rotate(&created.session_token, None).await.unwrap();
    assert_eq!(first.session, created.session);
    assert!(!service.there.is_alive(&created.session_token).await);
    assert!(service.there.is_alive(&first.session_token).await);

    let second = rotate(&first.session_token, Some(10)).await.unwrap();
    assert!(service.there.is_alive(&first.session_token).await);
    assert!(service.there.is_alive(&second.session_token).await);
    service.advance(10);
    assert!(!service.there.is_alive(&first.session_token).await);
    assert!(service.there.is_alive(&second.session_token).await);

    assert_eq!(
        reason(&rotate(&first.session_token, None).await.unwrap_err()),
        "INVALID_SESSION"
    );
    assert_eq!(
        bad_fields(&rotate(&second.session_token, Some(61)).await.unwrap_err()),
        ["grace"]
    );
    assert!(service.there.is_alive(&second.session_token).await);
}

pub(crate) async fn s_68_interleaved_checks_always_name_the_owner(service: Service) {
    let mut sessions = Vec::new();
    for n in 0..8 {
        let user = service.here.quick_user(&format!("user{n}@example.com")).await;
        sessions.push((service.here.session_of(&user).await.session_token, user.id));
    }
    let checkers: Vec<_> = (0..16)
        .map(|n| {
            let (process, sessions) = (service.here.clone(), sessions.clone());
            tokio::spawn(async move {
                for turn in 0..100 {
                    let (token, owner) = &sessions[(n + turn) % sessions.len()];
                    // Some callers leave in the middle of a call; theirs must not become somebody else's answer.
                    let patience = Duration::from_micros(if turn % 5 == 0 { 100 } else { 10_000_000 });
                    let checked = tokio::time::timeout(patience, process.check(token)).await;
                    if let Ok(answer) = checked {
                        assert_eq!(&answer.unwrap().user_id, owner);
                    }
                    assert!(!process.is_alive(&format!("ses_{}", "D".repeat(43))).await);
                }
            })
        })
        .collect();
    for checker in checkers {
        checker.await.unwrap();
    }
}

/// A check in its plain form is answered by hand, whether the store has the answer at hand or has to be waited for; one that is not
/// announced as plain takes the way through the generated code.
pub(crate) async fn a_check_has_the_same_response_on_both_paths(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let token = service.here.session_of(&user).await.session_token;
    let dead = format!("ses_{}", "A".repeat(43));
    for token in [token.as_str(), &dead, "x", ""] {
        let by_hand = raw_check(service.there.address, token, http::HeaderMap::new()).await;
        let identity = (
            http::HeaderName::from_static("grpc-encoding"),
            "identity".parse().unwrap(),
        );
        let generated = raw_check(
            service.there.address,
            token,
            http::HeaderMap::from_iter([identity]),
        )
        .await;
        assert_eq!(by_hand, generated, "{token}");
    }
}

/// All that a check's caller receives: headers, body and trailers.
async fn raw_check(
    address: std::net::SocketAddr,
    token: &str,
    headers: http::HeaderMap,
) -> (http::HeaderMap, Vec<u8>, Option<http::HeaderMap>) {
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let (requests, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::post(format!("http://{address}/auth.v1.AuthService/UserIdForSession"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    request.headers_mut().extend(headers);
    let (answer, mut stream) = requests
        .ready()
        .await
        .unwrap()
        .send_request(request, false)
        .unwrap();
    let message = pb::UserIdForSessionRequest {
        session_token: token.into(),
    }
    .encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    stream.send_data(frame.into(), true).unwrap();
    let (head, mut body) = answer.await.unwrap().into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        bytes.extend(data.unwrap());
    }
    (head.headers, bytes, body.trailers().await.unwrap())
}
