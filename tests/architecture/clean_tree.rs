//! The tree names no package registry and no machine that it was made on: it must build anywhere, from any mirror.

use crate::tree;
use std::fs;

/// In two pieces each, so that this file holds none of them.
const FORBIDDEN: &[(&str, &str)] = &[
    ("crates", ".io"),
    ("pypi", ".org"),
    ("pythonhosted", ".org"),
    ("registry.npm", "js"),
    ("npmjs", ".com"),
    ("yarnpkg", ".com"),
    ("proxy.golang", ".org"),
    ("sum.golang", ".org"),
    ("deb.debian", ".org"),
    ("repo.maven", ".apache"),
    ("/work", "/main"),
    ("/work", "/wt"),
    ("/work", "/shared"),
    ("/root", "/."),
    ("/home", "/"),
    (".cargo", "/registry"),
    (".pyenv", "/"),
    ("\"resolved\"", ":"),
];

#[test]
fn no_file_names_a_registry_or_a_build_machine() {
    let mut found = Vec::new();
    for file in tree::files_below(tree::root()) {
        let name = tree::name(&file);
        // Cargo writes the name of its own registry there, whichever mirror it downloads from.
        if name == "Cargo.lock" {
            continue;
        }
        let bytes = fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for (number, line) in text.lines().enumerate() {
            for (left, right) in FORBIDDEN {
                if line.contains(&format!("{left}{right}")) {
                    found.push(format!("{name}:{}: {left}{right}", number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
