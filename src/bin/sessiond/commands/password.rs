//! Asks for a password: at the terminal without echo, or from standard input or a file. Never from the command line, which
//! others can read.

use crate::Failure;
use clap::ArgMatches;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use sessiond::config::SecretFile;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use zeroize::Zeroizing;

/// The new password for a user.
pub(super) fn ask(matches: &ArgMatches) -> Result<Zeroizing<String>, Failure> {
    if let Some(path) = matches.get_one::<String>("password-file") {
        let password = SecretFile::new(path).read(|text| Ok(first_line(text)));
        return password.map_err(|reason| format!("--password-file {reason}").into());
    }
    if !io::stdin().is_terminal() {
        return read_line();
    }
    let password = prompt("Password: ")?;
    match prompt("Again: ")? == password {
        true => Ok(password),
        false => Err("the two are not the same".into()),
    }
}

fn prompt(text: &str) -> Result<Zeroizing<String>, Failure> {
    // Before the prompt: the user may type as soon as they see it.
    let silence = Silence::begin()?;
    let mut terminal = io::stderr();
    terminal.write_all(text.as_bytes())?;
    terminal.flush()?;
    let line = read_line();
    drop(silence);
    // The person's own line feed was not shown either.
    terminal.write_all(b"\n")?;
    line
}

fn read_line() -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::new());
    io::stdin().lock().read_line(&mut line)?;
    Ok(first_line(&line))
}

fn first_line(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())
}

/// The terminal shows nothing of what is typed as long as this lives.
struct Silence(Termios);

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // There is nothing to be done about a terminal that went away.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
