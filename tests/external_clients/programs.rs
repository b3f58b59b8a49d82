//! The built programs, started for one test and ended with it.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// How long a program may take to say that it serves. The machine may be busy with other tests.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// `sessiond` with its gateway, on free ports, over a new data directory.
pub(crate) struct Sessiond {
    pub(crate) rpc: SocketAddr,
    pub(crate) http: SocketAddr,
    /// All that it has printed when it says that it serves: where everything is, and what to try.
    pub(crate) welcome: String,
    /// For whatever a client leaves behind.
    pub(crate) directory: TempDir,
    _process: Process,
}

impl Sessiond {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(program());
        command.args(["--listen=127.0.0.1:0", "--gateway-listen=127.0.0.1:0"]);
        let data = directory.path().join("data");
        let (process, welcome) = Process::start(command.arg("--data-dir").arg(data), "UserIdForSession");
        Self {
            rpc: address_after(&welcome, "gRPC on "),
            http: address_after(&welcome, "HTTP on http://"),
            welcome,
            directory,
            _process: process,
        }
    }
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
pub(crate) struct Process(Child);

impl Process {
    /// Starts a program and reads what it prints up to a line that holds `last`, with that line.
    pub(crate) fn start(command: &mut Command, last: &'static str) -> (Self, String) {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let process = Self(child);
        let (sender, receiver) = mpsc::channel();
        // Reads on for as long as the program lives: nobody must ever wait for a full pipe.
        thread::spawn(move || {
            let mut printed = String::new();
            for line in output.lines().map_while(Result::ok) {
                printed += &line;
                printed.push('\n');
                if line.contains(last) {
                    let _ = sender.send(std::mem::take(&mut printed));
                }
            }
        });
        let printed = receiver
            .recv_timeout(START_TIMEOUT)
            .expect("the program did not start to serve");
        (process, printed)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
