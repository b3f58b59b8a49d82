//! SIGHUP reads the configuration again and ends nothing.

use crate::{
    built::{SESSIOND_GATEWAY, start_sessiond},
    cli::{Cli, log_in},
};
use rustix::process::Signal;
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};
use testkit::process::{Running, program};

const PASSWORD: &str = "blue lamp over the river";

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Changes the file, asks the process to read it again, and waits until it has.
fn reload(running: &mut Running, dir: &Path, name: &str, text: &str) -> String {
    write(dir, name, text);
    running.signal(Signal::HUP);
    running.line_with("\"event\":\"reloaded\"")
}

/// Changes the log's level to and fro. Which level holds is seen by what the process says of a signal and of its end.
fn assert_reloads(mut running: Running, dir: &Path) {
    let line = reload(&mut running, dir, "sessiond.toml", "log = \"debug\"\n");
    assert!(line.contains("\"applied\":\"log\""), "{line}");
    let line = reload(&mut running, dir, "sessiond.toml", "log = \"debug\"\n");
    assert!(line.contains("\"applied\":\"\""), "{line}");

    // A change that takes a restart is told, each time, and does not keep the others from being applied.
    let text = "workers = 7\nlog = \"info\"\nlog_format = \"json\"\n";
    write(dir, "sessiond.toml", text);
    running.signal(Signal::HUP);
    for setting in ["workers", "log_format"] {
        running.line_with(&format!("\"event\":\"restart_needed\",\"setting\":\"{setting}\""));
    }
    let line = running.line_with("\"event\":\"reloaded\"");
    assert!(line.contains("\"applied\":\"log\""), "{line}");

    // With a mistake everything stays as it is.
    write(dir, "sessiond.toml", "log = \"warn\"\ncolour = \"blue\"\n");
    running.signal(Signal::HUP);
    let line = running.line_with("\"event\":\"reload_refused\"");
    assert!(line.contains("colour: no such setting"), "{line}");
    assert!(line.contains("sessiond.toml, line 2"), "{line}");

    let line = reload(&mut running, dir, "sessiond.toml", "");
    assert!(line.contains("\"applied\":\"\""), "{line}");
    write(dir, "sessiond.toml", "log = \"warn\"\nworkers = 7\n");
    running.signal(Signal::HUP);
    running.line_with("\"event\":\"restart_needed\"");
    let (status, log) = running.stopped();
    assert!(status.success(), "{log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(
        last.contains("restart_needed"),
        "an event below warn was logged: {log}"
    );
}

#[test]
fn sighup_reloads_sessiond_and_does_not_end_it() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "sessiond.toml", "");
    let flags = ["--config=sessiond.toml", "--store=memory"];
    assert_reloads(start_sessiond(dir.path(), &flags), dir.path());
}

#[test]
fn sighup_reloads_the_gateway_and_does_not_end_it() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "sessiond.toml", "");
    let mut command = program(SESSIOND_GATEWAY, dir.path());
    command.args(["--config=sessiond.toml", "--gateway-listen=127.0.0.1:0"]);
    assert_reloads(Running::start(command), dir.path());
}

#[tokio::test]
async fn s_50_a_pepper_is_replaced_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (
        "old 3q2+78r+ur7erb7vyv66vt6tvu/K/rq+3q2+78r+ur4=",
        "new yv66vt6tvu/K/rq+3q2+78r+ur7erb7vyv66vt6tvu8=",
    );
    write(dir.path(), "pepper", &format!("{old} current\n"));
    let flags = [
        "--store=memory",
        "--gateway=false",
        "--pepper-file=pepper",
        "--password-cost=10",
    ];
    let mut running = start_sessiond(dir.path(), &flags);
    let cli = Cli {
        dir: dir.path(),
        arguments: vec![format!("--server=http://{}", running.grpc.unwrap())],
    };
    cli.succeed("users create ada@example.org", &format!("{PASSWORD}\n"));

    let line = reload(&mut running, dir.path(), "pepper", &format!("{new} current\n"));
    assert!(line.contains("\"applied\":\"pepper_file\""), "{line}");
    assert!(
        log_in(&running, PASSWORD).await.is_err(),
        "its hash needs the old one"
    );
    reload(
        &mut running,
        dir.path(),
        "pepper",
        &format!("{old}\n{new} current\n"),
    );
    log_in(&running, PASSWORD).await.unwrap();
    // That log-in has replaced the hash.
    reload(&mut running, dir.path(), "pepper", &format!("{new} current\n"));
    log_in(&running, PASSWORD).await.unwrap();
    let (status, log) = running.stopped();
    assert!(status.success(), "{log}");
}
