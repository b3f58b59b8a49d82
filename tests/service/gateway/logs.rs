//! What the gateway and the service write into their logs, at the most talkative.

use super::{
    stage::{EMAIL, ME, PASSWORD, Stage, log_in_as},
    wire::{Jar, get, post},
};
use std::{
    io::{self, Write},
    sync::{LazyLock, Mutex},
};
use tracing_subscriber::EnvFilter;

static WRITTEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static CAPTURE: LazyLock<()> = LazyLock::new(|| {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("warn,sessiond=trace"))
        .with_ansi(false)
        .with_writer(|| Capture)
        .init();
});

struct Capture;

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WRITTEN.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From now on everything that is logged in this process is kept.
pub(crate) fn capture() {
    LazyLock::force(&CAPTURE);
}

/// Everything that was logged since [`capture`].
pub(crate) fn written() -> String {
    String::from_utf8(WRITTEN.lock().unwrap().clone()).unwrap()
}

#[tokio::test]
async fn s_05_s_89_the_log_names_the_request_and_holds_no_secret() {
    let stage = Stage::set().await;
    let mut jar = Jar::default();
    let named = log_in_as(EMAIL, PASSWORD).header("X-Request-Id", "the-log-in");
    jar.keep(&stage.send(named).await.expect(200));
    let token = jar.token();
    stage.send(get(ME).cookies(&jar)).await.expect(200);
    stage
        .send(get(&format!("{ME}?session={token}")))
        .await
        .expect(401);
    stage
        .send(get(&format!("/api/v1/users/{token}")))
        .await
        .expect(401);
    stage.send(get(&format!("/{token}"))).await.expect(404);
    let failed = log_in_as(EMAIL, "a wrong one that nobody has").header("X-Request-Id", "a-failed-log-in");
    stage.send(failed).await.expect(401);
    stage
        .send(post(ME).basic("a-unique-one@hbtn.io", PASSWORD))
        .await
        .expect(405);

    let log = written();
    let line = log
        .lines()
        .find(|line| line.contains("the-log-in") && line.contains("route="));
    let line = line.expect("the request is logged");
    assert!(
        line.contains("/api/v1/auth_session/login") && line.contains("status=200"),
        "{line}"
    );
    assert!(log.contains("/api/v1/users/{id}"));
    // The service's own lines carry the same id.
    let of_service =
        |line: &str| line.contains("a-failed-log-in") && line.contains("AuthService/CreateSession");
    assert!(log.lines().any(of_service));
    for secret in [
        token,
        PASSWORD,
        "a wrong one that nobody has",
        "a-unique-one@hbtn.io",
        EMAIL,
    ] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}
