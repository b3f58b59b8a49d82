//! What every answer carries, and what no forged header changes.

use super::{
    stage::{ADMIN_EMAIL, EMAIL, LOGIN, LOGOUT, ME, PASSWORD, Stage, log_in_as, plain},
    wire::{Reply, ask, delete, get, post},
};
use serde_json::json;
use sessiond::gateway::GatewayConfig;

/// One answer of each kind.
async fn answers(stage: &Stage, host: &str) -> Vec<Reply> {
    let asks = [
        log_in_as(EMAIL, PASSWORD),
        log_in_as(EMAIL, "wrong"),
        post(LOGIN),
        get(ME),
        get("/"),
        get("/nothing"),
        get(LOGOUT),
        ask("TRACE", ME),
        ask("HEAD", ME),
        post("/api/v1/users").body("text/plain", "x"),
        log_in_as(EMAIL, &"a".repeat(20_000)),
        delete(LOGOUT).header("Origin", "https://evil.example"),
        get("/api/v1/status"),
    ];
    let mut replies = Vec::new();
    for ask in asks {
        replies.push(stage.send(ask.header("Host", host)).await);
    }
    replies
}

#[tokio::test]
async fn s_33_s_06_every_answer_carries_the_security_headers() {
    let stage = Stage::set().await;
    let mut seen = Vec::new();
    for reply in answers(&stage, "auth.example.com").await {
        seen.push(reply.status);
        for (name, value) in [
            ("cache-control", "no-store"),
            (
                "content-security-policy",
                "default-src 'none'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
            ),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("strict-transport-security", "max-age=63072000; includeSubDomains"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{name} {reply:?}");
        }
        assert!(reply.header("x-request-id").is_some());
        assert_eq!(reply.header("server"), None);
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen[..], [200, 400, 401, 403, 404, 405, 413, 415, 501]);
}

#[tokio::test]
async fn s_33_https_is_not_demanded_of_plain_loopback() {
    let stage = Stage::set().await;
    for reply in answers(&stage, "localhost:8080").await {
        assert_eq!(reply.header("strict-transport-security"), None);
    }
}

#[tokio::test]
async fn s_94_every_problem_is_out_of_the_catalogue() {
    let stage = Stage::set().await;
    let mut problems = 0;
    for reply in answers(&stage, "auth.example.com").await {
        if reply.status < 400 || reply.body.is_empty() {
            continue;
        }
        problems += 1;
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        let body = reply.json();
        let kind = body["type"].as_str().unwrap();
        let kind = kind.strip_prefix("urn:sessiond:problem:").unwrap();
        assert!(kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
        assert_eq!(body["status"], reply.status);
        assert_eq!(body["request_id"], reply.header("x-request-id").unwrap());
        for member in ["title", "detail", "error"] {
            assert!(!body[member].as_str().unwrap().is_empty(), "{body}");
        }
        for internals in [
            "src/",
            ".rs",
            "SELECT",
            env!("CARGO_PKG_VERSION"),
            "tonic",
            "127.0.0.1",
        ] {
            assert!(!reply.body.contains(internals), "{}", reply.body);
        }
    }
    assert_eq!(problems, 10);
}

#[tokio::test]
async fn a_request_id_is_taken_over_if_it_is_well_formed() {
    let stage = Stage::set().await;
    let id_of = |given: &'static [u8]| {
        let ask = get(ME).header("X-Request-Id", given);
        let stage = &stage;
        async move { stage.send(ask).await.header("x-request-id").unwrap().to_owned() }
    };
    assert_eq!(id_of(b"trace-1.2_3").await, "trace-1.2_3");
    for given in [&b"a b"[..], b"\xff\xfe", b"<script>", b"", &[b'a'; 65]] {
        let id = id_of(given).await;
        assert!(
            id.len() == 20 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{id}"
        );
    }
}

#[tokio::test]
async fn s_32_forged_hosts_do_not_show_in_any_answer() {
    let stage = Stage::set().await;
    let register = |email: &str| {
        post("/api/v1/users")
            .json(&json!({ "email": email, "password": PASSWORD }))
            .header("Host", "evil.example")
            .header("X-Forwarded-Host", "evil.example")
            .header("X-Forwarded-Proto", "https")
            .header("Forwarded", "host=evil.example;proto=https")
    };
    let reply = stage.send(register("new@hbtn.io")).await.expect(201);
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(
        reply.header("location"),
        Some(format!("/api/v1/users/{id}").as_str())
    );
    assert!(!format!("{reply:?}").contains("evil.example"));
}

#[tokio::test]
async fn s_69_identity_headers_from_outside_identify_nobody() {
    let stage = Stage::set().await;
    let admin = stage.log_in(ADMIN_EMAIL).await;
    let id = stage.send(get(ME).cookies(&admin)).await.expect(200).json()["id"].clone();
    let id = id.as_str().unwrap();
    let forged = |path: &str| {
        get(path)
            .header("X-User-Id", id)
            .header("X-User-Roles", "admin")
            .header("X-Forwarded-User", ADMIN_EMAIL)
            .header("Remote-User", ADMIN_EMAIL)
    };
    for path in [ME, "/api/v1/users", "/api/v1/stats", "/api/v1/sessions"] {
        stage.send(forged(path)).await.expect(401);
    }
    let bob = stage.log_in(EMAIL).await;
    stage
        .send(forged("/api/v1/users").cookies(&bob))
        .await
        .expect(403);
    let me = stage.send(forged(ME).cookies(&bob)).await.expect(200);
    assert_eq!(me.json()["email"], EMAIL);
}

#[tokio::test]
async fn a_request_names_exactly_one_host() {
    let stage = Stage::set().await;
    stage
        .send(get(ME).header("Host", "a").header("Host", "b"))
        .await
        .expect(400);
}

#[tokio::test]
async fn a_basic_challenge_is_for_programs_only() {
    let config = GatewayConfig {
        basic_auth: true,
        ..plain()
    };
    let stage = Stage::set_with(config).await;
    let program = stage.send(get(ME)).await.expect(401);
    assert_eq!(program.all("www-authenticate").len(), 2);
    let browser = stage
        .send(get(ME).header("Sec-Fetch-Site", "same-origin"))
        .await
        .expect(401);
    assert_eq!(browser.all("www-authenticate"), ["Cookie realm=\"sessiond\""]);
}
