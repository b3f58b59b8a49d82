//! Bad input: a clear 400 that names the field, and nothing done.

use super::{
    stage::{ADMIN_EMAIL, EMAIL, LOGIN, ME, PASSWORD, SESSIONS, Stage, USERS, log_in_as},
    wire::{Ask, ask, get, post},
};
use serde_json::{Value, json};

fn register(body: &Value) -> Ask {
    post(USERS).json(body)
}

#[tokio::test]
async fn every_bad_field_of_a_registration_is_named() {
    let stage = Stage::set().await;
    let good = json!({ "email": "ada@hbtn.io", "password": PASSWORD, "first_name": "A", "last_name": "L" });
    let long = "a".repeat(300);
    let cases = [
        ("email", Value::Null, "email missing"),
        ("email", json!(""), "email missing"),
        ("email", json!(7), "email must be a text"),
        ("email", json!(["a@b.c"]), "email must be a text"),
        ("email", json!("no at sign"), "email must be"),
        ("email", json!("a\u{0}@b.c"), "email must be"),
        ("email", json!(format!("{long}@b.c")), "email must be"),
        ("password", Value::Null, "password missing"),
        ("password", json!(""), "password missing"),
        ("password", json!({ "a": 1 }), "password must be a text"),
        ("password", json!("short"), "password "),
        ("password", json!("a quiet\u{0}harbour at dawn"), "password "),
        ("password", json!("a".repeat(257)), "password "),
        ("first_name", json!(true), "first_name must be a text"),
        ("first_name", json!(long), "first_name "),
        ("first_name", json!("a\u{0}b"), "first_name "),
        ("last_name", json!(1.5), "last_name must be a text"),
        ("last_name", json!(long), "last_name "),
        ("roles", json!("admin"), "roles must be a list of texts"),
        ("roles", json!([1]), "roles must be a list of texts"),
        (
            "surprise",
            json!(1),
            "body has a member that this route does not take",
        ),
    ];
    for (field, value, error) in cases {
        let mut body = good.clone();
        body[field] = value;
        let reply = stage.send(register(&body)).await.expect(400);
        assert!(reply.error().starts_with(error), "{field}: {}", reply.error());
        let named = reply.json()["errors"][0]["field"].clone();
        assert_eq!(named, if field == "surprise" { "body" } else { field });
    }
    stage.send(log_in_as("ada@hbtn.io", PASSWORD)).await.expect(401);
    stage.send(register(&good)).await.expect(201);
}

#[tokio::test]
async fn what_is_no_json_object_is_refused() {
    let stage = Stage::set().await;
    let jar = stage.log_in(EMAIL).await;
    let deep = "[".repeat(10_000);
    let bodies: [&[u8]; 9] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\"text\"",
        b"{} {}",
        b"\xff\xfe",
        b"{\"email\":\"\xc3\x28\"}",
        deep.as_bytes(),
    ];
    for body in bodies {
        for (method, path) in [
            ("POST", USERS),
            ("PATCH", ME),
            ("POST", "/api/v1/users/me/password"),
            ("POST", LOGIN),
        ] {
            let reply = stage
                .send(ask(method, path).cookies(&jar).body("application/json", body))
                .await
                .expect(400);
            assert_eq!(reply.error(), "Wrong format", "{path}");
        }
    }
}

#[tokio::test]
async fn a_login_says_what_is_missing_or_cannot_be_read() {
    let stage = Stage::set().await;
    let form = |body: &str| post(LOGIN).form(body);
    let error = |ask: Ask| {
        let stage = &stage;
        async move { stage.send(ask).await.expect(400).error() }
    };
    assert_eq!(error(post(LOGIN)).await, "email missing");
    assert_eq!(error(form("email=")).await, "email missing");
    assert_eq!(error(form("password=x")).await, "email missing");
    assert_eq!(error(form("email=a@b.c")).await, "password missing");
    assert_eq!(error(form("email=a@b.c&password=")).await, "password missing");
    assert_eq!(
        error(form("email=a@b.c&email=d@e.f&password=x")).await,
        "email must be given once"
    );
    assert_eq!(error(form("email=%ff&password=x")).await, "Wrong format");
    assert_eq!(
        error(post(LOGIN).json(&json!({ "email": 1, "password": "x" }))).await,
        "email must be a text"
    );
    assert_eq!(
        error(post(LOGIN).header("Authorization", "Basic x")).await,
        "email missing"
    );
    assert_eq!(stage.session_count().await, 0);
}

#[tokio::test]
async fn s_36_s_40_what_cannot_be_the_password_fails_like_any_other() {
    let stage = Stage::set().await;
    let wrong = stage
        .send(log_in_as(EMAIL, "not it"))
        .await
        .expect(401)
        .without_request_id();
    for password in [
        format!("{PASSWORD}\0"),
        format!("\0{PASSWORD}"),
        format!("{PASSWORD} "),
        PASSWORD.to_uppercase(),
        "a".repeat(257),
        "a".repeat(10_000),
    ] {
        let reply = stage.send(log_in_as(EMAIL, &password)).await.expect(401);
        assert_eq!(reply.without_request_id(), wrong);
    }
}

#[tokio::test]
async fn s_35_a_long_body_is_refused() {
    let stage = Stage::set().await;
    let body = |length: usize| {
        let empty = json!({ "email": EMAIL, "password": "" }).to_string().len();
        json!({ "email": EMAIL, "password": "a".repeat(length - empty) })
    };
    stage
        .send(post(LOGIN).json(&body(16 * 1024 + 1)))
        .await
        .expect(413);
    stage.send(register(&body(100_000))).await.expect(413);
    let claimed = post(LOGIN).body("application/json", vec![b' '; 1_000_000]);
    stage.send(claimed).await.expect(413);
}

#[tokio::test]
async fn a_page_is_asked_for_in_numbers() {
    let stage = Stage::set().await;
    let admin = stage.log_in(ADMIN_EMAIL).await;
    for path in [USERS, SESSIONS] {
        for (query, field) in [
            ("page_size=x", "page_size"),
            ("page_size=-1", "page_size"),
            ("page_size=99999", "page_size"),
            ("page_size=99999999999999", "page_size"),
            ("page_token=x", "page_token"),
            ("page_token=%00", "page_token"),
        ] {
            let reply = stage
                .send(get(&format!("{path}?{query}")).cookies(&admin))
                .await
                .expect(400);
            assert_eq!(reply.json()["errors"][0]["field"], field, "{path} {query}");
        }
        stage
            .send(get(&format!("{path}?a=%ff")).cookies(&admin))
            .await
            .expect(400);
    }
}

#[tokio::test]
async fn a_json_member_given_twice_is_refused_on_every_route() {
    let stage = Stage::set().await;
    let jar = stage.log_in(ADMIN_EMAIL).await;
    let id = stage.send(get(ME).cookies(&jar)).await.expect(200).json()["id"].clone();
    let user = format!("{USERS}/{}", id.as_str().unwrap());
    for (method, path, body, field) in [
        (
            "POST",
            LOGIN,
            r#""email":"a@b.c","password":"x","email":"admin@hbtn.io""#,
            "email",
        ),
        (
            "POST",
            LOGIN,
            r#""email":"a@b.c","password":"x","password":"x""#,
            "password",
        ),
        (
            "POST",
            LOGIN,
            r#""email":"a@b.c","password":"x","remember":1,"remember":2"#,
            "remember",
        ),
        (
            "POST",
            USERS,
            r#""email":"a@b.c","password":"x","roles":[],"roles":["admin"]"#,
            "roles",
        ),
        ("PATCH", ME, r#""first_name":"a","first_name":"b""#, "first_name"),
        ("PUT", &user, r#""last_name":"a","last_name":null"#, "last_name"),
        (
            "POST",
            "/api/v1/users/me/password",
            r#""current_password":"a","new_password":"b","new_password":"c""#,
            "new_password",
        ),
    ] {
        let ask = ask(method, path)
            .cookies(&jar)
            .body("application/json", format!("{{{body}}}"));
        let reply = stage.send(ask).await.expect(400);
        assert_eq!(reply.error(), format!("{field} must be given once"), "{path}");
    }
}

#[tokio::test]
async fn a_compressed_body_is_refused_with_the_coding_that_is_taken() {
    let stage = Stage::set().await;
    let jar = stage.log_in(EMAIL).await;
    for (method, path) in [
        ("POST", LOGIN),
        ("POST", USERS),
        ("PATCH", ME),
        ("POST", "/api/v1/users/me/password"),
    ] {
        for coding in ["gzip", "br", "identity, gzip", "x"] {
            let ask = ask(method, path)
                .cookies(&jar)
                .body("application/json", b"\x1f\x8b")
                .header("Content-Encoding", coding);
            let reply = stage.send(ask).await.expect(415);
            assert_eq!(
                reply.header("accept-encoding"),
                Some("identity"),
                "{path} {coding}"
            );
            assert_eq!(reply.json()["type"], "urn:sessiond:problem:unsupported-coding");
        }
    }
    let plain = log_in_as(EMAIL, PASSWORD).header("Content-Encoding", "Identity");
    stage.send(plain).await.expect(200);
}

#[tokio::test]
async fn a_refused_content_type_is_told_what_is_taken() {
    let stage = Stage::set().await;
    let reply = stage.send(post(LOGIN).body("text/plain", "x")).await.expect(415);
    let taken = "application/json, application/x-www-form-urlencoded";
    assert_eq!(reply.header("accept"), Some(taken));
    assert!(
        reply.json()["detail"]
            .as_str()
            .unwrap()
            .contains("form-urlencoded")
    );
    let reply = stage.send(post(USERS).body("text/plain", "x")).await.expect(415);
    assert_eq!(reply.header("accept"), Some("application/json"));
    assert_eq!(reply.header("accept-encoding"), None);
}
