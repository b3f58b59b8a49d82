//! Every dependency that a manifest declares is used where it is declared for.

use crate::tree;
use proc_macro2::{TokenStream, TokenTree};
use std::{collections::BTreeSet, fs, path::Path};

/// Dependencies that no file of ours names, each with who does.
const NAMED_ELSEWHERE: &[(&str, &str)] = &[("tonic-prost", "the code generated from the proto")];

/// Which directories and files beside a manifest may use what one of its tables declares.
const TABLES: &[(&str, &[&str])] = &[
    ("dependencies", &["src"]),
    ("dev-dependencies", &["src", "tests", "benches", "examples"]),
    ("build-dependencies", &["build.rs"]),
];

/// The words that stand at the beginning of a path, or alone in a `use`: the crates that the source names, and some modules.
fn beginnings_of_paths(tokens: TokenStream, found: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_colon = |at: Option<usize>| {
        at.and_then(|at| tokens.get(at))
            .is_some_and(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':'))
    };
    for (at, token) in tokens.iter().enumerate() {
        let follows = is_colon(at.checked_sub(1)) && is_colon(at.checked_sub(2));
        match token {
            // In `axum::{Router, routing::get}` what the braces hold goes on from `axum`.
            TokenTree::Group(group) if !follows => beginnings_of_paths(group.stream(), found),
            TokenTree::Ident(word) => {
                let goes_on = is_colon(Some(at + 1)) && is_colon(Some(at + 2));
                let before = at.checked_sub(1).and_then(|before| tokens.get(before));
                let is_used_whole = before.is_some_and(
                    |before| matches!(before, TokenTree::Ident(before) if before == "use" || before == "crate"),
                );
                if (goes_on && !follows) || is_used_whole {
                    found.insert(word.to_string());
                }
            }
            TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

fn crates_named_below(place: &Path) -> BTreeSet<String> {
    let files = if place.is_dir() {
        tree::files_below(place)
    } else {
        vec![place.to_path_buf()]
    };
    let mut found = BTreeSet::new();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
    {
        beginnings_of_paths(fs::read_to_string(file).unwrap().parse().unwrap(), &mut found);
    }
    found
}

#[test]
fn every_dependency_is_used() {
    let mut unused = Vec::new();
    let mut declared_in_all = 0;
    for manifest in tree::files_below(tree::root()) {
        if manifest.file_name().is_none_or(|name| name != "Cargo.toml") {
            continue;
        }
        let content: toml::Table = fs::read_to_string(&manifest).unwrap().parse().unwrap();
        let beside = manifest.parent().unwrap();
        for (table, places) in TABLES {
            let Some(declared) = content.get(*table).and_then(toml::Value::as_table) else {
                continue;
            };
            let named: BTreeSet<String> = places
                .iter()
                .map(|place| beside.join(place))
                .filter(|place| place.exists())
                .flat_map(|place| crates_named_below(&place))
                .collect();
            for dependency in declared.keys() {
                declared_in_all += 1;
                let is_named = named.contains(&dependency.replace('-', "_"));
                if !is_named && !NAMED_ELSEWHERE.iter().any(|(name, _)| name == dependency) {
                    unused.push(format!("{}: [{table}] {dependency}", tree::name(&manifest)));
                }
            }
        }
    }
    assert!(unused.is_empty(), "nothing uses these:\n{}", unused.join("\n"));
    assert!(
        declared_in_all > 20,
        "only {declared_in_all} dependencies were found"
    );
}

#[test]
fn a_use_is_seen_however_it_is_written() {
    let source = "
        use axum::{Router, routing::get};
        use subtle;
        extern crate bcrypt;
        use {tower::Layer, crate::redis::Store};
        #[tokio::main]
        fn call() { let bytes = tracing::info!(\"{}\", jiff::Timestamp::now()); }
        // Not a use: hyper::Body.
    ";
    let mut found = BTreeSet::new();
    beginnings_of_paths(source.parse().unwrap(), &mut found);
    for used in ["axum", "subtle", "bcrypt", "tower", "tokio", "tracing", "jiff"] {
        assert!(found.contains(used), "{used} is used");
    }
    for unused in ["redis", "routing", "bytes", "hyper"] {
        assert!(!found.contains(unused), "{unused} is not a crate that is used");
    }
}
