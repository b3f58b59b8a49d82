//! The programs that were built with these tests.

use std::path::Path;
use testkit::process::Running;

pub(crate) const SESSIOND: &str = env!("CARGO_BIN_EXE_sessiond");
pub(crate) const SESSIOND_GATEWAY: &str = env!("CARGO_BIN_EXE_sessiond-gateway");

/// `sessiond` with these arguments, on free ports.
pub(crate) fn start_sessiond(dir: &Path, arguments: &[&str]) -> Running {
    let ports = ["--listen=127.0.0.1:0", "--gateway-listen=127.0.0.1:0"];
    let mut command = testkit::process::program(SESSIOND, dir);
    command.args(ports).args(arguments);
    Running::start(command)
}
