//! Configuration through its public surface: which source outweighs which, what is refused, and that the example file is right.
use sessiond::{
    config::{
        GatewayProgramConfig, Mistakes, Origin, Parsed, ServiceConfig, Sources, UserStoreConfig, parse,
        settings::{self, CommandLine, Setting},
        with_settings,
    },
    domain::SessionLimits,
    gateway::GatewayConfig,
    grpc,
    listener::{Options, Protocol},
    password::HashingConfig,
};
use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

/// What an operator has given in three places.
#[derive(Default)]
struct Input {
    flags: Vec<String>,
    environment: Vec<(OsString, OsString)>,
    dir: Option<tempfile::TempDir>,
}

impl Input {
    fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    fn file(self, text: &str) -> Self {
        let path = self.write("sessiond.toml", text, 0o644);
        let input = self.flag("--config");
        input.flag(path.1.to_str().unwrap()).with_dir(path.0)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    fn with_dir(mut self, dir: tempfile::TempDir) -> Self {
        self.dir = Some(dir);
        self
    }

    fn sources(&self, command_line: CommandLine) -> Sources {
        let command = with_settings(clap::Command::new("sessiond"), command_line);
        let mut arguments = vec![OsString::from("sessiond")];
        arguments.extend(self.flags.iter().map(OsString::from));
        let (parsed, flags) = parse(&command, arguments);
        assert!(!matches!(parsed, Parsed::Text(_)));
        Sources::new(flags, self.environment.clone())
    }

    fn load(&self) -> Result<ServiceConfig, Mistakes> {
        ServiceConfig::load(self.sources(CommandLine::Service)).map(|loaded| loaded.config)
    }

    fn load_gateway(&self) -> Result<GatewayProgramConfig, Mistakes> {
        GatewayProgramConfig::load(self.sources(CommandLine::Gateway)).map(|loaded| loaded.config)
    }

    fn mistakes(&self) -> Vec<String> {
        let mistakes = self.load().expect_err("it should be refused");
        mistakes.as_slice().iter().map(ToString::to_string).collect()
    }
}

fn input() -> Input {
    Input::default()
}

#[test]
fn a_flag_outweighs_the_environment_which_outweighs_the_file() {
    let file = "listen = \"127.0.0.1:1\"\n";
    let config = input().file(file).load().unwrap();
    assert_eq!(config.address.port(), 1);
    let config = input()
        .file(file)
        .variable("SESSIOND_LISTEN", "127.0.0.1:2")
        .load()
        .unwrap();
    assert_eq!(config.address.port(), 2);
    let config = input()
        .file(file)
        .variable("SESSIOND_LISTEN", "127.0.0.1:2")
        .flag("--listen=127.0.0.1:3")
        .load()
        .unwrap();
    assert_eq!(config.address.port(), 3);
    let config = input().load().unwrap();
    assert_eq!(config.address.port(), 50051);
}

#[test]
fn the_environment_may_name_the_file_and_a_flag_may_name_another() {
    let (_first_dir, first) = input().write("a.toml", "sessions_per_user = 1", 0o644);
    let (_second_dir, second) = input().write("b.toml", "sessions_per_user = 2", 0o644);
    let input = input().variable("SESSIOND_CONFIG", first.to_str().unwrap());
    assert_eq!(input.load().unwrap().limits.max_per_user, 1);
    let input = input.flag("--config").flag(second.to_str().unwrap());
    assert_eq!(input.load().unwrap().limits.max_per_user, 2);
}

#[test]
fn without_a_word_everything_is_at_its_parts_default() {
    let config = input().load().unwrap();
    assert_eq!(config.limits, SessionLimits::DEFAULT);
    assert_eq!(
        format!("{:?}", config.hashing),
        format!("{:?}", HashingConfig::default())
    );
    assert_eq!(
        format!("{:?}", config.api),
        format!("{:?}", grpc::Options::default())
    );
    assert_eq!(
        format!("{:?}", config.listener),
        format!("{:?}", Options::new(Protocol::Rpc))
    );
    assert_eq!(
        format!("{:?}", config.sweeper),
        format!("{:?}", sessiond::sweeper::Options::default())
    );
    assert_eq!(
        format!("{:?}", config.telemetry),
        format!("{:?}", sessiond::telemetry::Options::default())
    );
    let UserStoreConfig::Embedded(data_dir) = config.stores.users else {
        panic!("it is another store");
    };
    assert_eq!(data_dir, PathBuf::from("./sessiond-data"));
    let gateway = config.gateway.unwrap();
    assert_eq!(
        format!("{:?}", gateway.listener),
        format!("{:?}", Options::new(Protocol::Web))
    );
    // The default address is a loopback one.
    let expected = GatewayConfig {
        listens_on_plain_loopback: true,
        ..GatewayConfig::default()
    };
    assert_eq!(format!("{:?}", gateway.gateway), format!("{expected:?}"));
}

#[test]
fn the_table_of_signals_names_the_settings_that_are_reloaded() {
    let operations = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    let row = operations
        .lines()
        .find(|line| line.starts_with("| SIGHUP |"))
        .unwrap();
    for setting in settings::ALL {
        let named = row.contains(&format!("`{}`", setting.key));
        assert_eq!(named, setting.is_reloaded, "{}", setting.key);
    }
}

/// Holds a part of a file against what the declarations of the settings make of it, or rewrites it if `UPDATE_EXPECT` is set.
fn assert_written(path: &str, after: &str, until: &str, expected: &str) {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).unwrap();
    let start = text.find(after).unwrap() + after.len();
    let end = text[start..].find(until).map_or(text.len(), |at| start + at);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, [&text[..start], expected, &text[end..]].concat()).unwrap();
        return;
    }
    let found = &text[start..end];
    let differing = found
        .lines()
        .zip(expected.lines())
        .find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "UPDATE_EXPECT=1 cargo test --test programs config writes {path} anew: {differing:?}"
    );
}

/// The text as comment lines of at most 120 characters.
fn comment(text: &str) -> String {
    let mut lines = vec!["#".to_owned()];
    for word in text.split(' ') {
        let line = lines.last_mut().unwrap();
        match line.len() + 1 + word.len() <= 120 {
            true => *line += &format!(" {word}"),
            false => lines.push(format!("# {word}")),
        }
    }
    lines.join("\n")
}

#[test]
fn the_example_file_holds_every_setting_at_its_default() {
    let entries: Vec<String> = settings::ALL
        .iter()
        .map(
            |Setting {
                 key, default, help, ..
             }| {
                let is_bare = default.parse::<i64>().is_ok() || ["true", "false"].contains(default);
                let quote = if is_bare { "" } else { "\"" };
                format!("{}\n{key} = {quote}{default}{quote}\n", comment(help))
            },
        )
        .collect();
    let example = entries.join("\n");
    assert_written("sessiond.example.toml", "\n\n", "\0", &example);
    assert_eq!(
        format!("{:?}", input().file(&example).load().unwrap()),
        format!("{:?}", input().load().unwrap())
    );
}

#[test]
fn the_readme_lists_every_setting_with_its_default() {
    let row = |Setting {
                   key, default, help, ..
               }: &Setting| match *default {
        "" => format!("| `{key}` | none | {help} |\n"),
        default => format!("| `{key}` | `{default}` | {help} |\n"),
    };
    let rows: String = settings::ALL.iter().map(row).collect();
    assert_written(
        "README.md",
        "| setting | default | |\n|---|---|---|\n",
        "\n\n",
        rows.trim_end(),
    );
}

#[test]
fn every_mistake_is_named_at_once_with_its_place() {
    let mistakes = input()
        .file("listen = \"nowhere\"\nlog = 7\n\ncolour = \"blue\"\nstore = 1.5\n")
        .variable("SESSIOND_DRAIN_TIMEOUT", "soon")
        .variable("SESSIOND_COLOUR", "blue")
        .flag("--password-cost=9")
        .flag("--colour")
        .flag("--size=big")
        .mistakes();
    for expected in [
        "sessiond.toml, line 1: listen: must be an address",
        "sessiond.toml, line 2: log: must be a level",
        "sessiond.toml, line 4: colour: no such setting",
        "sessiond.toml, line 5: store: must be a text",
        "SESSIOND_DRAIN_TIMEOUT: must be a span",
        "SESSIOND_COLOUR: no such setting",
        "--password-cost: must be a whole number from 10 to 16",
        "command line: unexpected argument '--colour' found",
        "command line: unexpected argument '--size' found",
    ] {
        let count = mistakes
            .iter()
            .filter(|mistake| mistake.contains(expected))
            .count();
        assert_eq!(count, 1, "{expected}\n{}", mistakes.join("\n"));
    }
    assert_eq!(mistakes.len(), 9, "{}", mistakes.join("\n"));
}

#[test]
fn a_wrong_value_is_a_mistake_even_where_another_outweighs_it() {
    let mistakes = input()
        .variable("SESSIOND_WORKERS", "many")
        .flag("--workers=2")
        .mistakes();
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_its_lines() {
    let mistakes = input().file("listen = \"127.0.0.1:1\"\nlog == \n").mistakes();
    assert!(
        mistakes.iter().any(|mistake| mistake.contains("line 2")),
        "{mistakes:?}"
    );
    let mistakes = input().flag("--config=/nowhere/sessiond.toml").mistakes();
    assert!(
        mistakes[0].starts_with("--config: names /nowhere/sessiond.toml"),
        "{mistakes:?}"
    );
}

#[test]
fn what_kubernetes_says_of_a_service_of_our_name_is_no_mistake() {
    let config = input()
        .variable("SESSIOND_SERVICE_HOST", "10.0.0.1")
        .variable("SESSIOND_PORT", "tcp://10.0.0.1:50051")
        .variable("SESSIOND_PORT_50051_TCP_ADDR", "10.0.0.1")
        .load();
    assert!(config.is_ok());
}

#[test]
fn one_file_serves_both_programs() {
    let file = "listen = \"127.0.0.1:1\"\nupstream = \"http://127.0.0.1:1\"\n";
    assert_eq!(
        input().file(file).load_gateway().unwrap().upstream.to_string(),
        "http://127.0.0.1:1/"
    );
    assert!(input().file(file).load().is_ok());
    // What is wrong for the other is wrong.
    assert!(input().file("upstream = \"nowhere\"").load().is_err());
    assert!(input().file("password_cost = 99").load_gateway().is_err());
}

#[test]
fn s_72_plain_text_beyond_this_machine_takes_a_flag_that_names_the_danger() {
    for setting in ["listen", "gateway-listen", "metrics-listen"] {
        let flag = format!("--{setting}=0.0.0.0:0");
        let mistakes = input().flag(&flag).mistakes();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].contains("--danger-plaintext-listen"), "{mistakes:?}");
        assert!(
            input()
                .flag(&flag)
                .flag("--danger-plaintext-listen")
                .load()
                .is_ok()
        );
        assert!(
            input()
                .flag(&flag)
                .flag("--danger-plaintext-listen=false")
                .load()
                .is_err()
        );
    }
    let upstream = input().flag("--upstream=http://10.0.0.1:50051");
    assert!(upstream.load_gateway().is_err());
    assert!(upstream.flag("--danger-plaintext-listen").load_gateway().is_ok());
}

#[test]
fn s_70_metrics_are_shown_nowhere_unless_an_address_is_given() {
    let config = input().load().unwrap();
    assert_eq!(config.metrics_address, None);
    assert!(!config.sweeper.counts_sessions);
    let config = input()
        .file("metrics_listen = \"127.0.0.1:9464\"")
        .load()
        .unwrap();
    assert_eq!(config.metrics_address, Some(([127, 0, 0, 1], 9464).into()));
    assert!(config.sweeper.counts_sessions);
    let mistakes = input().flag("--metrics-listen=everywhere").mistakes();
    assert!(mistakes[0].contains("must be an address"), "{mistakes:?}");
}

#[test]
fn s_97_a_password_in_a_store_url_is_refused_and_not_repeated() {
    for flag in [
        "--store=postgres://app:hunter2@db/app",
        "--session-store=redis://:hunter2@cache",
    ] {
        let mistakes = input().flag(flag).mistakes();
        assert!(mistakes[0].contains("url_file"), "{mistakes:?}");
        assert!(!mistakes[0].contains("hunter2"), "{mistakes:?}");
    }
}

#[test]
fn s_97_a_store_url_with_its_password_comes_from_a_file_of_ones_own() {
    let url = "postgres://app:hunter2@db/app";
    let (_dir, open) = input().write("url", url, 0o644);
    let mistakes = input()
        .flag("--store-url-file")
        .flag(open.to_str().unwrap())
        .mistakes();
    assert!(mistakes[0].contains("chmod 600"), "{mistakes:?}");
    let (_dir, own) = input().write("url", &format!("{url}\n"), 0o600);
    let config = input()
        .flag("--store-url-file")
        .flag(own.to_str().unwrap())
        .load()
        .unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(matches!(config.stores.users, UserStoreConfig::Postgres(_)));
    let both = input()
        .flag("--store-url-file")
        .flag(own.to_str().unwrap())
        .flag("--store=memory")
        .mistakes();
    assert!(both[0].contains("together"), "{both:?}");
}

#[test]
fn s_97_a_pepper_file_that_others_can_read_is_refused() {
    let pepper = "2026 yv66vt6tvu/K/rq+3q2+78r+ur7erb7vyv66vt6tvu8= current\n";
    let (_dir, open) = input().write("pepper", pepper, 0o640);
    let mistakes = input()
        .flag("--pepper-file")
        .flag(open.to_str().unwrap())
        .mistakes();
    assert!(mistakes[0].contains("chmod 600"), "{mistakes:?}");
    let (_dir, own) = input().write("pepper", pepper, 0o600);
    let config = input()
        .flag("--pepper-file")
        .flag(own.to_str().unwrap())
        .load()
        .unwrap();
    assert!(config.hashing.peppers.is_some());
    let (_dir, rubbish) = input().write("pepper", "hunter2", 0o600);
    let mistakes = input()
        .flag("--pepper-file")
        .flag(rubbish.to_str().unwrap())
        .mistakes();
    assert!(!mistakes.concat().contains("hunter2"), "{mistakes:?}");
}

#[test]
fn a_session_may_be_configured_in_all_its_spans() {
    let config = input()
        .file("session_lifetime = \"7d\"\nsession_idle_timeout = \"1h\"\ntrusted_proxies = [\"10.0.0.0/8\", \"192.0.2.1\"]\nconnection_age = \"10m\"")
        .load()
        .unwrap();
    assert_eq!(config.limits.span.lifetime(), Duration::from_secs(7 * 24 * 3600));
    assert_eq!(config.limits.span.idle_timeout(), Duration::from_secs(3600));
    assert_eq!(config.gateway.unwrap().gateway.trusted_proxies.len(), 2);
    assert_eq!(config.listener.connection_age, Some(Duration::from_secs(600)));
}

#[test]
fn what_no_browser_or_peer_can_match_is_refused_at_start() {
    for (line, rule) in [
        (
            r#"public_origin = "capacitor://localhost""#,
            "must begin with https:// or http://",
        ),
        (
            r#"public_origin = "https://*.example.org""#,
            "must be one exact origin",
        ),
        (
            r#"public_origin = "https://example.org:99999""#,
            "must be one exact origin",
        ),
        (
            r#"allowed_origins = "https://*.example.org""#,
            "must be one exact origin",
        ),
        (r#"allowed_origins = "null""#, "must be one exact origin"),
        (r#"allowed_origins = "https://127.1""#, "must be one exact origin"),
        (
            r#"trusted_proxies = "::ffff:10.0.0.0/8""#,
            "must be an address or a block",
        ),
        (r#"trusted_proxies = "10.0.0.*""#, "must be an address or a block"),
    ] {
        let refused = input().file(line).load().unwrap_err().to_string();
        assert!(refused.contains(rule), "{line}: {refused}");
    }
    let config = input()
        .file("allowed_origins = \"capacitor://localhost, tauri://localhost\"\ntrusted_proxies = \"::ffff:127.0.0.1\"")
        .load()
        .unwrap();
    let gateway = config.gateway.unwrap().gateway;
    assert!(gateway.trusted_proxies[0].contains([127, 0, 0, 1].into()));
    assert_eq!(gateway.allowed_origins.len(), 2);
}

#[test]
fn every_flag_is_in_the_help_with_its_variable_and_default() {
    for command_line in [CommandLine::Service, CommandLine::Command, CommandLine::Gateway] {
        let command = with_settings(clap::Command::new("sessiond"), command_line);
        let (Parsed::Text(help), _) = parse(&command, vec!["sessiond".into(), "--help".into()]) else {
            panic!("it is no help");
        };
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for setting in settings::ALL {
            let is_taken = setting.taken_by.contains(&command_line);
            // Behind the name stands "[=<true|false>]" or " <KIND>".
            let entry = ["[", " <"].map(|next| help.contains(&format!("--{}{next}", setting.flag())));
            assert_eq!(entry.contains(&true), is_taken, "--{}", setting.flag());
            let variable = format!("[env: {}]", setting.variable());
            assert_eq!(help.contains(&variable), is_taken, "{variable}");
        }
    }
}

#[test]
fn a_switch_takes_its_value_with_or_without_an_equals_sign() {
    for (flags, is_on) in [
        (&["--gateway"][..], true),
        (&["--gateway=false"], false),
        (&["--gateway", "false"], false),
        (&["--gateway", "true"], true),
        (&["--gateway", "false", "--reflection", "false"], false),
    ] {
        let input = flags.iter().fold(input(), |input, flag| input.flag(flag));
        assert_eq!(input.load().unwrap().gateway.is_some(), is_on, "{flags:?}");
    }
    let mistakes = input().flag("--gateway").flag("maybe").mistakes();
    assert!(mistakes[0].contains("'maybe'"), "{mistakes:?}");
}

#[test]
fn a_listener_may_be_named_localhost_and_no_host_beyond() {
    for setting in ["listen", "gateway-listen", "metrics-listen"] {
        let flag = |address: &str| format!("--{setting}={address}");
        let config = input().flag(&flag("localhost:50061")).load().unwrap();
        let addresses = [
            Some(config.address),
            config.gateway.map(|gateway| gateway.address),
            config.metrics_address,
        ];
        let named = addresses
            .into_iter()
            .flatten()
            .find(|address| address.port() == 50061);
        assert!(named.unwrap().ip().is_loopback());
        let mistakes = input().flag(&flag("255.255.255.256:50061")).mistakes();
        assert!(mistakes[0].contains("must be an address"), "{mistakes:?}");
    }
}

#[test]
fn a_mistake_knows_where_it_was_made() {
    let mistakes = input().variable("SESSIOND_LISTEN", "x").load().unwrap_err();
    assert_eq!(
        mistakes.as_slice()[0].origin,
        Origin::Environment("SESSIOND_LISTEN".to_owned())
    );
}

#[test]
fn names_follow_from_the_key() {
    let setting = &settings::ALL[2];
    assert_eq!(
        (setting.key, setting.flag(), setting.variable()),
        (
            "metrics_listen",
            "metrics-listen".to_owned(),
            "SESSIOND_METRICS_LISTEN".to_owned()
        )
    );
}
