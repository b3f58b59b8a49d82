//! The README's table of settings says what the example file says, and the units in deploy/ set what can be set.

use crate::tree;

/// The rows as they have to be: each setting of the example file with its default and the comment above it.
fn rows(example: &str) -> Vec<String> {
    let mut rows = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in example.lines() {
        if let Some(text) = line.strip_prefix("# ") {
            comment.push(text);
        } else if let Some((key, value)) = line.split_once(" = ") {
            let default = match value.trim_matches('"') {
                "" => "none".to_owned(),
                value => format!("`{value}`"),
            };
            rows.push(format!("| `{key}` | {default} | {} |", comment.join(" ")));
            comment.clear();
        } else {
            comment.clear();
        }
    }
    rows
}

#[test]
fn the_readme_lists_every_setting_with_its_default() {
    let rows = rows(&tree::read("sessiond.example.toml"));
    let readme = tree::read("README.md");
    let listed = readme
        .lines()
        .skip_while(|line| !line.starts_with("| setting | default |"))
        .skip(2);
    let listed: Vec<&str> = listed.take_while(|line| line.starts_with('|')).collect();
    assert!(
        rows.len() > 20,
        "only {} settings were found in the example file",
        rows.len()
    );
    assert_eq!(listed, rows, "the table has to be\n{}\n", rows.join("\n"));
}

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
