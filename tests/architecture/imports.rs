//! The one-way rule: which module of the library may use which other. The code map of ARCHITECTURE.md is the rule; this reads it.

use crate::{documents::code_spans, tree};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::LazyLock,
};

/// The code map as it stands in the tree.
static CODE_MAP: LazyLock<Vec<Row>> = LazyLock::new(|| code_map(&tree::read("ARCHITECTURE.md")));

/// One row of the code map.
pub(crate) struct Row {
    /// The top-level module of the library, or `bin` for the programs.
    module: String,
    /// What it may use of ours, as beginnings of paths from the crate's root; itself always.
    may_import: MayImport,
}

enum MayImport {
    Everything,
    Only(Vec<String>),
}

/// The rows of the code map: `| `src/module` | what it holds | `domain`, `store::{Cursor, RevocationLog}` |`.
fn code_map(document: &str) -> Vec<Row> {
    let table = document
        .lines()
        .skip_while(|line| !line.starts_with("| where | what | may import of ours |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    table
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [place, _, imports] = cells[..] else {
                panic!("the code map has a row that has not three cells: {line}")
            };
            Row {
                module: module_named(place).unwrap_or_else(|| panic!("no directory or file of src: {place}")),
                may_import: may_import(imports),
            }
        })
        .collect()
}

/// `auth` for "`src/auth`", `pb` for "`src/pb.rs`".
fn module_named(place: &str) -> Option<String> {
    let name = place.strip_prefix("`src/")?.strip_suffix('`')?;
    Some(name.strip_suffix(".rs").unwrap_or(name).to_owned())
}

fn may_import(cell: &str) -> MayImport {
    match cell {
        "everything" => MayImport::Everything,
        "nothing" => MayImport::Only(Vec::new()),
        list => {
            let paths: Vec<String> = code_spans(list).into_iter().flat_map(expanded).collect();
            assert!(
                !paths.is_empty(),
                "neither paths nor 'nothing' nor 'everything': {list}"
            );
            MayImport::Only(paths)
        }
    }
}

/// `store::{Cursor, RevocationLog}` is two paths.
fn expanded(path: &str) -> Vec<String> {
    match path.strip_suffix('}').and_then(|path| path.split_once('{')) {
        Some((prefix, names)) => names
            .split(',')
            .map(|name| format!("{prefix}{}", name.trim()))
            .collect(),
        None => vec![path.to_owned()],
    }
}

/// Whether code in `module` may name something at `path`, both counted from the crate's root.
pub(crate) fn may_use(module: &str, path: &str) -> bool {
    is_allowed(&CODE_MAP, module, path)
}

fn is_allowed(rows: &[Row], module: &str, path: &str) -> bool {
    let begins_with = |allowed: &str| path == allowed || path.starts_with(&format!("{allowed}::"));
    let row = rows.iter().find(|row| row.module == module);
    begins_with(module)
        || row.is_some_and(|row| match &row.may_import {
            MayImport::Everything => true,
            MayImport::Only(paths) => paths.iter().any(|allowed| begins_with(allowed)),
        })
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
            CODE_MAP.iter().any(|row| row.module == *module),
            "src/{module}: decide what it may use of ours, and give it a row in ARCHITECTURE.md's code map"
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
fn no_row_of_the_code_map_allows_what_its_module_does_not_import() {
    let uses = modules();
    let mut unused = Vec::new();
    for row in CODE_MAP.iter() {
        let (MayImport::Only(paths), Some(used)) = (&row.may_import, uses.get(&row.module)) else {
            continue;
        };
        for allowed in paths {
            let inside = format!("{allowed}::");
            if !used
                .iter()
                .any(|path| path == allowed || path.starts_with(&inside))
            {
                unused.push(format!("{} may import {allowed} but does not", row.module));
            }
        }
    }
    assert!(
        unused.is_empty(),
        "the code map allows too much:\n{}",
        unused.join("\n")
    );
}

#[test]
fn every_row_of_the_code_map_is_there_and_imports_from_rows_above_it() {
    let mut above: Vec<&str> = Vec::new();
    for Row { module, may_import } in CODE_MAP.iter() {
        let place = tree::root().join("src").join(module);
        assert!(
            place.is_dir() || place.with_extension("rs").is_file(),
            "{module} has a row in the code map but no source"
        );
        if let MayImport::Only(paths) = may_import {
            for path in paths {
                let used = path.split("::").next().unwrap();
                assert!(
                    above.contains(&used),
                    "{module} may import {path}, but no row above it is {used}"
                );
            }
        }
        above.push(module);
    }
    assert!(
        above.len() > 10,
        "only {} rows were found in the code map",
        above.len()
    );
}

#[test]
fn the_code_map_is_read_as_it_is_written() {
    let rows = code_map(
        "# A page

| where | what | may import of ours |
|---|---|---|
| `src/domain` | words | nothing |
| `src/grpc` | the contract | `domain`, `store::{Cursor, RevocationLog}` |
| `src/pb.rs` | messages | nothing |
| `src/bin` | programs | everything |

| `src/no_row` | of another table | everything |
",
    );
    let modules: Vec<&str> = rows.iter().map(|row| row.module.as_str()).collect();
    assert_eq!(modules, ["domain", "grpc", "pb", "bin"]);
    assert!(is_allowed(&rows, "grpc", "domain::Email") && is_allowed(&rows, "grpc", "store::Cursor"));
    assert!(is_allowed(&rows, "bin", "store::MemoryStore") && is_allowed(&rows, "pb", "pb::User"));
    assert!(!is_allowed(&rows, "grpc", "store::SessionStore") && !is_allowed(&rows, "grpc", "storehouse"));
    assert!(!is_allowed(&rows, "domain", "grpc") && !is_allowed(&rows, "auth", "domain"));
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
}
