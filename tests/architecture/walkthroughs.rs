//! The two walkthroughs of ARCHITECTURE.md: each step names a file, each file hands the data to the next.

use crate::{
    documents::{code_spans, is_path},
    imports::may_use,
    tree,
};
use std::fs;

/// The numbered items below a heading, each with its continuation lines.
fn steps(document: &str, heading: &str) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    let section = document.lines().skip_while(|line| *line != heading).skip(1);
    for line in section.take_while(|line| !line.starts_with('#')) {
        if line.starts_with(&format!("{}. ", steps.len() + 1)) {
            steps.push(line.to_owned());
        } else if let Some(step) = steps.last_mut().filter(|_| line.starts_with(' ')) {
            step.push('\n');
            step.push_str(line);
        }
    }
    steps
}

/// The part of the house that a file stands in. The listener carries what the gateway's and the client's calls become.
fn part_of(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split(['/', '.']).next().unwrap_or(inside)
}

/// Whether the data can pass from one part to the other without a third between them.
fn are_neighbours(left: &str, right: &str) -> bool {
    const ON_THE_WIRE: [&str; 5] = ["client", "gateway", "grpc", "listener", "proto"];
    const ANYWHERE: [&str; 2] = ["bin", "domain"];
    let is_either = |parts: &[&str]| parts.contains(&left) || parts.contains(&right);
    may_use(left, right)
        || may_use(right, left)
        || is_either(&ANYWHERE)
        || (ON_THE_WIRE.contains(&left) && ON_THE_WIRE.contains(&right))
}

/// What is wrong with a walkthrough; empty if nothing is.
fn faults(document: &str, heading: &str, words: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut passed: Vec<String> = Vec::new();
    let steps = steps(document, heading);
    if steps.len() < 4 {
        faults.push(format!("{heading}: has only {} steps", steps.len()));
    }
    for (number, step) in (1..).zip(&steps) {
        let spans = code_spans(step);
        let Some(path) = spans
            .first()
            .filter(|span| step.starts_with(&format!("{number}. `{span}`")) && is_path(span))
        else {
            faults.push(format!("{heading}: step {number} does not begin with a path"));
            continue;
        };
        if !tree::root().join(path).is_file() {
            faults.push(format!("{heading}: step {number}: there is no file {path}"));
        }
        for span in spans.iter().filter(|span| !is_path(span)) {
            let name = span.trim_end_matches("()").rsplit("::").next().unwrap_or(span);
            let is_name = name
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
            if is_name && !words.contains(name) {
                faults.push(format!(
                    "{heading}: step {number}: nothing in the source is called {name}"
                ));
            }
        }
        // From where it is the data goes on, or first back to a part that it came through.
        let part = part_of(path).to_owned();
        if number > 1 && !passed.iter().any(|before| are_neighbours(before, &part)) {
            faults.push(format!(
                "{heading}: step {number}: nothing passed so far knows of {part}"
            ));
        }
        passed.push(part);
    }
    faults
}

fn all_source() -> String {
    ["src", "proto"]
        .iter()
        .flat_map(|directory| tree::files_below(&tree::root().join(directory)))
        .map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned())
        .collect()
}

#[test]
fn the_walkthroughs_name_the_files_that_the_data_passes_in_order() {
    let (document, words) = (tree::read("ARCHITECTURE.md"), all_source());
    let mut faults_found = faults(&document, "## Walkthrough: log in", &words);
    faults_found.extend(faults(&document, "## Walkthrough: check a session", &words));
    assert!(faults_found.is_empty(), "{}", faults_found.join("\n"));
}

#[test]
fn a_walkthrough_that_skips_or_misnames_is_refused() {
    let words = all_source();
    let document = "\
## Walkthrough: a good one

1. `proto/auth/v1/auth.proto`: `UserIdForSession` is asked.
2. `src/grpc/auth_service.rs`: takes it apart,
   with `src/grpc/convert.rs`.
3. `src/auth/check.rs`: decides.
4. `src/store/mod.rs`: answers.

## Walkthrough: a bad one

1. `src/grpc/auth_service.rs`: takes it apart.
2. `src/password/pool.rs`: is not where grpc goes.
3. `src/auth/no_such_file.rs`: is not there.
4. Then `src/store/mod.rs`.
5. `src/store/mod.rs`: has no `no_such_name`.
";
    assert_eq!(
        faults(document, "## Walkthrough: a good one", &words),
        Vec::<String>::new()
    );
    let heading = "## Walkthrough: a bad one";
    assert_eq!(
        faults(document, heading, &words),
        [
            format!("{heading}: step 2: nothing passed so far knows of password"),
            format!("{heading}: step 3: there is no file src/auth/no_such_file.rs"),
            format!("{heading}: step 4 does not begin with a path"),
            format!("{heading}: step 5: nothing in the source is called no_such_name"),
        ]
    );
    assert_eq!(faults(document, "## Walkthrough: none", &words).len(), 1);
}
