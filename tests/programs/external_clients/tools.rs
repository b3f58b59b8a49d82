//! Where the clients are, and how to run them.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

pub(crate) fn grpcurl() -> PathBuf {
    installed("go/grpcurl")
}

pub(crate) fn buf() -> PathBuf {
    installed("npm/node_modules/.bin/buf")
}

pub(crate) fn python() -> PathBuf {
    installed("python/bin/python")
}

fn installed(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/tools")
        .join(path);
    assert!(
        path.exists(),
        "{} is missing: run scripts/test tools",
        path.display()
    );
    path
}

/// Runs a command to its end with this standard input.
pub(crate) fn run(command: &mut Command, input: &str) -> Output {
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipes
        .spawn()
        .unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
    // Small enough for the pipe; a program that ends without reading it is no failure of its own.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What a command prints; it has to succeed.
pub(crate) fn printed(command: &mut Command, input: &str) -> String {
    let output = run(command, input);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}\n{errors}",
        output.status
    );
    text
}
