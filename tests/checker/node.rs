//! One process of the built program behind a proxy: an address that stays while processes come and go.

use rustix::process::Signal;
use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testkit::{
    process::{Running, program},
    proxy::{Conduct, Proxy},
    waiting::PATIENCE,
    wall_clock::{Error, WallClock},
};
use tonic::transport::{Channel, Endpoint};

const SESSIOND: &str = env!("CARGO_BIN_EXE_sessiond");

/// A process that is started again on the same stores.
pub(crate) struct Node {
    arguments: Vec<String>,
    running: Option<Running>,
    pub proxy: Proxy,
    pub wall_clock: WallClock,
    /// Where it runs; its data directory is elsewhere.
    working_dir: TempDir,
}

/// What ends a failing process: nothing that it could prepare for.
const KILL: Signal = Signal::KILL;

impl Node {
    /// Starts the program with these arguments and waits until it serves. Blocks.
    pub(crate) fn start(arguments: &[String]) -> Self {
        Self::start_wrong_by(0, arguments)
    }

    /// [`start`](Self::start) on a machine whose wall clock is wrong.
    pub(crate) fn start_wrong_by(error: Error, arguments: &[String]) -> Self {
        let working_dir = tempfile::tempdir().unwrap();
        let wall_clock = WallClock::right_in(working_dir.path());
        wall_clock.set_wrong_by(error);
        let mut command = command(&[], arguments, working_dir.path());
        wall_clock.govern(&mut command);
        let running = Running::start(command);
        Self {
            proxy: Proxy::to(running.grpc.unwrap()),
            arguments: arguments.to_vec(),
            running: Some(running),
            wall_clock,
            working_dir,
        }
    }

    /// Connects to wherever the process is now.
    pub(crate) fn channel(&self) -> Channel {
        self.endpoint().connect_lazy()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.proxy.address())).unwrap();
        endpoint.connect_timeout(Duration::from_secs(2))
    }

    pub(crate) fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("the process runs")
    }

    /// Ends the process, if it runs, without giving it any time.
    pub(crate) fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.signal(KILL);
            running.ended(PATIENCE);
        }
    }

    /// Waits until it has ended by itself: how, and what it has logged.
    pub(crate) fn ended(&mut self) -> (ExitStatus, String) {
        self.running.take().expect("the process runs").ended(PATIENCE)
    }

    /// Starts it again, and says how long it took to serve.
    pub(crate) fn start_again(&mut self) -> Duration {
        self.start_again_under(&[])
    }

    /// Starts it as the last arguments of another program.
    pub(crate) fn start_again_under(&mut self, wrapper: &[&str]) -> Duration {
        let started_at = Instant::now();
        let mut command = command(wrapper, &self.arguments, self.working_dir.path());
        self.wall_clock.govern(&mut command);
        let running = Running::start(command);
        let took = started_at.elapsed();
        self.proxy.retarget(running.grpc.unwrap());
        self.running = Some(running);
        took
    }

    /// Lets it stand still, its connections open.
    pub(crate) fn pause(&mut self) {
        self.running().signal(Signal::STOP);
    }

    pub(crate) fn resume(&mut self) {
        self.running().signal(Signal::CONT);
    }

    /// The network between it and its clients.
    pub(crate) fn set_network(&self, conduct: Conduct) {
        self.proxy.set(conduct);
    }
}

/// Arguments for the embedded store in a directory below the one that the process runs in.
pub(crate) fn embedded_in_its_own() -> Vec<String> {
    embedded_in(Path::new("data"))
}

/// Arguments for the embedded store in this directory.
pub(crate) fn embedded_in(data_dir: &Path) -> Vec<String> {
    vec![
        "--store=embedded".to_owned(),
        format!("--data-dir={}", data_dir.display()),
    ]
}

/// `wrapper sessiond arguments`, on a free port, without the gateway and with a log that says little.
pub(crate) fn command(wrapper: &[&str], arguments: &[String], dir: &Path) -> Command {
    let mut words: Vec<PathBuf> = wrapper.iter().map(PathBuf::from).collect();
    words.push(SESSIOND.into());
    let mut command = program(words[0].to_str().unwrap(), dir);
    command.args(&words[1..]);
    command.args([
        "--listen=127.0.0.1:0",
        "--gateway=false",
        "--workers=2",
        "--log=error,sessiond::serve=info",
    ]);
    command.args(arguments);
    command
}
