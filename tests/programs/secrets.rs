//! What must not leave the process.

use crate::built::start_sessiond;
use rustix::process::Signal;
use std::{fs, os::unix::process::ExitStatusExt as _, time::Duration};
use testkit::process::{Running, shell};

#[test]
fn s_89_no_secret_is_logged_at_any_level() {
    let dir = tempfile::tempdir().unwrap();
    let sessiond = start_sessiond(dir.path(), &["--store=memory", "--log=trace", "--basic-auth"]);
    let base = format!("http://{}/api/v1", sessiond.http.unwrap());
    let password = "canary bird in a coal mine";
    let wrong = "another canary altogether";
    let json = "-H 'content-type: application/json'";
    let user = |password: &str| format!("'{{\"email\":\"canary@example.org\",\"password\":\"{password}\"}}'");
    let lines = [
        format!("curl -sS -f {json} -d {} {base}/users", user(password)),
        format!("curl -sS {json} -d {} {base}/auth_session/login", user(wrong)),
        format!(
            "curl -sS -f -c jar {json} -d {} {base}/auth_session/login",
            user(password)
        ),
        format!("curl -sS -f -b jar {base}/users/me"),
        format!("curl -sS -f -u 'canary@example.org:{password}' {base}/users/me"),
        format!(
            "curl -sS -b jar {json} -d '{{\"current_password\":\"{password}\",\"new_password\":\"{wrong}\"}}' {base}/users/me/password"
        ),
        format!("curl -sS -b jar -X DELETE {base}/auth_session/logout"),
    ];
    for line in lines {
        shell(dir.path(), &line);
    }
    let jar = fs::read_to_string(dir.path().join("jar")).unwrap();
    let token = jar
        .split_whitespace()
        .find(|word| word.starts_with("ses_"))
        .unwrap()
        .to_owned();
    let (_, log) = sessiond.stopped();
    assert!(log.contains("\"event\":\"user_created\""), "{log}");
    let encoded = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!("canary@example.org:{password}"),
    );
    for secret in [
        password,
        wrong,
        &token,
        &token[4..],
        &encoded,
        "canary@example.org",
        "canary%20bird",
    ] {
        assert!(!log.contains(secret), "{secret} in\n{log}");
    }
    // Other people's code says nothing below info.
    assert!(
        !log.contains("\"target\":\"h2") && !log.contains("\"target\":\"hyper"),
        "{log}"
    );
}

#[test]
fn s_98_a_crash_leaves_no_memory_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = testkit::process::program("sh", dir.path());
    let line = format!(
        "ulimit -c unlimited 2>/dev/null; exec {} --store=memory --listen=127.0.0.1:0 --gateway=false",
        crate::built::SESSIOND
    );
    command.args(["-c", &line]);
    let sessiond = Running::start(command);
    sessiond.signal(Signal::ABORT);
    let (status, _) = sessiond.ended(Duration::from_secs(60));
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!status.core_dumped());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
