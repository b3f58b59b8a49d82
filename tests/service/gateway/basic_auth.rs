//! The old application's first mode: Basic on a guarded route, checked for that one request.

use super::{
    stage::{ADMIN_EMAIL, EMAIL, ME, PASSWORD, SESSIONS, Stage, plain},
    wire::{Jar, ask, get, post},
};
use serde_json::json;
use sessiond::gateway::GatewayConfig;

async fn stage() -> Stage {
    Stage::set_with(GatewayConfig {
        basic_auth: true,
        ..plain()
    })
    .await
}

#[tokio::test]
async fn switched_on_it_stands_in_for_a_session_and_leaves_none() {
    let stage = stage().await;
    let reply = stage.send(get(ME).basic(EMAIL, PASSWORD)).await.expect(200);
    assert_eq!(reply.json()["email"], EMAIL);
    assert_eq!(reply.header("set-cookie"), None);
    stage
        .send(get("/api/v1/stats").basic(ADMIN_EMAIL, PASSWORD))
        .await
        .expect(200);
    let reply = stage
        .send(
            ask("PATCH", ME)
                .basic(EMAIL, PASSWORD)
                .json(&json!({ "last_name": "Dylan" })),
        )
        .await
        .expect(200);
    assert_eq!(reply.json()["last_name"], "Dylan");
    let reply = stage.send(get(SESSIONS).basic(EMAIL, PASSWORD)).await.expect(200);
    assert_eq!(reply.json()["sessions"], json!([]));
    assert_eq!(stage.session_count().await, 0);
}

#[tokio::test]
async fn it_says_no_more_about_users_than_a_login() {
    let stage = stage().await;
    let wrong = stage.send(get(ME).basic(EMAIL, "not it")).await.expect(401);
    let unknown = stage
        .send(get(ME).basic("nobody@hbtn.io", PASSWORD))
        .await
        .expect(401);
    assert_eq!(wrong.without_request_id(), unknown.without_request_id());
    for header in ["Basic", "Basic !", "Basic eA==", "Basic eA== x", "Digest x"] {
        stage
            .send(get(ME).header("Authorization", header))
            .await
            .expect(401);
    }
    stage
        .send(get("/api/v1/stats").basic(EMAIL, PASSWORD))
        .await
        .expect(403);
}

#[tokio::test]
async fn a_session_cookie_goes_first() {
    let stage = stage().await;
    let jar = stage.log_in(EMAIL).await;
    let reply = stage
        .send(get(ME).cookies(&jar).basic(ADMIN_EMAIL, PASSWORD))
        .await
        .expect(200);
    assert_eq!(reply.json()["email"], EMAIL);
    let dead = Jar::with("session", "rubbish");
    stage
        .send(get(ME).cookies(&dead).basic(ADMIN_EMAIL, PASSWORD))
        .await
        .expect(401);
}

#[tokio::test]
async fn a_password_can_be_changed_with_it() {
    let stage = stage().await;
    let jar = stage.log_in(EMAIL).await;
    let change = json!({ "current_password": PASSWORD, "new_password": "another quiet harbour" });
    let reply = stage
        .send(
            post("/api/v1/users/me/password")
                .basic(EMAIL, PASSWORD)
                .json(&change),
        )
        .await
        .expect(200);
    assert_eq!(reply.header("set-cookie"), None);
    assert_eq!(stage.whose(jar.token()).await, None);
    stage.send(get(ME).basic(EMAIL, PASSWORD)).await.expect(401);
    stage
        .send(get(ME).basic(EMAIL, "another quiet harbour"))
        .await
        .expect(200);
}

#[tokio::test]
async fn switched_off_it_counts_for_nothing() {
    let stage = Stage::set().await;
    for path in [ME, SESSIONS, "/api/v1/users", "/api/v1/stats"] {
        stage
            .send(get(path).basic(ADMIN_EMAIL, PASSWORD))
            .await
            .expect(401);
    }
}
