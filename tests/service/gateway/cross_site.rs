//! What another site can make a browser do: nothing.

use super::{
    stage::{EMAIL, LOGIN, LOGOUT, ME, PASSWORD, SESSIONS, Stage, log_in_as, plain},
    wire::{Ask, Jar, ask, delete, get, post},
};
use serde_json::json;
use sessiond::gateway::GatewayConfig;

fn with(ask: Ask, site: Option<&str>, origin: Option<&str>) -> Ask {
    let ask = match site {
        Some(site) => ask.header("Sec-Fetch-Site", site),
        None => ask,
    };
    match origin {
        Some(origin) => ask.header("Origin", origin),
        None => ask,
    }
}

#[tokio::test]
async fn s_27_only_our_own_pages_and_programs_may_change_anything() {
    let stage = Stage::set().await;
    let jar = stage.log_in(EMAIL).await;
    let own = format!("http://{}", stage.address());
    let sites = [
        None,
        Some("same-origin"),
        Some("none"),
        Some("same-site"),
        Some("cross-site"),
    ];
    let origins = [
        None,
        Some(own.as_str()),
        Some("https://evil.example"),
        Some("null"),
    ];
    for site in sites {
        for origin in origins {
            let may = !matches!(site, Some("same-site" | "cross-site"))
                && !matches!(origin, Some("https://evil.example" | "null"));
            let change = ask("PATCH", ME)
                .cookies(&jar)
                .json(&json!({ "first_name": "Bob" }));
            let reply = stage.send(with(change, site, origin)).await;
            assert_eq!(reply.status, if may { 200 } else { 403 }, "{site:?} {origin:?}");
            if !may {
                for attack in [delete(LOGOUT), delete(SESSIONS)] {
                    let reply = stage
                        .send(with(attack.cookies(&jar), site, origin))
                        .await
                        .expect(403);
                    assert_eq!(reply.header("set-cookie"), None);
                }
                assert!(stage.whose(jar.token()).await.is_some());
            }
        }
    }
}

#[tokio::test]
async fn s_27_a_configured_origin_is_the_only_own_one() {
    let config = GatewayConfig {
        public_origin: Some("https://auth.example.com".parse().unwrap()),
        ..GatewayConfig::default()
    };
    let stage = Stage::set_with(config).await;
    let own = format!("http://{}", stage.address());
    stage
        .send(with(
            log_in_as(EMAIL, PASSWORD),
            None,
            Some("https://auth.example.com"),
        ))
        .await
        .expect(200);
    for origin in [
        own.as_str(),
        "http://auth.example.com",
        "https://auth.example.com:8443",
    ] {
        stage
            .send(with(log_in_as(EMAIL, PASSWORD), None, Some(origin)))
            .await
            .expect(403);
    }
}

#[tokio::test]
async fn s_28_nobody_is_logged_in_by_another_site() {
    let stage = Stage::set().await;
    let form = format!("email={EMAIL}&password={}", PASSWORD.replace(' ', "+"));
    for (site, origin) in [
        (Some("cross-site"), Some("https://evil.example")),
        (None, Some("https://evil.example")),
        (Some("cross-site"), None),
        (Some("same-site"), Some("https://other.localhost")),
    ] {
        let reply = stage
            .send(with(post(LOGIN).form(&form), site, origin))
            .await
            .expect(403);
        assert_eq!(reply.header("set-cookie"), None);
    }
    assert_eq!(stage.session_count().await, 0);
    stage.send(post(LOGIN).form(&form)).await.expect(200);
}

#[tokio::test]
async fn s_29_json_routes_refuse_what_a_form_can_send() {
    let stage = Stage::set().await;
    let jar = stage.log_in(EMAIL).await;
    let body = json!({ "first_name": "Eve", "email": "eve@hbtn.io", "password": PASSWORD }).to_string();
    for content_type in [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
    ] {
        for (method, path) in [
            ("POST", "/api/v1/users"),
            ("PATCH", ME),
            ("POST", "/api/v1/users/me/password"),
        ] {
            stage
                .send(ask(method, path).cookies(&jar).body(content_type, &body))
                .await
                .expect(415);
        }
    }
    // Log-in takes forms, and yet not every type that a form can send.
    for content_type in ["", "text/plain", "multipart/form-data; boundary=x"] {
        let body = format!("email={EMAIL}&password=x");
        stage.send(post(LOGIN).body(content_type, body)).await.expect(415);
    }
    assert_eq!(
        stage.send(get(ME).cookies(&jar)).await.expect(200).json()["first_name"],
        ""
    );
}

#[tokio::test]
async fn s_30_no_origin_may_read_unless_it_is_named() {
    let stage = Stage::set().await;
    let jar = stage.log_in(EMAIL).await;
    for origin in ["https://evil.example", "null", "https://good.tld"] {
        let reply = stage
            .send(get(ME).cookies(&jar).header("Origin", origin))
            .await
            .expect(200);
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }

    let config = GatewayConfig {
        allowed_origins: vec!["https://good.tld".parse().unwrap()],
        ..plain()
    };
    let stage = Stage::set_with(config).await;
    let jar = stage.log_in(EMAIL).await;
    for origin in [
        "https://evil.example",
        "https://good.tld.evil.com",
        "https://evilgood.tld",
        "http://good.tld",
        "https://good.tld:8443",
        "null",
    ] {
        let reply = stage
            .send(get(ME).cookies(&jar).header("Origin", origin))
            .await
            .expect(200);
        assert_eq!(reply.header("access-control-allow-origin"), None, "{origin}");
        assert_eq!(reply.header("access-control-allow-credentials"), None, "{origin}");
        assert_eq!(reply.header("vary"), Some("origin"));
        let reply = stage.send(preflight(origin)).await.expect(204);
        assert_eq!(reply.header("access-control-allow-origin"), None, "{origin}");
        assert_eq!(reply.header("access-control-allow-methods"), None, "{origin}");
        stage
            .send(with(log_in_as(EMAIL, PASSWORD), Some("cross-site"), Some(origin)))
            .await
            .expect(403);
    }
    let origin = "https://good.tld";
    let reply = stage
        .send(get(ME).cookies(&jar).header("Origin", origin))
        .await
        .expect(200);
    assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
    assert_eq!(reply.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(reply.header("vary"), Some("origin"));
    let reply = stage.send(preflight(origin)).await.expect(204);
    assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
    stage
        .send(with(log_in_as(EMAIL, PASSWORD), Some("cross-site"), Some(origin)))
        .await
        .expect(200);
    // A problem can be read as well, or the page could not tell what is wrong.
    let reply = stage
        .send(get(ME).cookies(&Jar::default()).header("Origin", origin))
        .await
        .expect(401);
    assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
}

#[tokio::test]
async fn s_30_the_pages_of_a_named_app_may_use_the_gateway() {
    let app = "capacitor://localhost";
    let config = GatewayConfig {
        allowed_origins: vec![app.parse().unwrap()],
        ..plain()
    };
    let stage = Stage::set_with(config).await;
    let reply = stage.send(preflight(app)).await.expect(204);
    assert_eq!(reply.header("access-control-allow-origin"), Some(app));
    let reply = stage
        .send(with(log_in_as(EMAIL, PASSWORD), Some("cross-site"), Some(app)))
        .await
        .expect(200);
    assert_eq!(reply.header("access-control-allow-origin"), Some(app));
    // An app that is not named is not the gateway's own page, although it calls its host by the same name.
    for (other, host) in [
        ("tauri://localhost", "localhost"),
        ("capacitor://localhost:80", "localhost:80"),
    ] {
        let ask = with(log_in_as(EMAIL, PASSWORD), None, Some(other)).header("Host", host);
        stage.send(ask).await.expect(403);
    }
}

fn preflight(origin: &str) -> Ask {
    ask("OPTIONS", ME)
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "PATCH")
        .header("Access-Control-Request-Headers", "content-type")
}
