//! Commands with what they print, as documents show them: run in a shell and compared.

use super::{
    programs::{Pair, program},
    tools,
};
use std::{path::Path, process::Command};

/// One command and what a document says that it prints. `…` stands for anything in its line; alone on a line, for any lines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) command: String,
    pub(crate) expected: String,
}

/// The steps of all `console` blocks of a document: `$ ` begins a command, a backslash at the end of its line continues it.
pub(crate) fn steps(document: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let blocks = document
        .split("```console\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    for block in blocks {
        let mut continues = false;
        for line in block.lines() {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step {
                    command: command.to_owned(),
                    expected: String::new(),
                }),
                (None, Some(step)) if continues => {
                    step.command.push('\n');
                    step.command.push_str(line);
                }
                (None, Some(step)) => {
                    step.expected.push_str(line);
                    step.expected.push('\n');
                }
                (None, None) => panic!("a console block begins without a command: {line}"),
            }
            let is_command = continues || line.starts_with("$ ");
            continues = is_command && line.ends_with('\\');
        }
    }
    steps
}

/// Runs the commands one after the other in one shell, against a started pair in place of one at the default addresses, and
/// gives what each printed.
pub(crate) fn run(pair: &Pair, commands: &[String]) -> Vec<String> {
    const END: &str = "--- end of step ---";
    let script: String = commands
        .iter()
        .map(|command| {
            let command = command
                .replace("127.0.0.1:50051", &pair.rpc.to_string())
                .replace("127.0.0.1:8080", &pair.http.to_string())
                .replace("target/release/sessiond", &program().display().to_string());
            format!("{{ {command}\n}} 2>&1\nprintf '%s\\n' '{END}'\n")
        })
        .collect();
    let directory = pair.directory.path();
    // Into a pipe curl shows its progress unless told not to; a person at a terminal sees none of it for answers this small.
    std::fs::write(directory.join(".curlrc"), "silent\n").unwrap();
    let printed = tools::printed(
        Command::new("bash")
            .arg("-s")
            .current_dir(directory)
            .env("HOME", directory)
            .env("SESSIOND_LISTEN", pair.rpc.to_string())
            .env("PATH", path_with(&tools::grpcurl())),
        &script,
    );
    let outputs: Vec<String> = printed.split(&format!("{END}\n")).map(str::to_owned).collect();
    let (rest, outputs) = outputs.split_last().unwrap();
    assert_eq!(
        (rest.as_str(), outputs.len()),
        ("", commands.len()),
        "the shell stopped early:\n{printed}"
    );
    outputs.to_vec()
}

fn path_with(tool: &Path) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}", tool.parent().unwrap().display())
}

/// Whether `actual` is what `expected` describes.
pub(crate) fn is_as_expected(expected: &str, actual: &str) -> bool {
    let expected: Vec<&str> = expected.trim_end().lines().collect();
    let actual: Vec<&str> = actual.trim_end().lines().collect();
    lines_match(&expected, &actual)
}

fn lines_match(expected: &[&str], actual: &[&str]) -> bool {
    match expected.split_first() {
        None => actual.is_empty(),
        Some((&"…", rest)) => (0..=actual.len()).any(|skipped| lines_match(rest, &actual[skipped..])),
        Some((first, rest)) => actual
            .split_first()
            .is_some_and(|(line, others)| line_matches(first, line) && lines_match(rest, others)),
    }
}

fn line_matches(expected: &str, actual: &str) -> bool {
    match expected.split_once('…') {
        None => expected == actual,
        Some((before, after)) => actual.strip_prefix(before).is_some_and(|rest| {
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.into_iter().any(|at| line_matches(after, &rest[at..]))
        }),
    }
}

#[test]
fn a_transcript_is_read_and_compared() {
    let document = "text\n```console\n$ one \\\n  two\nthree\n…\n$ four\n```\n```sh\nno\n```\n```console\n$ five\nsix … seven\n```\n";
    let step = |command: &str, expected: &str| Step {
        command: command.to_owned(),
        expected: expected.to_owned(),
    };
    assert_eq!(
        steps(document),
        [
            step("one \\\n  two", "three\n…\n"),
            step("four", ""),
            step("five", "six … seven\n")
        ]
    );
    assert!(is_as_expected("three\n…\n}\n", "three\nfour\nfive\n}\n"));
    assert!(!is_as_expected("three\n…\n}\n", "three\nfour\n"));
    assert!(is_as_expected("a…b…c\n", "axxbyyc"));
    assert!(!is_as_expected("a…b\n", "axxbc"));
    assert!(!is_as_expected("", "an error"));
}
