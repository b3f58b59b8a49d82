//! The data directory: what lives on when a process ends, and who may open it.

use crate::{
    built::{SESSIOND, start_sessiond},
    cli::{Cli, log_in},
};
use rustix::process::Signal;
use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};
use testkit::{
    process::{Running, program, text},
    waiting::PATIENCE,
};

const PASSWORD: &str = "blue lamp over the river";

/// An operator for whom no service runs at the configured address.
fn cli(dir: &Path) -> Cli<'_> {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    std::fs::write(
        dir.join("sessiond.toml"),
        format!("listen = \"{}\"\n", free.local_addr().unwrap()),
    )
    .unwrap();
    Cli {
        dir,
        arguments: vec!["--config=sessiond.toml".to_owned()],
    }
}

/// The operator of a service that runs.
fn cli_for<'a>(dir: &'a Path, running: &Running) -> Cli<'a> {
    Cli {
        dir,
        arguments: vec![format!("--server=http://{}", running.grpc.unwrap())],
    }
}

fn sessiond(dir: &Path) -> Running {
    start_sessiond(dir, &["--gateway=false"])
}

#[tokio::test]
async fn users_and_sessions_outlive_the_process_however_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    cli(dir.path()).succeed("users create ada@example.org", &format!("{PASSWORD}\n"));
    let data_dir = dir.path().join("sessiond-data");
    assert_eq!(data_dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let mut sessions = Vec::new();
    for signal in [Signal::TERM, Signal::KILL] {
        let running = sessiond(dir.path());
        sessions.push(log_in(&running, PASSWORD).await.unwrap());
        running.signal(signal);
        let (status, log) = running.ended(Duration::from_secs(30));
        assert_eq!(status.success(), signal == Signal::TERM, "{log}");
    }
    let running = sessiond(dir.path());
    let mut found: Vec<String> = cli_for(dir.path(), &running)
        .json("sessions list ada@example.org")
        .iter()
        .map(|session| session["id"].as_str().unwrap().to_owned())
        .collect();
    found.sort();
    sessions.sort();
    assert_eq!(found, sessions);
}

#[test]
fn without_a_service_commands_open_the_directory_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let cli = cli(dir.path());
    assert!(cli.succeed("migrate", "").contains("up to date"));
    cli.succeed("users create ada@example.org --no-password", "");
    assert_eq!(cli.json("users list")[0]["email"], "ada@example.org");
    cli.succeed("users delete ada@example.org", "");
    assert!(cli.json("users list").is_empty());
}

#[test]
fn f_27_a_second_process_refuses_the_directory_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let _first = sessiond(dir.path());
    let started = Instant::now();
    let mut second = program(SESSIOND, dir.path());
    second.args(["--listen=127.0.0.1:0", "--gateway=false"]);
    let output = second.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("is in use by another process"),
        "{}",
        text(&output.stderr)
    );
    assert!(started.elapsed() < PATIENCE);
    // A command that looks for the service in the wrong place says both.
    let stderr = cli(dir.path()).fail("users list", "");
    assert!(
        stderr.contains("no service runs at") && stderr.contains("is in use by another process"),
        "{stderr}"
    );
}

#[tokio::test]
async fn f_24_a_backup_made_while_serving_brings_users_back_and_no_session() {
    let dir = tempfile::tempdir().unwrap();
    let cli = cli(dir.path());
    cli.succeed("users create ada@example.org", &format!("{PASSWORD}\n"));
    let running = sessiond(dir.path());
    log_in(&running, PASSWORD).await.unwrap();
    cli.succeed("backup copy.db", "");
    let mode = dir
        .path()
        .join("copy.db")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(cli.fail("backup copy.db", "").contains("exists already"));
    cli_for(dir.path(), &running).succeed("users delete ada@example.org", "");
    assert!(cli.fail("restore copy.db --replace", "").contains("is in use"));
    let (status, _) = running.stopped();
    assert!(status.success());

    assert!(cli.fail("restore copy.db", "").contains("exists already"));
    cli.succeed("restore copy.db --replace", "");
    let running = sessiond(dir.path());
    assert!(
        cli_for(dir.path(), &running)
            .json("sessions list ada@example.org")
            .is_empty()
    );
    log_in(&running, PASSWORD).await.unwrap();
}
