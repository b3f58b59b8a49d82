//! The data directory: what lives on when a process ends, and who may open it.

use crate::{
    desk::{Desk, log_in},
    running::{Running, SESSIOND, program, text},
};
use rustix::process::Signal;
use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

const PASSWORD: &str = "blue lamp over the river";

/// An operator for whom no service runs at the configured address.
fn desk(dir: &Path) -> Desk<'_> {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    std::fs::write(
        dir.join("sessiond.toml"),
        format!("listen = \"{}\"\n", free.local_addr().unwrap()),
    )
    .unwrap();
    Desk {
        dir,
        arguments: vec!["--config=sessiond.toml".to_owned()],
    }
}

/// The operator of a service that runs.
fn desk_of<'a>(dir: &'a Path, running: &Running) -> Desk<'a> {
    Desk {
        dir,
        arguments: vec![format!("--server=http://{}", running.grpc.unwrap())],
    }
}

fn sessiond(dir: &Path) -> Running {
    Running::sessiond(dir, &["--gateway=false"])
}

#[tokio::test]
async fn users_and_sessions_outlive_the_process_however_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    desk(dir.path()).done("users create ada@example.org", &format!("{PASSWORD}\n"));
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
    let mut found: Vec<String> = desk_of(dir.path(), &running)
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
    let desk = desk(dir.path());
    assert!(desk.done("migrate", "").contains("up to date"));
    desk.done("users create ada@example.org --no-password", "");
    assert_eq!(desk.json("users list")[0]["email"], "ada@example.org");
    desk.done("users delete ada@example.org", "");
    assert!(desk.json("users list").is_empty());
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
    assert!(started.elapsed() < Duration::from_secs(5));
    // A command that looks for the service in the wrong place says both.
    let said = desk(dir.path()).refused("users list", "");
    assert!(
        said.contains("no service runs at") && said.contains("is in use by another process"),
        "{said}"
    );
}

#[tokio::test]
async fn f_24_a_backup_made_while_serving_brings_users_back_and_no_session() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(dir.path());
    desk.done("users create ada@example.org", &format!("{PASSWORD}\n"));
    let running = sessiond(dir.path());
    log_in(&running, PASSWORD).await.unwrap();
    desk.done("backup copy.db", "");
    let mode = dir
        .path()
        .join("copy.db")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(desk.refused("backup copy.db", "").contains("exists already"));
    desk_of(dir.path(), &running).done("users delete ada@example.org", "");
    assert!(
        desk.refused("restore copy.db --replace", "")
            .contains("is in use")
    );
    let (status, _) = running.stopped();
    assert!(status.success());

    assert!(desk.refused("restore copy.db", "").contains("exists already"));
    desk.done("restore copy.db --replace", "");
    let running = sessiond(dir.path());
    assert!(
        desk_of(dir.path(), &running)
            .json("sessions list ada@example.org")
            .is_empty()
    );
    log_in(&running, PASSWORD).await.unwrap();
}
