//! The list of one's own sessions, and ending them.

use super::{
    stage::{ADMIN_EMAIL, EMAIL, ME, SESSIONS, Stage, plain},
    wire::{Jar, delete, get},
};
use serde_json::Value;
use sessiond::domain::SessionLimits;
use std::time::Duration;

async fn listed(stage: &Stage, jar: &Jar) -> Vec<Value> {
    let list = stage.send(get(SESSIONS).cookies(jar)).await.expect(200).json();
    list["sessions"].as_array().unwrap().clone()
}

async fn current_id(stage: &Stage, jar: &Jar) -> String {
    let sessions = listed(stage, jar).await;
    let current: Vec<_> = sessions
        .iter()
        .filter(|session| session["is_current"] == true)
        .collect();
    assert_eq!(current.len(), 1);
    current[0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn s_18_users_see_their_own_sessions_and_no_secret() {
    let stage = Stage::set().await;
    let (here, _there) = (stage.log_in(EMAIL).await, stage.log_in(EMAIL).await);
    stage.log_in(ADMIN_EMAIL).await;
    let sessions = listed(&stage, &here).await;
    assert_eq!(sessions.len(), 2);
    for session in &sessions {
        for member in [
            "id",
            "created_at",
            "last_seen_at",
            "expires_at",
            "authenticated_at",
        ] {
            assert!(session[member].is_string(), "{session}");
        }
        assert_eq!(session["client"]["ip"], "127.0.0.1");
        assert_eq!(session["auth_method"], "password");
        assert!(!session.to_string().contains("ses_"));
        // The id names the session and proves nothing.
        let as_cookie = Jar::with("session", session["id"].as_str().unwrap());
        stage.send(get(ME).cookies(&as_cookie)).await.expect(401);
    }
    let page = stage
        .send(get(&format!("{SESSIONS}?page_size=1")).cookies(&here))
        .await
        .expect(200)
        .json();
    assert_eq!(page["sessions"].as_array().unwrap().len(), 1);
    let rest = format!(
        "{SESSIONS}?page_token={}",
        page["next_page_token"].as_str().unwrap()
    );
    let rest = stage.send(get(&rest).cookies(&here)).await.expect(200).json();
    assert_eq!(rest["sessions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn s_18_users_end_their_own_sessions_and_no_others() {
    let stage = Stage::set().await;
    let (here, there) = (stage.log_in(EMAIL).await, stage.log_in(EMAIL).await);
    let admin = stage.log_in(ADMIN_EMAIL).await;
    let end = |id: &str| delete(&format!("{SESSIONS}/{id}"));

    let of_admin = current_id(&stage, &admin).await;
    for id in [&of_admin, "x", "%ff", "019a0000-0000-7000-8000-000000000000"] {
        stage.send(end(id).cookies(&here)).await.expect(404);
    }
    assert!(stage.whose(admin.token()).await.is_some());

    let id = current_id(&stage, &there).await;
    stage.send(end(&id)).await.expect(401);
    let reply = stage.send(end(&id).cookies(&here)).await.expect(200);
    assert_eq!(reply.header("set-cookie"), None);
    assert_eq!(stage.whose(there.token()).await, None);
    stage.send(end(&id).cookies(&here)).await.expect(404);

    let mut browser = here.clone();
    let own = current_id(&stage, &here).await;
    let reply = stage.send(end(&own).cookies(&here)).await.expect(200);
    browser.keep(&reply);
    assert!(browser.is_empty());
    assert_eq!(stage.whose(here.token()).await, None);
}

#[tokio::test]
async fn a_session_beyond_the_longest_page_is_found() {
    let limits = SessionLimits {
        max_per_user: 250,
        ..SessionLimits::DEFAULT
    };
    let stage = Stage::set_within(plain(), limits).await;
    let here = stage.log_in(EMAIL).await;
    let me = stage.send(get(ME).cookies(&here)).await.expect(200).json();
    let me = me["id"].as_str().unwrap();
    let first = stage.create_session(me).await;
    for _ in 0..220 {
        // Newest first: the first one slides to the third page.
        stage.clock.advance(Duration::from_millis(1));
        stage.create_session(me).await;
    }
    let end = delete(&format!("{SESSIONS}/{}", first.id)).cookies(&here);
    stage.send(end.clone()).await.expect(200);
    stage.send(end).await.expect(404);
    assert_eq!(stage.session_count().await, 221);
}

#[tokio::test]
async fn all_other_sessions_end_at_once() {
    let stage = Stage::set().await;
    let here = stage.log_in(EMAIL).await;
    let others = [stage.log_in(EMAIL).await, stage.log_in(EMAIL).await];
    let admin = stage.log_in(ADMIN_EMAIL).await;
    let reply = stage.send(delete(SESSIONS).cookies(&here)).await.expect(200);
    assert_eq!(reply.json()["revoked_count"], 2);
    for other in others {
        assert_eq!(stage.whose(other.token()).await, None);
    }
    assert!(stage.whose(here.token()).await.is_some());
    assert!(stage.whose(admin.token()).await.is_some());
}

#[tokio::test]
async fn s_18_ending_sessions_takes_a_fresh_login() {
    let stage = Stage::set().await;
    let (here, there) = (stage.log_in(EMAIL).await, stage.log_in(EMAIL).await);
    let id = current_id(&stage, &there).await;
    stage.clock.advance(Duration::from_secs(15 * 60 + 1));
    for ask in [delete(SESSIONS), delete(&format!("{SESSIONS}/{id}"))] {
        let reply = stage.send(ask.cookies(&here)).await.expect(403);
        assert_eq!(reply.error(), "log in again");
    }
    assert!(stage.whose(there.token()).await.is_some());
    let again = stage.log_in(EMAIL).await;
    stage.send(delete(SESSIONS).cookies(&again)).await.expect(200);
    assert_eq!(stage.whose(there.token()).await, None);
}
