//! What `sessiond` prints at its start to be tried works when it is typed.

use crate::{programs::Pair, transcript::run};

#[test]
fn what_to_try_works_as_printed() {
    let pair = Pair::in_one_process();
    let is_command = |line: &&str| line.starts_with("  curl ") || line.starts_with("  grpcurl ");
    let mut commands: Vec<String> = pair
        .welcome
        .lines()
        .filter(is_command)
        .map(|line| line.trim().to_owned())
        .collect();
    let check = commands.pop().expect("nothing to try was printed");
    let outputs = run(&pair, &commands);
    for (command, output) in commands.iter().zip(&outputs) {
        assert!(output.contains("\"email\":"), "$ {command}\nprinted\n{output}");
    }

    // The person puts the token from the answer before where the dots are.
    let (_, rest) = outputs
        .last()
        .unwrap()
        .split_once("\"sessionToken\": \"")
        .expect("no token was shown");
    let token = rest.split('"').next().unwrap();
    assert!(check.contains("ses_..."), "{check}");
    let outputs = run(&pair, &[check.replace("ses_...", token)]);
    assert!(
        outputs[0].contains("\"userId\":"),
        "$ {check}\nprinted\n{}",
        outputs[0]
    );
}
