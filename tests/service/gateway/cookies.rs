//! The cookie as a browser and an attacker meet it.

use super::{
    stage::{ADMIN_EMAIL, EMAIL, LOGIN, LOGOUT, ME, PASSWORD, SESSIONS, Stage, log_in_as, plain},
    wire::{Ask, Jar, Reply, ask, delete, get, post},
};
use serde_json::json;
use sessiond::gateway::GatewayConfig;
use std::time::Duration;

fn secure() -> GatewayConfig {
    GatewayConfig {
        public_origin: Some("https://auth.example.com".parse().unwrap()),
        ..GatewayConfig::default()
    }
}

#[tokio::test]
async fn s_23_every_set_cookie_of_every_route_has_the_one_form() {
    let stage = Stage::set_with(secure()).await;
    let mut replies: Vec<Reply> = Vec::new();
    let mut jar = Jar::default();
    let logged_in = stage.send(log_in_as(EMAIL, PASSWORD)).await.expect(200);
    jar.keep(&logged_in);
    replies.push(logged_in);
    let change = json!({ "current_password": PASSWORD, "new_password": "another quiet harbour" });
    let changed = stage
        .send(post("/api/v1/users/me/password").cookies(&jar).json(&change))
        .await
        .expect(200);
    jar.keep(&changed);
    replies.push(changed);
    replies.push(stage.send(get(ME).cookies(&jar)).await.expect(200));
    replies.push(stage.send(delete(LOGOUT).cookies(&jar)).await.expect(200));
    replies.push(stage.send(get(ME).cookies(&jar)).await.expect(401));
    replies.push(stage.send(delete(LOGOUT).cookies(&jar)).await.expect(401));
    replies.push(stage.send(get("/nothing").cookies(&jar)).await.expect(404));

    let cookies: Vec<_> = replies.iter().flat_map(|reply| reply.all("set-cookie")).collect();
    assert_eq!(cookies.len(), 4, "{cookies:?}");
    for cookie in cookies {
        let (pair, attributes) = cookie.split_once("; ").unwrap();
        let value = pair.strip_prefix("__Host-session=").unwrap();
        match value.is_empty() {
            true => assert_eq!(attributes, "Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"),
            false => {
                assert!(value.starts_with("ses_") && value.len() == 47, "{value}");
                assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Lax");
            }
        }
        assert!(cookie.len() <= 4096);
    }
}

#[tokio::test]
async fn the_cookie_depends_on_how_the_gateway_is_reached() {
    let name = |reply: &Reply| {
        let cookie = reply.header("set-cookie").unwrap();
        (
            cookie.split('=').next().unwrap().to_owned(),
            cookie.contains("; Secure;"),
        )
    };
    let stage = Stage::set().await;
    let direct = stage.send(log_in_as(EMAIL, PASSWORD)).await.expect(200);
    assert_eq!(name(&direct), ("session".to_owned(), false));
    let named = stage
        .send(log_in_as(EMAIL, PASSWORD).header("Host", "auth.example.com"))
        .await
        .expect(200);
    assert_eq!(name(&named), ("__Host-session".to_owned(), true));
    let proxied = stage
        .send(log_in_as(EMAIL, PASSWORD).header("X-Forwarded-Proto", "http"))
        .await
        .expect(200);
    assert_eq!(name(&proxied), ("__Host-session".to_owned(), true));

    let config = GatewayConfig {
        cookie_name: "sid".parse().unwrap(),
        ..plain()
    };
    let stage = Stage::set_with(config).await;
    let direct = stage.send(log_in_as(EMAIL, PASSWORD)).await.expect(200);
    assert_eq!(name(&direct), ("sid".to_owned(), false));
}

#[tokio::test]
async fn s_04_s_07_a_login_takes_no_token_over_and_kills_the_one_presented() {
    let stage = Stage::set().await;
    let planted = format!("ses_{}", "A".repeat(43));
    let mut jar = Jar::with("session", &planted);
    let reply = stage
        .send(log_in_as(EMAIL, PASSWORD).cookies(&jar))
        .await
        .expect(200);
    jar.keep(&reply);
    assert_ne!(jar.token(), planted);
    assert_eq!(stage.whose(&planted).await, None);

    let first = jar.clone();
    let reply = stage
        .send(log_in_as(ADMIN_EMAIL, PASSWORD).cookies(&jar))
        .await
        .expect(200);
    jar.keep(&reply);
    assert_ne!(jar.token(), first.token());
    assert_eq!(stage.whose(first.token()).await, None);
    assert!(stage.whose(jar.token()).await.is_some());

    // A log-in that fails ends nothing.
    stage
        .send(log_in_as(EMAIL, "not it").cookies(&jar))
        .await
        .expect(401);
    assert!(stage.whose(jar.token()).await.is_some());
}

#[tokio::test]
async fn s_05_the_token_is_taken_from_the_cookie_only() {
    let stage = Stage::set().await;
    let jar = stage.log_in(EMAIL).await;
    let token = jar.token();
    for path in [
        format!("{ME}?session={token}"),
        format!("{ME}?session_token={token}&sid={token}"),
        format!("{ME}?__Host-session={token}"),
    ] {
        stage.send(get(&path)).await.expect(401);
    }
    for (name, value) in [
        ("Authorization", format!("Bearer {token}")),
        ("Authorization", token.to_owned()),
        ("X-Session", token.to_owned()),
        ("X-Session-Token", token.to_owned()),
        ("Session", token.to_owned()),
    ] {
        stage.send(get(ME).header(name, value)).await.expect(401);
    }
    stage
        .send(get(&format!("{SESSIONS}/{token}")).cookies(&jar))
        .await
        .expect(405);
    stage
        .send(get(&format!("/api/v1/users/{token}")))
        .await
        .expect(401);
}

#[tokio::test]
async fn s_24_a_cookie_of_another_name_proves_nobody() {
    let stage = Stage::set().await;
    let jar = stage.log_in(EMAIL).await;
    for name in ["Session", "SESSION", "__Host-session", "__host-session"] {
        let cookie = format!("{name}={}", jar.token());
        stage.send(get(ME).header("Cookie", cookie)).await.expect(401);
    }
}

/// The session cookies with these values, in one header and in two.
fn with_cookies(ask: Ask, values: [&str; 2]) -> [Ask; 2] {
    let [first, second] = values.map(|value| format!("session={value}"));
    let joined = ask.clone().header("Cookie", format!("{first}; {second}"));
    [joined, ask.header("Cookie", first).header("Cookie", second)]
}

const UNKNOWN: &str = "ses_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[tokio::test]
async fn s_24_a_live_session_beside_dead_or_equal_cookies_is_used() {
    let stage = Stage::set().await;
    let jar = stage.log_in(EMAIL).await;
    let live = jar.token();
    for dead in [UNKNOWN, live, "x", ""] {
        for values in [[live, dead], [dead, live]] {
            for path in [ME, SESSIONS] {
                for ask in with_cookies(get(path), values) {
                    stage.send(ask).await.expect(200);
                }
            }
        }
    }
    for ask in with_cookies(get(ME), [UNKNOWN, "x"]) {
        stage.send(ask).await.expect(401);
    }
    // What asks for a recent log-in asks it of the live session.
    stage.clock.advance(Duration::from_secs(16 * 60));
    for ask in with_cookies(delete(SESSIONS), [UNKNOWN, live]) {
        let reply = stage.send(ask).await.expect(403);
        assert_eq!(
            reply.json()["type"],
            "urn:sessiond:problem:reauthentication-required"
        );
    }
}

#[tokio::test]
async fn s_24_cookies_of_two_live_sessions_prove_nobody() {
    let stage = Stage::set().await;
    let (jar, other) = (stage.log_in(EMAIL).await, stage.log_in(ADMIN_EMAIL).await);
    let (one, other) = (jar.token(), other.token());
    for values in [[one, other], [other, one]] {
        for ask in [get(ME), get(SESSIONS), get("/api/v1/stats"), delete(SESSIONS)] {
            for ask in with_cookies(ask, values) {
                let reply = stage.send(ask).await.expect(400);
                assert_eq!(reply.json()["type"], "urn:sessiond:problem:several-cookies");
                assert_eq!(reply.header("set-cookie"), None);
            }
        }
    }
    assert!(stage.whose(one).await.is_some() && stage.whose(other).await.is_some());
}

#[tokio::test]
async fn s_22_a_logout_ends_every_session_that_is_presented() {
    let stage = Stage::set().await;
    for form in 0..2 {
        let (jar, other) = (stage.log_in(EMAIL).await, stage.log_in(ADMIN_EMAIL).await);
        let [.., ask] = match form {
            0 => with_cookies(delete(LOGOUT), [jar.token(), other.token()]),
            _ => with_cookies(delete(LOGOUT), [UNKNOWN, jar.token()]),
        };
        let reply = stage.send(ask).await.expect(200);
        assert!(
            reply
                .header("set-cookie")
                .unwrap()
                .starts_with("session=; Max-Age=0")
        );
        assert_eq!(stage.whose(jar.token()).await, None);
        assert_eq!(stage.whose(other.token()).await.is_none(), form == 0);
    }
    for ask in with_cookies(delete(LOGOUT), [UNKNOWN, "x"]) {
        let reply = stage.send(ask).await.expect(401);
        assert!(reply.header("set-cookie").is_some());
    }
}

#[tokio::test]
async fn s_07_no_cookie_keeps_anybody_from_logging_in() {
    let stage = Stage::set().await;
    let (jar, other) = (stage.log_in(EMAIL).await, stage.log_in(ADMIN_EMAIL).await);
    for ask in with_cookies(log_in_as(EMAIL, PASSWORD), [jar.token(), other.token()]) {
        let reply = stage.send(ask).await.expect(200);
        assert!(reply.header("set-cookie").is_some());
        assert_eq!(stage.whose(jar.token()).await, None);
        assert_eq!(stage.whose(other.token()).await, None);
    }
    let many: Vec<_> = (b'A'..=b'Y')
        .map(|byte| format!("session=ses_{}", char::from(byte).to_string().repeat(43)))
        .collect();
    let ask = log_in_as(EMAIL, PASSWORD).header("Cookie", many.join("; "));
    stage.send(ask).await.expect(200);
    stage
        .send(get(ME).header("Cookie", many.join("; ")))
        .await
        .expect(400);
}

#[tokio::test]
async fn s_11_the_service_ends_a_session_whatever_the_browser_keeps() {
    let stage = Stage::set().await;
    let jar = stage.log_in(EMAIL).await;
    let idle_timeout = Duration::from_secs(30 * 60);
    stage.clock.advance(idle_timeout - Duration::from_secs(1));
    stage.send(get(ME).cookies(&jar)).await.expect(200);
    stage.clock.advance(idle_timeout);
    stage.send(get(ME).cookies(&jar)).await.expect(401);
}

#[tokio::test]
async fn s_12_reading_without_a_session_creates_none() {
    let stage = Stage::set().await;
    for _ in 0..20 {
        for path in [
            ME,
            SESSIONS,
            "/api/v1/users",
            "/api/v1/stats",
            "/api/v1/status",
            "/nothing",
            "/",
        ] {
            let reply = stage.send(get(path)).await;
            assert_eq!(reply.header("set-cookie"), None, "{path}");
        }
    }
    assert_eq!(stage.session_count().await, 0);
}

#[tokio::test]
async fn s_22_a_logout_clears_the_cookie_and_the_sites_data() {
    let stage = Stage::set().await;
    let mut jar = stage.log_in(EMAIL).await;
    let token = jar.token().to_owned();
    let reply = stage.send(delete(LOGOUT).cookies(&jar)).await.expect(200);
    assert_eq!(
        reply.header("set-cookie"),
        Some("session=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax")
    );
    assert_eq!(reply.header("clear-site-data"), Some("\"cache\", \"storage\""));
    jar.keep(&reply);
    assert!(jar.is_empty());
    assert_eq!(stage.whose(&token).await, None);
    // A cookie that is over is cleared too, with the same attributes.
    let reply = stage
        .send(delete(LOGOUT).cookies(&Jar::with("session", &token)))
        .await
        .expect(401);
    assert_eq!(
        reply.header("set-cookie"),
        Some("session=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax")
    );
}

#[tokio::test]
async fn only_a_logout_clears_the_cookie() {
    let stage = Stage::set().await;
    let dead = Jar::with("session", &format!("ses_{}", "A".repeat(43)));
    for reply in [
        stage.send(get(ME).cookies(&dead)).await,
        stage
            .send(
                ask("PATCH", ME)
                    .cookies(&dead)
                    .json(&json!({ "first_name": "x" })),
            )
            .await,
        stage.send(delete(SESSIONS).cookies(&dead)).await,
    ] {
        assert_eq!((reply.status, reply.header("set-cookie")), (401, None));
    }
}

#[tokio::test]
async fn s_03_every_dead_token_gets_the_same_answer() {
    let stage = Stage::set().await;
    let (destroyed, expired) = (stage.log_in(EMAIL).await, stage.log_in(EMAIL).await);
    stage.send(delete(LOGOUT).cookies(&destroyed)).await.expect(200);
    let unknown = Jar::with("session", &format!("ses_{}", "A".repeat(43)));
    let malformed = Jar::with("session", "rubbish");
    let first = stage.send(get(ME).cookies(&destroyed)).await.without_request_id();
    stage.clock.advance(Duration::from_secs(13 * 60 * 60));
    for jar in [destroyed, expired, unknown, malformed, Jar::default()] {
        let reply = stage.send(get(ME).cookies(&jar)).await.expect(401);
        assert_eq!(reply.without_request_id(), first);
    }
}

#[tokio::test]
async fn s_59_every_failed_login_gets_the_same_answer() {
    let stage = Stage::set().await;
    let disabled = stage.create_user("disabled@hbtn.io", &[]).await;
    stage.disable_user(&disabled.id).await;
    let first = stage.send(log_in_as(EMAIL, "not it")).await.expect(401);
    assert_eq!(first.error(), "wrong email or password");
    for (email, password) in [("nobody@hbtn.io", PASSWORD), ("disabled@hbtn.io", PASSWORD)] {
        let reply = stage.send(log_in_as(email, password)).await.expect(401);
        assert_eq!(reply.without_request_id(), first.without_request_id());
        assert_eq!(reply.header("set-cookie"), None);
    }
}

#[tokio::test]
async fn a_login_leaves_the_token_out_of_its_body() {
    let stage = Stage::set().await;
    let reply = stage.send(post(LOGIN).basic(EMAIL, PASSWORD)).await.expect(200);
    assert!(!reply.body.contains("ses_"), "{}", reply.body);
}
