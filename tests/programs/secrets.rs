//! What must not leave the process.

use crate::{
    built::{SESSIOND_GATEWAY, start_sessiond},
    memory,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::process::{Signal, getuid};
use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::process::ExitStatusExt as _,
    time::Duration,
};
use testkit::process::{Running, program, shell};

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
    let encoded = STANDARD.encode(format!("canary@example.org:{password}"));
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

/// One request on a connection of its own.
fn send(address: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let request =
        format!("{head}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Passwords in every form in which the gateway takes them, then a few other calls.
fn log_in_in_every_form(http: SocketAddr, password: &str, changed: &str, wrong: &str) {
    const JSON: &str = "Content-Type: application/json";
    const LOGIN: &str = "POST /api/v1/auth_session/login HTTP/1.1";
    let json = |password: &str| format!(r#"{{"email":"ada@example.org","password":"{password}"}}"#);
    let form = |password: &str| format!("email=ada%40example.org&password={}", password.replace(' ', "+"));
    let basic = |password: &str| STANDARD.encode(format!("ada@example.org:{password}"));
    let ok = |answer: String| {
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
        answer
    };
    ok(send(
        http,
        &format!("POST /api/v1/users HTTP/1.1\r\n{JSON}"),
        &json(password),
    ));
    let form_type = "Content-Type: application/x-www-form-urlencoded";
    ok(send(http, &format!("{LOGIN}\r\n{form_type}"), &form(password)));
    ok(send(
        http,
        &format!("{LOGIN}\r\nAuthorization: Basic {}", basic(password)),
        "",
    ));
    let me = "GET /api/v1/users/me HTTP/1.1";
    ok(send(
        http,
        &format!("{me}\r\nAuthorization: Basic {}", basic(password)),
        "",
    ));
    let answer = ok(send(http, &format!("{LOGIN}\r\n{JSON}"), &json(password)));
    let cookie = answer
        .split("session=")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    send(http, &format!("{LOGIN}\r\n{JSON}"), &json(wrong));
    send(http, &format!("{LOGIN}\r\n{form_type}"), &form(wrong));
    send(http, &format!("{LOGIN}\r\n{JSON}"), &json(&format!("{wrong}\0")));
    send(http, &format!("{LOGIN}\r\n{JSON}"), &format!("{},", json(wrong)));
    let change = format!("POST /api/v1/users/me/password HTTP/1.1\r\n{JSON}\r\nCookie: session={cookie}");
    let both = format!(r#"{{"current_password":"{password}","new_password":"{changed}"}}"#);
    let answer = ok(send(http, &change, &both));
    let cookie = answer
        .split("session=")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    // A connection keeps what it last sent until something longer follows.
    let longer = format!("{}@example.org", "a".repeat(300));
    send(
        http,
        &format!("{LOGIN}\r\n{JSON}"),
        &json("x").replace("ada@example.org", &longer),
    );
    for _ in 0..20 {
        ok(send(http, &format!("{me}\r\nCookie: session={cookie}"), ""));
    }
}

#[test]
fn s_98_no_password_stays_in_the_gateways_memory() {
    let dir = tempfile::tempdir().unwrap();
    let sessiond = start_sessiond(dir.path(), &["--store=memory", "--gateway=false"]);
    let mut command = program(SESSIOND_GATEWAY, dir.path());
    let upstream = format!("--upstream=http://{}", sessiond.grpc.unwrap());
    command.args(["--gateway-listen=127.0.0.1:0", "--basic-auth", &upstream]);
    let gateway = Running::start(command);
    let passwords = [
        "canary bird in a coal mine",
        "another bird takes the watch",
        "a bird that never was here",
    ];
    let [password, changed, wrong] = passwords;
    log_in_in_every_form(gateway.http.unwrap(), password, changed, wrong);
    let file = dir.path().join("memory");
    if let Err(refused) = memory::dump(gateway.pid(), &file) {
        // That nobody but root may look is half of the requirement.
        assert!(
            refused.kind() == ErrorKind::PermissionDenied && !getuid().is_root(),
            "{refused}"
        );
        return;
    }
    assert!(memory::occurrences(&["sessiond"], &file) > 0, "nothing was read");
    for password in passwords {
        let encoded = STANDARD.encode(format!("ada@example.org:{password}"));
        let in_form = password.replace(' ', "+");
        for form in [password, &in_form, &encoded] {
            assert_eq!(memory::occurrences(&[form], &file), 0, "{form}");
        }
    }
}
