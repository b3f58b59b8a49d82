//! What the programs refuse to start with, and how they say so.

use crate::built::{SESSIOND, SESSIOND_GATEWAY};
use testkit::process::{program, text};

#[test]
fn every_mistake_is_named_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    for path in [SESSIOND, SESSIOND_GATEWAY] {
        let mut command = program(path, dir.path());
        command
            .args(["--log=loud", "--colour=blue"])
            .env("SESSIOND_WORKERS", "many")
            .env("SESSIOND_COLOUR", "blue");
        let output = command.output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        for part in ["--log", "--colour", "SESSIOND_WORKERS", "SESSIOND_COLOUR"] {
            assert!(stderr.contains(part), "{part}\n{stderr}");
        }
        assert!(output.stdout.is_empty());
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn s_72_sessiond_does_not_listen_in_plain_text_beyond_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    for flag in ["--listen=0.0.0.0:0", "--gateway-listen=[::]:0"] {
        let mut command = program(SESSIOND, dir.path());
        command.args(["--store=memory", flag]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("--danger-plaintext-listen"));
    }
}

#[test]
fn help_shows_every_command_with_examples() {
    let dir = tempfile::tempdir().unwrap();
    let help = |arguments: &[&str]| {
        let mut command = program(SESSIOND, dir.path());
        let output = command.args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        text(&output.stdout)
    };
    let root = help(&["--help"]);
    for part in [
        "users",
        "sessions",
        "migrate",
        "healthcheck",
        "Examples:",
        "--store memory",
    ] {
        assert!(root.contains(part), "{part}");
    }
    let users = help(&["users", "--help"]);
    for subcommand in ["create", "list", "set-password", "disable", "enable", "delete"] {
        assert!(users.contains(subcommand), "{subcommand}");
    }
}
