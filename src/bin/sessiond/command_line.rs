//! The command line: flags and commands.

use clap::{Arg, ArgAction, ArgGroup, Command};
use sessiond::config::{settings::CommandLine, with_settings};

const EXAMPLES: &str = "\
Examples:
  sessiond                                   serve, with the data in ./sessiond-data
  sessiond --store memory                    serve, and leave nothing behind
  sessiond users create ada@example.org      asks for the password
  sessiond users list --json
  sessiond sessions revoke ada@example.org   end all sessions of a user
  sessiond backup sessiond-2026-12-24.db     while it serves";

const COPYING: &str = "\
A store is a data directory, a URL (postgres://, redis://, rediss://, redis+sentinel://, redis+cluster://), or @FILE for a URL with
a password, in a file that only you can read. Redis keeps sessions only; users are copied where both stores have them.

A copy that was cut off is started again with the same command. At the end, what is in --to and not in --from is taken away.

  sessiond copy --from ./sessiond-data --to postgres://db.internal/sessiond
  sessiond copy --from ./sessiond-data --to @redis-url";

pub(crate) fn command() -> Command {
    let root = Command::new("sessiond")
        .version(env!("CARGO_PKG_VERSION"))
        .about(
            "A session-authentication service. Without a command it serves, with the HTTP gateway beside it.",
        )
        .after_help(EXAMPLES)
        .subcommand_required(false)
        .disable_help_subcommand(true)
        .subcommand(users())
        .subcommand(sessions())
        .subcommand(offline(Command::new("migrate").about(
            "Bring the stores' schema up to date, and stop; serving does it too",
        )))
        .subcommand(
            offline(Command::new("backup").about(
                "Copy the embedded store's data to a new file, while a service uses it or not",
            ))
            .arg(file("Where the copy goes; there must be no such file yet")),
        )
        .subcommand(
            offline(Command::new("restore").about(
                "Put a backup into the data directory; no service may be using it. Users come back, sessions do not",
            ))
            .arg(file("The backup"))
            .arg(
                Arg::new("replace")
                    .long("replace")
                    .help("Do away with the data that is there")
                    .action(ArgAction::SetTrue),
            ),
        )
        .subcommand(
            Command::new("copy")
                .about("Copy users and sessions from one store into another; tokens stay valid")
                .after_help(COPYING)
                .arg(place("from", "What to copy"))
                .arg(place("to", "Where to; must not serve yet")),
        )
        .subcommand(
            Command::new("healthcheck")
                .about("Ask a running service whether it serves: exit code 0 if it does, 1 if not")
                .arg(server()),
        );
    with_settings(root, CommandLine::Service)
}

fn users() -> Command {
    group("users", "Look after users")
        .subcommand(
            online(
                "create",
                "Create a user; the password is asked for, or read from standard input",
            )
            .arg(
                Arg::new("email")
                    .value_name("EMAIL")
                    .help("How they log in")
                    .required(true),
            )
            .arg(text("first-name", "NAME", "What they are called"))
            .arg(text("last-name", "NAME", "What they are called"))
            .arg(text("role", "ROLE", "May be given several times").action(ArgAction::Append))
            .arg(
                Arg::new("no-password")
                    .long("no-password")
                    .help("Create a user who cannot log in until a password is set")
                    .action(ArgAction::SetTrue),
            )
            .arg(password_file().conflicts_with("no-password")),
        )
        .subcommand(online("list", "List all users"))
        .subcommand(
            online(
                "check-emails",
                "List the users whose email is another's in another spelling, would be refused today, or is stored in a former form",
            )
            .arg(
                Arg::new("apply")
                    .long("apply")
                    .help("Bring the emails in a former form up to date; without it, nothing is changed")
                    .action(ArgAction::SetTrue),
            ),
        )
        .subcommand(
            online(
                "set-password",
                "Set a user's password, and end all their sessions",
            )
            .arg(user())
            .arg(password_file()),
        )
        .subcommand(
            online(
                "disable",
                "Bar a user from logging in, and end all their sessions",
            )
            .arg(user()),
        )
        .subcommand(online("enable", "Let a disabled user log in again").arg(user()))
        .subcommand(online("delete", "Delete a user, and end all their sessions").arg(user()))
}

fn sessions() -> Command {
    group("sessions", "Look after sessions")
        .subcommand(online("list", "List a user's sessions").arg(user()))
        .subcommand(
            online("revoke", "End all sessions of a user, one session, or everyone's")
                .arg(user().required(false))
                .arg(text("session", "ID", "End this session only"))
                .arg(
                    Arg::new("everyone")
                        .long("everyone")
                        .help("End every session of every user")
                        .action(ArgAction::SetTrue),
                )
                .group(
                    ArgGroup::new("which")
                        .args(["user", "session", "everyone"])
                        .required(true),
                ),
        )
}

fn group(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .subcommand_required(true)
        .disable_help_subcommand(true)
}

/// A command that asks the running service, or opens the stores if there is none.
fn online(name: &'static str, about: &'static str) -> Command {
    let json = Arg::new("json")
        .long("json")
        .help("Print JSON, one object a line")
        .action(ArgAction::SetTrue);
    offline(Command::new(name).about(about).arg(server()).arg(json))
}

/// A command that may open the stores.
fn offline(command: Command) -> Command {
    with_settings(command, CommandLine::Command)
}

fn server() -> Arg {
    Arg::new("server")
        .long("server")
        .value_name("URL")
        .help("The service to ask, such as http://127.0.0.1:50051. Without it: the one at the configured address, and if there is none, the stores themselves")
}

fn place(name: &'static str, help: &'static str) -> Arg {
    text(name, "STORE", help).required(true)
}

fn user() -> Arg {
    Arg::new("user")
        .value_name("USER")
        .help("An email or a user id")
        .required(true)
}

fn file(help: &'static str) -> Arg {
    Arg::new("file").value_name("FILE").help(help).required(true)
}

fn password_file() -> Arg {
    text(
        "password-file",
        "FILE",
        "Read the password from the first line of this file, which only you can read",
    )
}

fn text(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}
