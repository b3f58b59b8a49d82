//! Registration, the current user, and the administration of users.

use super::{
    stage::{ADMIN_EMAIL, EMAIL, ME, PASSWORD, Stage, USERS, log_in_as, plain},
    wire::{Ask, ask, delete, get, post},
};
use serde_json::json;
use sessiond::gateway::GatewayConfig;
use std::time::Duration;

const NEW_PASSWORD: &str = "another quiet harbour";

fn register(email: &str) -> Ask {
    post(USERS).json(&json!({ "email": email, "password": PASSWORD, "first_name": "Ada" }))
}

#[tokio::test]
async fn whoever_registers_can_log_in() {
    let stage = Stage::set().await;
    let reply = stage.send(register("ada@hbtn.io")).await.expect(201);
    let user = reply.json();
    assert_eq!(user["first_name"], "Ada");
    assert_eq!(user["roles"], json!([]));
    assert_eq!(reply.header("set-cookie"), None);
    assert!(!reply.body.contains(PASSWORD) && !reply.body.contains("$2"));
    let logged_in = stage.send(log_in_as("ada@hbtn.io", PASSWORD)).await.expect(200);
    assert_eq!(logged_in.json()["id"], user["id"]);
    let again = stage.send(register("ADA@hbtn.io")).await.expect(409);
    assert_eq!(again.error(), "email already registered");
}

#[tokio::test]
async fn nobody_registers_with_a_role() {
    let stage = Stage::set().await;
    let with_role =
        post(USERS).json(&json!({ "email": "eve@hbtn.io", "password": PASSWORD, "roles": ["admin"] }));
    stage.send(with_role.clone()).await.expect(401);
    let bob = stage.log_in(EMAIL).await;
    stage.send(with_role.clone().cookies(&bob)).await.expect(403);
    stage.send(log_in_as("eve@hbtn.io", PASSWORD)).await.expect(401);
    let admin = stage.log_in(ADMIN_EMAIL).await;
    let created = stage.send(with_role.cookies(&admin)).await.expect(201);
    assert_eq!(created.json()["roles"], json!(["admin"]));
}

#[tokio::test]
async fn registration_can_be_closed() {
    let config = GatewayConfig {
        registration: false,
        ..plain()
    };
    let stage = Stage::set_with(config).await;
    let closed = stage.send(register("ada@hbtn.io")).await.expect(403);
    assert_eq!(closed.json()["type"], "urn:sessiond:problem:registration-closed");
    let bob = stage.log_in(EMAIL).await;
    stage
        .send(register("ada@hbtn.io").cookies(&bob))
        .await
        .expect(403);
    let admin = stage.log_in(ADMIN_EMAIL).await;
    stage
        .send(register("ada@hbtn.io").cookies(&admin))
        .await
        .expect(201);
}

#[tokio::test]
async fn users_change_their_names_and_nothing_above_them() {
    let stage = Stage::set().await;
    let bob = stage.log_in(EMAIL).await;
    let patch = |body| ask("PATCH", ME).cookies(&bob).json(&body);
    let reply = stage
        .send(patch(json!({ "first_name": "Bob", "last_name": "Dylan" })))
        .await
        .expect(200);
    assert_eq!(reply.json()["first_name"], "Bob");
    let reply = stage
        .send(patch(json!({ "last_name": "Zimmerman" })))
        .await
        .expect(200);
    assert_eq!(
        (&reply.json()["first_name"], &reply.json()["last_name"]),
        (&json!("Bob"), &json!("Zimmerman"))
    );
    for body in [
        json!({ "roles": ["admin"] }),
        json!({ "first_name": "x", "roles": ["admin"] }),
        json!({ "id": "x" }),
        json!({}),
    ] {
        stage.send(patch(body)).await.expect(400);
    }
    let me = stage.send(get(ME).cookies(&bob)).await.expect(200).json();
    assert_eq!((&me["first_name"], &me["roles"]), (&json!("Bob"), &json!([])));
}

#[tokio::test]
async fn s_20_a_new_email_takes_a_fresh_login() {
    let stage = Stage::set().await;
    let bob = stage.log_in(EMAIL).await;
    let change = ask("PATCH", ME)
        .cookies(&bob)
        .json(&json!({ "email": "robert@hbtn.io" }));
    stage.clock.advance(Duration::from_secs(16 * 60));
    let reply = stage.send(change.clone()).await.expect(403);
    assert_eq!(
        reply.json()["type"],
        "urn:sessiond:problem:reauthentication-required"
    );
    assert_eq!(reply.header("set-cookie"), None);
    stage.send(get(ME).cookies(&bob)).await.expect(200);
    let bob = stage.log_in(EMAIL).await;
    let change = ask("PATCH", ME)
        .cookies(&bob)
        .json(&json!({ "email": "robert@hbtn.io" }));
    stage.send(change).await.expect(200);
    stage
        .send(log_in_as("robert@hbtn.io", PASSWORD))
        .await
        .expect(200);
    stage.send(log_in_as(EMAIL, PASSWORD)).await.expect(401);
}

#[tokio::test]
async fn a_lost_update_is_refused() {
    let stage = Stage::set().await;
    let bob = stage.log_in(EMAIL).await;
    let read = stage.send(get(ME).cookies(&bob)).await.expect(200);
    let etag = read.header("etag").unwrap().to_owned();
    assert_eq!(etag, format!("\"{}\"", read.json()["etag"].as_str().unwrap()));
    let change = |etag: &str, name: &str| {
        ask("PATCH", ME)
            .cookies(&bob)
            .header("If-Match", etag)
            .json(&json!({ "first_name": name }))
    };
    let changed = stage.send(change(&etag, "one")).await.expect(200);
    assert_ne!(changed.header("etag"), Some(etag.as_str()));
    stage.send(change(&etag, "two")).await.expect(412);
    for unusable in ["W/\"1\"", "1", "\"\"", "\"1\", \"2\"", "\""] {
        stage.send(change(unusable, "three")).await.expect(412);
    }
    stage.send(change("*", "four")).await.expect(200);
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions_and_renews_this_one() {
    let stage = Stage::set().await;
    let (mut bob, elsewhere) = (stage.log_in(EMAIL).await, stage.log_in(EMAIL).await);
    let before = bob.clone();
    let change = |current: &str, new: &str| {
        post("/api/v1/users/me/password")
            .cookies(&before)
            .json(&json!({ "current_password": current, "new_password": new }))
    };
    let wrong = stage.send(change("not it", NEW_PASSWORD)).await.expect(403);
    assert_eq!(wrong.error(), "wrong password");
    assert_eq!(wrong.header("set-cookie"), None);
    let weak = stage.send(change(PASSWORD, "short")).await.expect(400);
    assert!(weak.error().starts_with("new_password "), "{}", weak.error());
    assert!(stage.whose(elsewhere.token()).await.is_some());

    let changed = stage.send(change(PASSWORD, NEW_PASSWORD)).await.expect(200);
    assert_eq!(changed.json(), json!({}));
    bob.keep(&changed);
    assert_ne!(bob.token(), before.token());
    stage.send(get(ME).cookies(&bob)).await.expect(200);
    for dead in [before, elsewhere] {
        stage.send(get(ME).cookies(&dead)).await.expect(401);
    }
    stage.send(log_in_as(EMAIL, PASSWORD)).await.expect(401);
    stage.send(log_in_as(EMAIL, NEW_PASSWORD)).await.expect(200);
}

#[tokio::test]
async fn administration_is_for_administrators() {
    let stage = Stage::set().await;
    let bob = stage.log_in(EMAIL).await;
    let id = stage.send(get(ME).cookies(&bob)).await.expect(200).json()["id"].clone();
    let one = format!("{USERS}/{}", id.as_str().unwrap());
    for ask in [
        get(USERS),
        get(&one),
        get(&format!("{USERS}/nobody")),
        delete(&one),
        ask("PUT", &one).json(&json!({ "roles": ["admin"] })),
        get("/api/v1/stats"),
    ] {
        stage.send(ask.clone()).await.expect(401);
        stage.send(ask.cookies(&bob)).await.expect(403);
    }
    stage.send(get(ME).cookies(&bob)).await.expect(200);
}

#[tokio::test]
async fn an_administrator_reads_changes_and_deletes_users() {
    let stage = Stage::set().await;
    let bob = stage.log_in(EMAIL).await;
    let admin = stage.log_in(ADMIN_EMAIL).await;
    let stats = stage.send(get("/api/v1/stats").cookies(&admin)).await.expect(200);
    assert_eq!(stats.json(), json!({ "users": 2, "sessions": 2 }));

    let first = stage
        .send(get(&format!("{USERS}?page_size=1")).cookies(&admin))
        .await
        .expect(200)
        .json();
    assert_eq!(first["users"][0]["email"], EMAIL);
    let token = first["next_page_token"].as_str().unwrap();
    let second = stage
        .send(get(&format!("{USERS}?page_size=1&page_token={token}")).cookies(&admin))
        .await
        .expect(200)
        .json();
    assert_eq!(second["users"][0]["email"], ADMIN_EMAIL);
    assert_eq!(second["next_page_token"], "");

    let one = format!("{USERS}/{}", first["users"][0]["id"].as_str().unwrap());
    let shown = stage.send(get(&one).cookies(&admin)).await.expect(200).json();
    assert_eq!(shown, first["users"][0]);

    // What was read can be sent back with a change in it, once.
    let mut changed = shown.clone();
    changed["first_name"] = json!("Bob");
    changed["roles"] = json!(["editor"]);
    let put = ask("PUT", &one).cookies(&admin).json(&changed);
    let reply = stage.send(put.clone()).await.expect(200).json();
    assert_eq!(
        (&reply["first_name"], &reply["roles"]),
        (&json!("Bob"), &json!(["editor"]))
    );
    stage.send(put).await.expect(412);
    let taken = ask("PUT", &one)
        .cookies(&admin)
        .json(&json!({ "email": ADMIN_EMAIL }));
    stage.send(taken).await.expect(409);

    let gone = stage.send(delete(&one).cookies(&admin)).await.expect(200);
    assert_eq!(gone.json(), json!({}));
    stage.send(get(ME).cookies(&bob)).await.expect(401);
    stage.send(log_in_as(EMAIL, PASSWORD)).await.expect(401);
    for ask in [
        get(&one),
        delete(&one),
        ask("PUT", &one).json(&json!({ "first_name": "x" })),
    ] {
        stage.send(ask.cookies(&admin)).await.expect(404);
    }
    for id in ["x", "..", "%ff", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"] {
        stage
            .send(get(&format!("{USERS}/{id}")).cookies(&admin))
            .await
            .expect(404);
    }
}
