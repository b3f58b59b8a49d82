//! The built programs, started for one test and ended with it.

use std::{
    io::{BufRead as _, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a program may take to say that it serves. The machine may be busy with other tests.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The service and its gateway, on free ports, over a new data directory.
pub(crate) struct Pair {
    pub(crate) rpc: SocketAddr,
    pub(crate) http: SocketAddr,
    /// All that `sessiond` has printed when it says that it serves: where everything is, and what to try.
    pub(crate) welcome: String,
    /// For whatever a client leaves behind.
    pub(crate) directory: TempDir,
    _processes: Vec<Process>,
}

impl Pair {
    /// Both in one process, as `sessiond` alone runs them.
    pub(crate) fn in_one_process() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (process, welcome) = sessiond(&directory, &["--gateway-listen=127.0.0.1:0"]);
        Self {
            rpc: address_after(&welcome, "gRPC on "),
            http: address_after(&welcome, "HTTP on http://"),
            welcome,
            directory,
            _processes: vec![process],
        }
    }

    /// Each in a process of its own, as in production.
    pub(crate) fn in_two_processes() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (service, welcome) = sessiond(&directory, &["--gateway=false"]);
        let rpc = address_after(&welcome, "gRPC on ");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sessiond-gateway"));
        command.args(["--gateway-listen=127.0.0.1:0", "--log-format=json", "--log=info"]);
        command.arg(format!("--upstream=http://{rpc}"));
        let (gateway, log) = Process::start(command.stderr(Stdio::piped()), "\"serving\"");
        let entry: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        Self {
            rpc,
            http: entry["http"].as_str().unwrap().parse().unwrap(),
            welcome,
            directory,
            _processes: vec![gateway, service],
        }
    }
}

/// Starts `sessiond` with the settings that decide where it keeps what, and gives what it prints at its start.
fn sessiond(directory: &TempDir, arguments: &[&str]) -> (Process, String) {
    let mut command = Command::new(program());
    command.arg("--listen=127.0.0.1:0").args(arguments);
    command.arg("--data-dir").arg(directory.path().join("data"));
    // The last of what is printed.
    Process::start(command.stdout(Stdio::piped()), "AuthService/CreateSession")
}

/// The program under test.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sessiond"))
}

/// The first word after a text, as an address.
fn address_after(text: &str, before: &str) -> SocketAddr {
    let rest = text
        .split_once(before)
        .unwrap_or_else(|| panic!("no {before:?} in {text}"))
        .1;
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

/// A running program. Killed when dropped.
struct Process(Child);

impl Process {
    /// Starts a program and reads what it prints up to a line that holds `last`, with that line, from the one stream that is piped.
    fn start(command: &mut Command, last: &'static str) -> (Self, String) {
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        let output: Box<dyn Read + Send> = match child.stdout.take() {
            Some(output) => Box::new(output),
            None => Box::new(child.stderr.take().unwrap()),
        };
        let process = Self(child);
        let (sender, lines) = mpsc::channel();
        // Reads on for as long as the program lives, whether or not anybody listens: it must never wait for a full pipe.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let deadline = Instant::now() + START_TIMEOUT;
        let mut printed = String::new();
        while !printed.contains(last) {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => printed += &format!("{line}\n"),
                Err(error) => panic!("{error}: no {last:?} in what was printed:\n{printed}"),
            }
        }
        (process, printed)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
