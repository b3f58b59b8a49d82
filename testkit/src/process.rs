//! Starts programs, reads what they say, and sends them signals.

use crate::waiting::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

/// A program that knows nothing of this test run's environment.
pub fn program(path: &str, dir: &Path) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SESSIOND_") {
            command.env_remove(name);
        }
    }
    command.current_dir(dir).stdin(Stdio::null());
    command
}

/// A program that serves. Killed on drop.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    stdout: Receiver<String>,
    log: String,
    /// Where it serves gRPC; `None` for a gateway.
    pub grpc: Option<SocketAddr>,
    /// Where it serves HTTP.
    pub http: Option<SocketAddr>,
    /// Where it shows its metrics.
    pub metrics: Option<SocketAddr>,
}

impl Running {
    /// Starts a program and waits until it says that it serves.
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let (sender, stdout) = channel();
        let mut out = child.stdout.take().unwrap();
        thread::spawn(move || {
            let mut text = [0; 4096];
            while let Ok(length @ 1..) = out.read(&mut text) {
                let _ = sender.send(String::from_utf8_lossy(&text[..length]).into_owned());
            }
        });
        let mut running = Self {
            child,
            lines,
            stdout,
            log: String::new(),
            grpc: None,
            http: None,
            metrics: None,
        };
        let line = running.line_with("\"event\":\"serving\"");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = |field: &str| line[field].as_str().map(|text| text.parse().unwrap());
        running.grpc = address("grpc");
        running.http = address("http");
        running.metrics = address("metrics");
        running
    }

    /// Waits for a line of the log.
    pub fn line_with(&mut self, part: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                panic!("no line with {part} in:\n{}", self.log);
            });
            self.log += &line;
            self.log.push('\n');
            if line.contains(part) {
                return line;
            }
        }
    }

    /// What it has printed on standard output so far, at least `until`.
    pub fn printed_until(&mut self, until: &str) -> String {
        let mut text = String::new();
        while !text.contains(until) {
            text += &self.stdout.recv_timeout(PATIENCE).expect("it prints no more");
        }
        text
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    /// Waits until it has ended, `within` at most. What it has logged in all is returned too.
    pub fn ended(mut self, within: Duration) -> (ExitStatus, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < within, "it goes on:\n{}", self.log);
            thread::sleep(Duration::from_millis(5));
        };
        let rest: Vec<String> = self.lines.iter().collect();
        (status, format!("{}{}", self.log, rest.join("\n")))
    }

    /// Asks it to end, and waits.
    pub fn stopped(self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        self.ended(PATIENCE)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A person at a terminal. The program is killed on drop.
pub struct Terminal {
    child: Child,
    shown: String,
}

impl Terminal {
    /// Starts a program at this terminal.
    pub fn start(mut command: Command) -> Self {
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            child,
            shown: String::new(),
        }
    }

    /// Reads until something is shown, and returns everything that was.
    pub fn read_until(&mut self, part: &str) -> String {
        let mut byte = [0];
        while !self.shown.contains(part) {
            let length = self.child.stdout.as_mut().unwrap().read(&mut byte).unwrap();
            assert!(length > 0, "it ends without {part}: {}", self.shown);
            self.shown.push(char::from(byte[0]));
        }
        self.shown.clone()
    }

    /// Types a line, with Enter.
    pub fn type_line(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end, with this on its standard input.
pub fn run_with_input(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that reads nothing may have closed it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Runs a line of shell to its end and returns what it prints.
pub fn shell(dir: &Path, line: &str) -> String {
    let output = Command::new("sh")
        .current_dir(dir)
        .args(["-c", line])
        .output()
        .unwrap();
    assert!(output.status.success(), "{line}\n{}", text(&output.stderr));
    text(&output.stdout)
}

/// What a program has printed, as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
