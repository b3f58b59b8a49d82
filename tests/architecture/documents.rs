//! Every path that a document for readers names exists.

use crate::tree;
use std::path::Path;

/// The documents that lead a reader through the tree.
fn documents() -> Vec<String> {
    let is_below_a_directory_of_documents =
        |name: &str| name.starts_with("docs/") || name.starts_with("tests/");
    tree::files_below(tree::root())
        .iter()
        .map(|file| tree::name(file))
        .filter(|name| name.ends_with(".md"))
        .filter(|name| !name.contains('/') || is_below_a_directory_of_documents(name))
        .collect()
}

/// What stands between single backticks, outside fenced blocks.
pub(crate) fn code_spans(text: &str) -> Vec<&str> {
    let mut spans = Vec::new();
    let mut is_fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            spans.extend(line.split('`').skip(1).step_by(2));
        }
    }
    spans
}

/// Where the markdown links of a document lead to, fragments cut off; links to elsewhere left out.
fn link_targets(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|target| target.split('#').next().unwrap_or(target))
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

/// Whether a code span is meant as a path in this tree.
pub(crate) fn is_path(span: &str) -> bool {
    const DIRECTORIES: [&str; 11] = [
        ".ci/",
        "benches/",
        "deploy/",
        "docs/",
        "examples/",
        "migrations/",
        "proto/",
        "scripts/",
        "src/",
        "testkit/",
        "tests/",
    ];
    let span = span.strip_prefix("./").unwrap_or(span);
    !span.contains(char::is_whitespace) && DIRECTORIES.iter().any(|directory| span.starts_with(directory))
}

#[test]
fn every_path_that_a_document_names_exists() {
    let mut missing = Vec::new();
    let mut named = 0;
    for document in documents() {
        let text = tree::read(&document);
        let beside = Path::new(&document).parent().unwrap();
        let paths = code_spans(&text)
            .into_iter()
            .filter(|span| is_path(span))
            .map(|span| tree::root().join(span));
        let links = link_targets(&text)
            .into_iter()
            .map(|target| tree::root().join(beside).join(target));
        for path in paths.chain(links) {
            named += 1;
            if !path.exists() {
                missing.push(format!("{document}: {}", tree::name(&path)));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "documents name what is not there:\n{}",
        missing.join("\n")
    );
    assert!(named > 10, "only {named} paths were found in the documents");
}

#[test]
fn every_decision_is_listed_and_has_its_four_parts() {
    const PARTS: [&str; 4] = [
        "**Context.** ",
        "**Decision.** ",
        "**Weighed.**",
        "**Consequences.** ",
    ];
    let directory = tree::root().join("docs/decisions");
    let list = tree::read("docs/decisions/README.md");
    let listed = link_targets(&list);
    let pages: Vec<String> = tree::files_below(&directory)
        .iter()
        .filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
        .filter(|name| name != "README.md")
        .collect();
    assert!(!pages.is_empty(), "no decision was found");
    for page in pages {
        assert!(
            listed.contains(&page.as_str()),
            "docs/decisions/README.md does not list {page}"
        );
        let text = tree::read(&format!("docs/decisions/{page}"));
        let places: Vec<Option<usize>> = PARTS.iter().map(|part| text.find(part)).collect();
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{page} has not the four parts of a decision in their order"
        );
    }
}
