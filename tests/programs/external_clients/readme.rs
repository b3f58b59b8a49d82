//! What the README says to type gives what the README says.

use super::{
    programs::Pair,
    transcript::{is_as_expected, run, steps},
};

#[test]
fn the_first_log_in_works_as_printed() {
    follow_the_readme(&Pair::in_one_process());
}

#[test]
fn the_first_log_in_works_as_printed_with_two_programs() {
    follow_the_readme(&Pair::in_two_processes());
}

fn follow_the_readme(pair: &Pair) {
    let readme = include_str!("../../../README.md");
    let steps = steps(readme);
    let commands: Vec<String> = steps.iter().map(|step| step.command.clone()).collect();
    for tool in ["curl ", "grpcurl ", "target/release/sessiond "] {
        assert!(
            commands.iter().any(|command| command.starts_with(tool)),
            "the README shows no {tool}"
        );
    }
    let outputs = run(pair, &commands);
    for (step, output) in steps.iter().zip(&outputs) {
        assert!(
            is_as_expected(&step.expected, output),
            "$ {}\nprinted\n{output}\nwhere the README says\n{}",
            step.command,
            step.expected
        );
    }
}
