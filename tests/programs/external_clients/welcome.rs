//! What `sessiond` prints at its start to be tried works when it is typed.

use super::{programs::Pair, transcript::run};

#[test]
fn what_to_try_works_as_printed() {
    let pair = Pair::in_one_process();
    let printed = pair.welcome.lines().filter_map(|line| line.strip_prefix("  "));
    let commands: Vec<String> = printed.map(str::to_owned).collect();
    for tool in ["curl ", "grpcurl "] {
        assert!(
            commands.iter().any(|command| command.starts_with(tool)),
            "no {tool}in\n{}",
            pair.welcome
        );
    }
    for (command, output) in commands.iter().zip(run(&pair, &commands)) {
        assert!(
            output.contains("ada@example.org"),
            "$ {command}\nprinted\n{output}"
        );
    }
}
