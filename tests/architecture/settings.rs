//! The units in deploy/ set what can be set.

use crate::tree;

#[test]
fn the_units_give_flags_that_exist() {
    let example = tree::read("sessiond.example.toml");
    for unit in ["deploy/sessiond.service", "deploy/sessiond-gateway.service"] {
        let text = tree::read(unit);
        let command = text.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        for flag in command
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("--"))
        {
            let name = flag.split('=').next().unwrap_or(flag);
            let key = name.replace('-', "_");
            let is_setting = example.lines().any(|line| line.starts_with(&format!("{key} = ")));
            assert!(name == "config" || is_setting, "{unit}: there is no --{name}");
        }
    }
}
