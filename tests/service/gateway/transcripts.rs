//! The old Flask application's curl transcripts, run with curl.

use super::{
    stage::{EMAIL, LOGIN, LOGOUT, ME, PASSWORD, Stage},
    wire::{ask, delete, get, post},
};
use serde_json::Value;
use std::path::Path;
use tokio::process::Command;

/// Runs curl with a cookie jar, and returns the status and the body that it saw.
async fn curl(stage: &Stage, jar: &Path, path: &str, arguments: &[&str]) -> (u16, Value) {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "30", "--noproxy", "*"])
        .args(["--write-out", "\n%{http_code}"])
        .arg("--cookie")
        .arg(jar)
        .arg("--cookie-jar")
        .arg(jar)
        .args(arguments)
        .arg(format!("http://{}{path}", stage.address()))
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn the_old_applications_transcripts_run_with_curl() {
    let stage = Stage::set().await;
    let directory = tempfile::tempdir().unwrap();
    let jar = directory.path().join("cookies");
    let run = async |path: &str, arguments: &[&str]| curl(&stage, &jar, path, arguments).await;
    let post = ["-XPOST"];
    let email = format!("email={EMAIL}");
    let password = format!("password={PASSWORD}");

    // Before: no cookie, no user.
    let (status, body) = run(ME, &["-XGET"]).await;
    assert_eq!((status, &body["error"]), (401, &"Unauthorized".into()));

    // The old application answered 405 with a page of HTML.
    let (status, body) = run(LOGIN, &["-XGET"]).await;
    assert_eq!((status, &body["error"]), (405, &"Method not allowed".into()));

    let (status, body) = run(LOGIN, &post).await;
    assert_eq!((status, &body["error"]), (400, &"email missing".into()));
    let (status, body) = run(LOGIN, &["-XPOST", "-d", &email]).await;
    assert_eq!((status, &body["error"]), (400, &"password missing".into()));

    // Different on purpose: the old application answered 404 "no user found for this email" and 401 "wrong password", and told
    // everyone who has an account.
    let (status, unknown) = run(LOGIN, &["-XPOST", "-d", "email=nobody@hbtn.io", "-d", &password]).await;
    assert_eq!(
        (status, &unknown["error"]),
        (401, &"wrong email or password".into())
    );
    let (status, wrong) = run(LOGIN, &["-XPOST", "-d", &email, "-d", "password=test"]).await;
    assert_eq!(
        (status, &wrong["error"]),
        (401, &"wrong email or password".into())
    );

    let (status, user) = run(LOGIN, &["-XPOST", "-d", &email, "-d", &password]).await;
    assert_eq!(status, 200);
    assert_eq!(user["email"], EMAIL);
    for member in ["id", "first_name", "last_name", "created_at", "updated_at"] {
        assert!(user[member].is_string(), "{member}: {user}");
    }
    assert!(user.get("password").is_none());

    let (status, me) = run(ME, &[]).await;
    assert_eq!((status, &me), (200, &user));
    let (status, me) = run(&format!("{ME}/"), &[]).await;
    assert_eq!((status, &me), (200, &user));

    let (status, body) = run(LOGOUT, &["-XDELETE"]).await;
    assert_eq!((status, body), (200, serde_json::json!({})));

    // Different on purpose: 401, where the old application answered 403 to a cookie that was over and 401 to none at all.
    let (status, body) = run(ME, &[]).await;
    assert_eq!((status, &body["error"]), (401, &"Unauthorized".into()));
    // And 401 here, where it answered 404.
    let (status, _) = run(LOGOUT, &["-XDELETE"]).await;
    assert_eq!(status, 401);

    // Its first mode: Basic, here to log in.
    let user_and_password = format!("{EMAIL}:{PASSWORD}");
    let (status, body) = run(LOGIN, &["-XPOST", "-u", &user_and_password]).await;
    assert_eq!((status, &body["id"]), (200, &user["id"]));

    stage.ready().await;
    let (status, body) = run("/api/v1/status", &[]).await;
    assert_eq!((status, body), (200, serde_json::json!({ "status": "OK" })));
}

#[tokio::test]
async fn http_2_is_spoken_as_well() {
    let stage = Stage::set().await;
    let directory = tempfile::tempdir().unwrap();
    let jar = directory.path().join("cookies");
    let http_2 = "--http2-prior-knowledge";
    let own = format!("Origin: http://{}", stage.address());
    let form = format!("email={EMAIL}&password={PASSWORD}");
    let log_in = [
        http_2,
        "-H",
        &own,
        "-H",
        "Sec-Fetch-Site: same-origin",
        "-d",
        &form,
    ];
    let (status, user) = curl(&stage, &jar, LOGIN, &log_in).await;
    assert_eq!((status, &user["email"]), (200, &EMAIL.into()));
    let (status, me) = curl(&stage, &jar, ME, &[http_2]).await;
    assert_eq!((status, me), (200, user));
    let elsewhere = [http_2, "-H", "Origin: http://evil.example", "-XDELETE"];
    let (status, _) = curl(&stage, &jar, LOGOUT, &elsewhere).await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn trailing_slashes_are_tolerated() {
    let stage = Stage::set().await;
    let jar = stage.log_in(EMAIL).await;
    for path in [
        "/api/v1/users/me/",
        "/api/v1/users/me//",
        "/api/v1/sessions/",
        "/api/v1/sessions/?page_size=1",
    ] {
        stage.send(get(path).cookies(&jar)).await.expect(200);
    }
    stage
        .send(delete(&format!("{LOGOUT}/")).cookies(&jar))
        .await
        .expect(200);
}

#[tokio::test]
async fn every_route_says_which_methods_it_has() {
    let stage = Stage::set().await;
    let me = format!("{ME}/");
    for (path, methods) in [
        (LOGIN, "POST,OPTIONS"),
        (LOGOUT, "DELETE,OPTIONS"),
        (ME, "GET,HEAD,PATCH,OPTIONS"),
        (&me, "GET,HEAD,PATCH,OPTIONS"),
        ("/api/v1/users", "GET,HEAD,POST,OPTIONS"),
        ("/api/v1/users/x", "GET,HEAD,PUT,DELETE,OPTIONS"),
        ("/api/v1/sessions", "GET,HEAD,DELETE,OPTIONS"),
        ("/api/v1/status", "GET,HEAD,OPTIONS"),
    ] {
        let reply = stage.send(ask("OPTIONS", path)).await.expect(204);
        assert_eq!(reply.header("allow"), Some(methods), "{path}");
        assert_eq!(reply.body, "");
    }
    stage.send(ask("OPTIONS", "/nothing")).await.expect(404);
}

#[tokio::test]
async fn s_25_s_26_methods_change_what_they_say_and_there_are_no_others() {
    let stage = Stage::set().await;
    let jar = stage.log_in(EMAIL).await;
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH"] {
        let reply = stage.send(ask(method, LOGOUT).cookies(&jar)).await.expect(405);
        assert_eq!(reply.header("allow"), Some("DELETE,OPTIONS"), "{method}");
    }
    for method in ["TRACE", "FOO", "PROPFIND"] {
        stage.send(ask(method, ME).cookies(&jar)).await.expect(501);
    }
    stage
        .send(ask("CONNECT", "localhost:80").cookies(&jar))
        .await
        .expect(501);
    for header in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        stage
            .send(post(LOGOUT).cookies(&jar).header(header, "DELETE"))
            .await
            .expect(405);
        stage
            .send(
                get(&format!("{LOGOUT}?_method=DELETE"))
                    .cookies(&jar)
                    .header(header, "DELETE"),
            )
            .await
            .expect(405);
    }
    stage.send(get(ME).cookies(&jar)).await.expect(200);
}

#[tokio::test]
async fn an_unknown_route_is_a_problem_too() {
    let stage = Stage::set().await;
    for path in [
        "/nothing",
        "/api/v1",
        "/api/v1/users/me/nothing",
        "/api/v2/status",
        "/%2e%2e/",
    ] {
        let reply = stage.send(get(path)).await.expect(404);
        assert_eq!(reply.error(), "Not found");
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    }
}
