//! The four calls that everybody knows, through each client.

use super::{programs::Pair, tools};
use serde_json::{Value, json};
use std::process::Command;

const EMAIL: &str = "ada@example.org";
const PASSWORD: &str = "a horse that eats batteries";

/// A client that asks the service what it can be asked, and takes and prints JSON: how to make one call.
trait Reflecting {
    fn command(&self, pair: &Pair, method: &str) -> Command;

    /// The answer to a call that has to succeed.
    fn call(&self, pair: &Pair, method: &str, request: &Value) -> Value {
        let answer = tools::printed(&mut self.command(pair, method), &request.to_string());
        serde_json::from_str(&answer).unwrap()
    }

    /// What the client says, on either stream, about a call that has to fail.
    fn failure(&self, pair: &Pair, method: &str, request: &Value) -> String {
        let output = tools::run(&mut self.command(pair, method), &request.to_string());
        assert!(!output.status.success(), "{method} succeeded");
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).into_owned()
    }
}

struct Grpcurl;

impl Reflecting for Grpcurl {
    fn command(&self, pair: &Pair, method: &str) -> Command {
        let mut command = Command::new(tools::grpcurl());
        command.args(["-plaintext", "-d", "@", &pair.rpc.to_string(), method]);
        command
    }
}

struct Buf;

impl Reflecting for Buf {
    fn command(&self, pair: &Pair, method: &str) -> Command {
        let mut command = Command::new(tools::buf());
        command.args([
            "curl",
            "--protocol",
            "grpc",
            "--http2-prior-knowledge",
            "--data",
            "@-",
        ]);
        command.arg(format!("http://{}/{method}", pair.rpc));
        command
    }
}

fn the_four_calls(client: &impl Reflecting) {
    let pair = Pair::in_one_process();
    let credential = json!({ "email": EMAIL, "password": PASSWORD });
    let created = client.call(&pair, "auth.v1.UserService/CreateUser", &credential);
    let user_id = &created["user"]["id"];

    let session = client.call(
        &pair,
        "auth.v1.AuthService/CreateSession",
        &json!({ "password": credential }),
    );
    let token = json!({ "sessionToken": session["sessionToken"] });
    assert_eq!(&session["user"]["id"], user_id);
    let whose = client.call(&pair, "auth.v1.AuthService/UserIdForSession", &token);
    assert_eq!(
        (&whose["userId"], &whose["sessionId"]),
        (user_id, &session["session"]["id"])
    );
    let current = client.call(&pair, "auth.v1.AuthService/CurrentUser", &token);
    assert_eq!(
        (&current["user"]["email"], &current["user"]["id"]),
        (&json!(EMAIL), user_id)
    );
    let destroyed = client.call(&pair, "auth.v1.AuthService/DestroySession", &token);
    assert_eq!(destroyed["existed"], true);

    for method in ["UserIdForSession", "CurrentUser"] {
        let said = client.failure(&pair, &format!("auth.v1.AuthService/{method}"), &token);
        assert!(
            said.to_lowercase().contains("unauthenticated"),
            "{method}: {said}"
        );
    }
    let destroyed = client.call(&pair, "auth.v1.AuthService/DestroySession", &token);
    assert_ne!(destroyed["existed"], true);
}

#[test]
fn grpcurl_makes_the_four_calls_through_reflection() {
    the_four_calls(&Grpcurl);
}

#[test]
fn buf_curl_makes_the_four_calls_through_reflection() {
    the_four_calls(&Buf);
}

#[test]
fn python_makes_the_four_calls_and_reads_errors_health_and_reflection() {
    let pair = Pair::in_one_process();
    Grpcurl.call(
        &pair,
        "auth.v1.UserService/CreateUser",
        &json!({ "email": EMAIL, "password": PASSWORD }),
    );
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/programs/external_clients/python_client.py"
    );
    let input = format!("{EMAIL}\n{PASSWORD}\n");
    tools::printed(
        Command::new(tools::python()).args([script, &pair.rpc.to_string()]),
        &input,
    );
}

#[test]
fn curl_logs_in_and_out_with_a_cookie_jar() {
    a_session_in_a_cookie_jar(&Pair::in_one_process());
}

#[test]
fn curl_logs_in_and_out_with_a_gateway_of_its_own() {
    a_session_in_a_cookie_jar(&Pair::in_two_processes());
}

fn a_session_in_a_cookie_jar(pair: &Pair) {
    let curl = |arguments: &[&str], route: &str| {
        let mut command = Command::new("curl");
        let jar = pair.directory.path().join("jar");
        command
            .args(["--silent", "--show-error", "--write-out", "\n%{http_code}"])
            .args(arguments);
        command.arg("--cookie").arg(&jar).arg("--cookie-jar").arg(&jar);
        let printed = tools::printed(command.arg(format!("http://{}{route}", pair.http)), "");
        let (body, status) = printed.rsplit_once('\n').unwrap();
        (status.to_owned(), serde_json::from_str::<Value>(body).unwrap())
    };
    let account = json!({ "email": EMAIL, "password": PASSWORD }).to_string();
    let (status, created) = curl(&["--json", &account], "/api/v1/users");
    assert_eq!(status, "201", "{created}");

    let form = [
        "--data-urlencode",
        &format!("email={EMAIL}"),
        "--data-urlencode",
        &format!("password={PASSWORD}"),
    ];
    let (status, user) = curl(&form, "/api/v1/auth_session/login");
    assert_eq!((status.as_str(), &user["id"]), ("200", &created["id"]));
    let (status, me) = curl(&[], "/api/v1/users/me");
    assert_eq!((status.as_str(), &me["email"]), ("200", &json!(EMAIL)));
    let (status, answer) = curl(&["--request", "DELETE"], "/api/v1/auth_session/logout");
    assert_eq!((status.as_str(), answer), ("200", json!({})));
    let (status, _) = curl(&[], "/api/v1/users/me");
    assert_eq!(status, "401");
}
