//! docs/requirements.md defines every code that a name or a comment of the source bears, and says of each what holds it.

use crate::tree;
use proc_macro2::{TokenStream, TokenTree};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

/// The longest name that a function may have.
const LONGEST_NAME: usize = 70;

/// One code of docs/requirements.md, by what its last column says.
#[derive(Debug, PartialEq)]
enum HeldBy {
    Tests,
    NotYet,
    /// A file in place of a test: a lint, a check of another tool, a suite.
    File(String),
}

/// The rows of the tables: `| S-13 | what has to hold | source | tests |`.
fn defined(document: &str) -> BTreeMap<String, HeldBy> {
    let mut codes = BTreeMap::new();
    for line in document.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let Some(code) = cells.first().filter(|cell| codes_in_text(cell).contains(**cell)) else {
            continue;
        };
        let [_, text, source, held_by] = cells[..] else {
            panic!("{code} has not four cells")
        };
        assert!(!text.is_empty() && !source.is_empty(), "{code} has an empty cell");
        let held_by = match held_by {
            "tests" => HeldBy::Tests,
            "not yet" => HeldBy::NotYet,
            file => HeldBy::File(file.trim_matches('`').to_owned()),
        };
        assert!(
            codes.insert((*code).to_owned(), held_by).is_none(),
            "{code} is defined twice"
        );
    }
    codes
}

/// The codes that a text names as documents write them: `S-13`.
fn codes_in_text(text: &str) -> BTreeSet<String> {
    let is_part_of_word = |letter: char| letter.is_alphanumeric() || letter == '-' || letter == '_';
    text.split(|letter| !is_part_of_word(letter))
        .filter(|word| {
            let number = word.strip_prefix("S-").or_else(|| word.strip_prefix("F-"));
            number.is_some_and(is_number)
        })
        .map(str::to_owned)
        .collect()
}

/// The codes that a name begins with: `f_10_f_11_a_dead_server_is_an_error` bears two.
fn codes_in_name(name: &str) -> Vec<String> {
    let words: Vec<&str> = name.split('_').collect();
    words
        .chunks(2)
        .map_while(|pair| match pair {
            [letter @ ("s" | "f"), number] if is_number(number) => {
                Some(format!("{}-{number}", letter.to_uppercase()))
            }
            _ => None,
        })
        .collect()
}

fn is_number(text: &str) -> bool {
    text.len() >= 2 && text.chars().all(|digit| digit.is_ascii_digit())
}

/// Every identifier of a file, those inside macros included: that is where the promises of the stores are listed.
fn identifiers(tokens: TokenStream, found: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(word) => _ = found.insert(word.to_string()),
            TokenTree::Group(group) => identifiers(group.stream(), found),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Path and text of every file of Rust in the tree.
fn rust_files() -> Vec<(String, String)> {
    tree::files_below(tree::root())
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .map(|file| (tree::name(&file), fs::read_to_string(&file).unwrap()))
        .collect()
}

fn names_in(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    identifiers(source.parse().unwrap(), &mut names);
    names
}

#[test]
fn every_code_is_defined_and_every_defined_code_is_held() {
    let defined = defined(&tree::read("docs/requirements.md"));
    let mut borne_by_tests = BTreeSet::new();
    let mut faults = Vec::new();
    for (file, source) in rust_files() {
        let in_names: BTreeSet<String> = names_in(&source)
            .iter()
            .flat_map(|name| codes_in_name(name))
            .collect();
        // This file's own examples are not meant.
        let is_example = file.ends_with("architecture/requirements.rs");
        let in_text = if is_example {
            BTreeSet::new()
        } else {
            codes_in_text(&source)
        };
        for code in in_names.union(&in_text) {
            if !defined.contains_key(code) {
                faults.push(format!("{file}: docs/requirements.md does not define {code}"));
            }
        }
        borne_by_tests.extend(in_names);
    }
    for (code, held_by) in &defined {
        match held_by {
            HeldBy::Tests if !borne_by_tests.contains(code) => {
                faults.push(format!(
                    "{code}: no test bears it: name a test so, or say 'not yet'"
                ));
            }
            HeldBy::NotYet if borne_by_tests.contains(code) => {
                faults.push(format!("{code}: a test bears it, so it is held by 'tests'"));
            }
            HeldBy::File(path) if !tree::root().join(path).is_file() => {
                faults.push(format!("{code}: there is no file {path}"));
            }
            HeldBy::Tests | HeldBy::NotYet | HeldBy::File(_) => {}
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(
        borne_by_tests.len() > 50,
        "only {} codes were found in names",
        borne_by_tests.len()
    );
}

#[test]
fn no_name_is_longer_than_70_characters() {
    let mut too_long = BTreeSet::new();
    for (file, source) in rust_files() {
        for name in names_in(&source) {
            if name.len() > LONGEST_NAME {
                too_long.insert(format!("{file}: {name} ({})", name.len()));
            }
        }
    }
    let too_long: Vec<String> = too_long.into_iter().collect();
    assert!(
        too_long.is_empty(),
        "names that are too long:\n{}",
        too_long.join("\n")
    );
}

#[test]
fn codes_are_read_from_names_texts_and_tables() {
    assert_eq!(codes_in_name("s_33_s_06_every_answer"), ["S-33", "S-06"]);
    assert_eq!(codes_in_name("s_105"), ["S-105"]);
    assert!(codes_in_name("a_name_with_s_13_inside").is_empty());
    assert!(codes_in_name("s_bytes").is_empty());
    let text = "The rule (S-13, F-04), of UTF-8 and ASVS-12, not XS-14.";
    assert_eq!(
        codes_in_text(text).into_iter().collect::<Vec<_>>(),
        ["F-04", "S-13"]
    );
    let table = "| code | requirement | source | held by |\n|---|---|---|---|\n\
        | S-13 | Over is over. | ASVS 7.4.1 | tests |\n| S-99 | Few rights. | ours | not yet |\n\
        | S-103 | No unsafe. | ours | `Cargo.toml` |\n";
    let rows: Vec<(String, HeldBy)> = defined(table).into_iter().collect();
    assert_eq!(
        rows,
        [
            ("S-103".to_owned(), HeldBy::File("Cargo.toml".to_owned())),
            ("S-13".to_owned(), HeldBy::Tests),
            ("S-99".to_owned(), HeldBy::NotYet),
        ]
    );
}
