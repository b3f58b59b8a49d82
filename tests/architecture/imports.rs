//! The one-way rule: which module of the library may use which other.

use crate::tree;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// What a module may use of ours, as the beginning of a path; itself always. A module without a row may not exist.
const RULES: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("store", &["domain"]),
    ("password", &["domain"]),
    ("auth", &["domain", "store", "password"]),
    (
        "grpc",
        &[
            "auth",
            "domain",
            "listener",
            "metrics",
            "pb",
            // The stream of revocations is the store's to tell; every other word with a store goes through `auth`.
            "store::Cursor",
            "store::RevocationLog",
            "store::Revocations",
            "store::SessionKey",
            "store::Told",
            "store::monotonic_millis",
        ],
    ),
    ("sweeper", &["domain", "metrics", "shutdown", "store"]),
    ("metrics", &[]),
    ("pb", &[]),
    ("client", &["domain", "pb"]),
    ("gateway", &["client", "domain", "listener", "pb"]),
    ("listener", &["shutdown"]),
    ("shutdown", &[]),
    ("telemetry", &[]),
    // Only the programs use `config`, so no other row names it.
    (
        "config",
        &[
            "auth",
            "client",
            "domain",
            "gateway",
            "grpc",
            "listener",
            "password",
            "store",
            "sweeper",
            "telemetry",
        ],
    ),
];

/// Whether code in `module` may name something at `path`, both counted from the crate's root.
pub(crate) fn may_use(module: &str, path: &str) -> bool {
    let begins_with = |allowed: &str| path == allowed || path.starts_with(&format!("{allowed}::"));
    let row = RULES.iter().find(|(name, _)| *name == module);
    begins_with(module) || row.is_some_and(|(_, allowed)| allowed.iter().any(|allowed| begins_with(allowed)))
}

/// Every path into the crate that a file names: the file's own module path is where `self` and `super` count from.
fn paths_named(source: &str, module: &[String]) -> BTreeSet<String> {
    let tokens: TokenStream = source.parse().unwrap();
    let mut found = BTreeSet::new();
    collect(tokens, module, &mut found);
    found
}

fn collect(tokens: TokenStream, module: &[String], found: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Ident(word) if word == "mod" => {
                if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                    (tokens.get(at), tokens.get(at + 1))
                {
                    let mut inner = module.to_vec();
                    inner.push(name.to_string());
                    collect(body.stream(), &inner, found);
                    at += 2;
                }
            }
            TokenTree::Ident(word) if word == "crate" || word == "super" || word == "self" => {
                let start = if word == "crate" { &[][..] } else { module };
                let mut prefix = start.to_vec();
                prefix.push(word.to_string());
                at = follow(&tokens, at, prefix, found);
            }
            TokenTree::Group(group) => collect(group.stream(), module, found),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Follows one path, and all branches of a braced import, from the token after its first word. Returns where it ends.
fn follow(tokens: &[TokenTree], mut at: usize, mut path: Vec<String>, found: &mut BTreeSet<String>) -> usize {
    let is_colon =
        |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    while is_colon(at) && is_colon(at + 1) {
        match tokens.get(at + 2) {
            Some(TokenTree::Ident(word)) => {
                path.push(word.to_string());
                at += 3;
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                branch(group.stream(), &path, found);
                return at + 3;
            }
            _ => break,
        }
    }
    found.insert(resolve(&path));
    at
}

fn branch(group: TokenStream, path: &[String], found: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = group.into_iter().collect();
    for part in tokens.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')) {
        match part.first() {
            Some(TokenTree::Ident(word)) => {
                let mut path = path.to_vec();
                path.push(word.to_string());
                follow(part, 1, path, found);
            }
            Some(TokenTree::Group(group)) => branch(group.stream(), path, found),
            Some(TokenTree::Punct(_)) => _ = found.insert(resolve(path)),
            Some(TokenTree::Literal(_)) | None => {}
        }
    }
}

fn resolve(path: &[String]) -> String {
    let mut resolved: Vec<&str> = Vec::new();
    for word in path {
        match word.as_str() {
            "crate" | "self" => {}
            "super" => _ = resolved.pop(),
            word => resolved.push(word),
        }
    }
    resolved.join("::")
}

/// `src/auth/log_in.rs` is `auth::log_in`; `mod.rs` and `lib.rs` are the directory that they stand in.
fn module_of(file: &Path) -> Vec<String> {
    let inside = file
        .strip_prefix(tree::root().join("src"))
        .unwrap()
        .with_extension("");
    let mut words: Vec<String> = inside
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if words.last().is_some_and(|last| last == "mod" || last == "lib") {
        words.pop();
    }
    words
}

fn modules() -> BTreeMap<String, BTreeSet<String>> {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let source = tree::root().join("src");
    for file in tree::files_below(&source) {
        if file.extension().is_none_or(|extension| extension != "rs") || file.starts_with(source.join("bin"))
        {
            continue;
        }
        let module = module_of(&file);
        let Some(top) = module.first() else { continue };
        let named = paths_named(&fs::read_to_string(&file).unwrap(), &module);
        uses.entry(top.clone()).or_default().extend(named);
    }
    uses
}

#[test]
fn imports_point_one_way() {
    let uses = modules();
    let mut broken = Vec::new();
    for (module, paths) in &uses {
        assert!(
            RULES.iter().any(|(name, _)| name == module),
            "src/{module}: decide what it may use of ours, and give it a row in the rules"
        );
        // A path of no module of ours is one of a crate that happens to begin like a keyword, or of the root itself.
        let ours = paths
            .iter()
            .filter(|path| uses.keys().any(|name| path.split("::").next() == Some(name)));
        broken.extend(
            ours.filter(|path| !may_use(module, path))
                .map(|path| format!("{module} uses {path}")),
        );
    }
    assert!(
        broken.is_empty(),
        "imports against the one-way rule:\n{}",
        broken.join("\n")
    );
    assert!(
        uses["grpc"].iter().any(|path| path.starts_with("auth::")),
        "the reader of imports sees nothing"
    );
}

#[test]
fn every_row_of_the_rules_is_a_module() {
    let uses = modules();
    for (module, _) in RULES {
        assert!(
            uses.contains_key(*module),
            "{module} has a row in the rules but no source"
        );
    }
}

#[test]
fn a_forbidden_import_is_seen_however_it_is_written() {
    let source = r#"
        //! Not an import: crate::telemetry.
        use crate::{domain::{Email, self}, store::{SessionStore, memory::{self as m, *}}};
        use super::{super::pb, mark};
        fn call() { tracing::info!("{}", crate::auth::Auth::new()); }
        mod tests { use super::super::super::config::Settings; use super::*; }
    "#;
    let module = ["password".to_owned(), "pool".to_owned()];
    let found: Vec<String> = paths_named(source, &module).into_iter().collect();
    assert_eq!(
        found,
        [
            "auth::Auth::new",
            "config::Settings",
            "domain",
            "domain::Email",
            "password::mark",
            "password::pool",
            "pb",
            "store::SessionStore",
            "store::memory",
        ]
    );
    assert!(may_use("password", "domain::Email") && !may_use("password", "store::SessionStore"));
    assert!(may_use("grpc", "store::Told") && !may_use("grpc", "store::SessionStore"));
}
