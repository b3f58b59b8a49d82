//! The commands that look after users and sessions, against a running service.

use crate::{
    built::{SESSIOND, start_sessiond},
    cli::{Cli, log_in},
};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};
use testkit::process::{Terminal, program, text};
use tonic::Code;

const PASSWORD: &str = "blue lamp over the river";
const OTHER_PASSWORD: &str = "red lamp under the bridge";

#[tokio::test]
async fn users_and_sessions_are_looked_after_through_the_running_service() {
    let dir = tempfile::tempdir().unwrap();
    let sessiond = start_sessiond(dir.path(), &["--store=memory", "--gateway=false"]);
    let cli = Cli {
        dir: dir.path(),
        arguments: vec![format!("--server=http://{}", sessiond.grpc.unwrap())],
    };
    assert!(cli.json("users list").is_empty());

    let created = cli.succeed(
        "users create ada@example.org --first-name Ada --role admin --role staff",
        &format!("{PASSWORD}\n"),
    );
    assert!(created.starts_with("ada@example.org is created: "), "{created}");
    let users = cli.json("users list");
    assert_eq!(users.len(), 1);
    assert_eq!(users[0]["email"], "ada@example.org");
    assert_eq!(users[0]["roles"], serde_json::json!(["admin", "staff"]));
    let table = cli.succeed("users list", "");
    assert!(
        table.starts_with("ID ") && table.contains("admin,staff"),
        "{table}"
    );

    let session = log_in(&sessiond, PASSWORD).await.unwrap();
    log_in(&sessiond, PASSWORD).await.unwrap();
    let sessions = cli.json("sessions list ada@example.org");
    assert_eq!(sessions.len(), 2);
    assert!(sessions.iter().any(|found| found["id"] == session.as_str()));
    assert_eq!(
        cli.succeed(&format!("sessions revoke --session {session}"), ""),
        "1 session has ended\n"
    );
    assert_eq!(cli.json("sessions revoke ada@example.org")[0]["revoked_count"], 1);
    assert!(cli.json("sessions list ada@example.org").is_empty());
    log_in(&sessiond, PASSWORD).await.unwrap();
    assert_eq!(
        cli.succeed("sessions revoke --everyone", ""),
        "1 session has ended\n"
    );

    let id = users[0]["id"].as_str().unwrap();
    cli.succeed(&format!("users disable {id}"), "");
    assert!(!cli.json("users list")[0]["disabled_at"].is_null());
    assert_eq!(
        log_in(&sessiond, PASSWORD).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    cli.succeed("users enable ada@example.org", "");
    log_in(&sessiond, PASSWORD).await.unwrap();

    secret(dir.path(), "password", &format!("{OTHER_PASSWORD}\n"), 0o600);
    cli.succeed("users set-password ada@example.org --password-file password", "");
    assert_eq!(
        log_in(&sessiond, PASSWORD).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    log_in(&sessiond, OTHER_PASSWORD).await.unwrap();

    cli.succeed("users delete ada@example.org", "");
    assert!(cli.json("users list").is_empty());
    assert!(
        cli.fail("users delete ada@example.org", "")
            .contains("there is no user ada@example.org")
    );
}

#[tokio::test]
async fn a_refusal_names_the_field_and_never_the_password() {
    let dir = tempfile::tempdir().unwrap();
    let sessiond = start_sessiond(dir.path(), &["--store=memory", "--gateway=false"]);
    let cli = Cli {
        dir: dir.path(),
        arguments: vec![format!("--server=http://{}", sessiond.grpc.unwrap())],
    };
    let stderr = cli.fail("users create ada@example.org", "short\n");
    assert!(
        stderr.contains("password") && !stderr.contains("short\n"),
        "{stderr}"
    );
    cli.succeed("users create ada@example.org --no-password", "");
    let stderr = cli.fail("users create ADA@example.org --no-password", "");
    assert!(stderr.starts_with("sessiond: "), "{stderr}");
    assert!(cli.fail("sessions revoke", "").contains("required"));
    let stderr = cli.fail("sessions revoke --everyone ada@example.org", "");
    assert!(stderr.contains("cannot be used with"), "{stderr}");
}

#[tokio::test]
async fn a_password_typed_at_a_terminal_is_not_echoed() {
    let dir = tempfile::tempdir().unwrap();
    let sessiond = start_sessiond(dir.path(), &["--store=memory", "--gateway=false"]);
    // script(1) gives the command a terminal of its own.
    let mut command = program("script", dir.path());
    let line = format!(
        "{SESSIOND} users create ada@example.org --server=http://{}",
        sessiond.grpc.unwrap()
    );
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let mut terminal = Terminal::start(command);
    for prompt in ["Password: ", "Again: "] {
        terminal.read_until(prompt);
        terminal.type_line(PASSWORD);
    }
    let shown = terminal.read_until("is created");
    assert!(!shown.contains("lamp"), "{shown}");
    log_in(&sessiond, PASSWORD).await.unwrap();
}

/// Writes a file that only this mode protects.
fn secret(dir: &Path, name: &str, text: &str, mode: u32) {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn s_97_a_password_file_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "password", PASSWORD, 0o644);
    let cli = Cli {
        dir: dir.path(),
        arguments: Vec::new(),
    };
    let create = "users create ada@example.org --password-file password";
    let stderr = cli.fail(create, "");
    assert!(
        stderr.contains("--password-file names password, which others may read")
            && stderr.contains("chmod 600")
            && !stderr.contains(PASSWORD),
        "{stderr}"
    );
    secret(dir.path(), "password", PASSWORD, 0o600);
    assert!(cli.succeed(create, "").contains("is created"));
}

#[test]
fn a_service_that_is_not_there_is_named_with_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let cli = Cli {
        dir: dir.path(),
        arguments: vec![format!("--server=http://{address}")],
    };
    for command in ["users list", "sessions revoke --everyone", "healthcheck"] {
        let stderr = cli.fail(command, "");
        assert!(
            stderr.contains(&address.to_string()) && stderr.contains("Connection refused"),
            "{command}: {stderr}"
        );
    }
}

#[test]
fn s_97_a_password_cannot_be_given_on_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let cli = Cli {
        dir: dir.path(),
        arguments: Vec::new(),
    };
    let output = cli.run("users create ada@example.org --password hunter2", "");
    assert_eq!(output.status.code(), Some(2));
    assert!(!text(&output.stderr).contains("hunter2"));
}

#[test]
fn without_a_service_the_memory_store_has_nothing_to_show() {
    let dir = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let cli = Cli {
        dir: dir.path(),
        arguments: Vec::new(),
    };
    let stderr = cli.fail(&format!("--listen={address} --store=memory users list"), "");
    assert!(stderr.contains("no service runs"), "{stderr}");
}

#[test]
fn a_healthcheck_tells_by_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let sessiond = start_sessiond(dir.path(), &["--store=memory", "--gateway=false"]);
    let address = sessiond.grpc.unwrap();
    let cli = Cli {
        dir: dir.path(),
        arguments: vec!["healthcheck".to_owned()],
    };
    cli.succeed(&format!("--listen={address}"), "");
    let (status, _) = sessiond.stopped();
    assert!(status.success());
    let output = cli.run(&format!("--listen={address}"), "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("does not answer"));
}
