//! What runs when a person starts the programs.

use crate::built::{SESSIOND, SESSIOND_GATEWAY, start_sessiond};
use std::{
    net::TcpStream,
    time::{Duration, Instant},
};
use testkit::process::{Running, program, shell};

#[test]
fn what_sessiond_prints_works_as_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let mut sessiond = start_sessiond(dir.path(), &["--store=memory"]);
    let printed = sessiond.printed_until("CreateSession\n");
    let lines: Vec<&str> = printed
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("curl"))
        .collect();
    assert_eq!(lines.len(), 3, "{printed}");
    for line in lines {
        let answer = shell(dir.path(), &line.replacen("curl", "curl -f", 1));
        assert!(answer.contains("ada@example.org"), "{line}\n{answer}");
    }
    assert!(printed.contains("grpcurl -plaintext -d"), "{printed}");
    assert!(printed.contains(&sessiond.grpc.unwrap().to_string()), "{printed}");
}

#[test]
fn the_gateway_runs_as_a_process_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let sessiond = start_sessiond(dir.path(), &["--store=memory", "--gateway=false"]);
    assert_eq!(sessiond.http, None);
    let mut command = program(SESSIOND_GATEWAY, dir.path());
    let upstream = format!("http://{}", sessiond.grpc.unwrap());
    command.args(["--gateway-listen=127.0.0.1:0", "--upstream", &upstream]);
    let gateway = Running::start(command);
    let url = format!("http://{}/api/v1/users", gateway.http.unwrap());
    let user = r#"{"email":"grace@example.org","password":"blue lamp over the river"}"#;
    let answer = shell(
        dir.path(),
        &format!("curl -sS -f -H 'content-type: application/json' -d '{user}' {url}"),
    );
    assert!(answer.contains("grace@example.org"), "{answer}");
    let (status, _) = gateway.stopped();
    assert!(status.success());
}

#[test]
fn an_address_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut command = program(SESSIOND, dir.path());
    command.args([
        "--store=memory",
        "--gateway=false",
        &format!("--listen={address}"),
    ]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains(&format!("cannot listen on {address}")),
        "{stderr}"
    );
}

#[test]
fn f_26_more_connections_than_files_stop_neither_process_nor_callers() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program("sh", dir.path());
    let line = format!(
        "ulimit -n 256; exec {SESSIOND} --store=memory --workers=1 --listen=127.0.0.1:0 --gateway-listen=127.0.0.1:0"
    );
    command.args(["-c", &line]);
    let sessiond = Running::start(command);
    let (grpc, http) = (sessiond.grpc.unwrap(), sessiond.http.unwrap());
    let health = || {
        let mut command = program(SESSIOND, dir.path());
        command.args(["healthcheck", &format!("--server=http://{grpc}")]);
        command.output().unwrap().status.success()
    };
    assert!(health());
    let flood: Vec<TcpStream> = (0..1000).filter_map(|_| TcpStream::connect(http).ok()).collect();
    let before = cpu_time(&sessiond);
    let started = Instant::now();
    // The other listener has connections of its own, and files are left for it.
    assert!(health());
    std::thread::sleep(Duration::from_secs(1));
    let busy = cpu_time(&sessiond).saturating_sub(before);
    assert!(busy < started.elapsed() / 5, "{busy:?}");
    drop(flood);
    let status =
        format!("curl -sS --retry 20 --retry-all-errors --retry-delay 1 http://{http}/api/v1/status");
    assert!(!shell(dir.path(), &status).is_empty());
}

/// The processor time that a process has used, from fields 14 and 15 of /proc/PID/stat (proc(5)), in ticks of 10 ms.
fn cpu_time(running: &Running) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid().as_raw_nonzero())).unwrap();
    // The name may hold spaces, and ends at the last parenthesis.
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = [11, 12]
        .iter()
        .map(|&at| fields[at].parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}
