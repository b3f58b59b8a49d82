//! What commands print: a table for people, or JSON.

use crate::Failure;
use clap::ArgMatches;
use prost_types::Timestamp as Instant;
use sessiond::domain::Timestamp;
use std::io::{self, Write as _};

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    is_json: bool,
}

impl Output {
    pub(super) fn new(matches: &ArgMatches) -> Self {
        Self {
            is_json: matches.get_flag("json"),
        }
    }

    /// Prints a line for each of the rows, under these headings, or the JSON of each.
    pub(super) fn rows<const N: usize>(
        self,
        headings: [&str; N],
        rows: &[([String; N], serde_json::Value)],
    ) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if self.is_json {
            for (_, json) in rows {
                writeln!(out, "{json}")?;
            }
            return Ok(());
        }
        let cells =
            std::iter::once(headings.map(str::to_owned)).chain(rows.iter().map(|(cells, _)| cells.clone()));
        Ok(out.write_all(table(&cells.collect::<Vec<_>>()).as_bytes())?)
    }

    /// Prints a sentence, or its JSON.
    pub(super) fn sentence(self, text: &str, json: &serde_json::Value) -> Result<(), Failure> {
        match self.is_json {
            true => writeln!(io::stdout(), "{json}")?,
            false => writeln!(io::stdout(), "{}", escape_control_characters(text))?,
        }
        Ok(())
    }
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| escape_control_characters(cell)))
        .collect();
    let width_of = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width_of).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: String = cells.map(|(cell, width)| format!("{cell:width$}  ")).collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// The text with control characters written out: what a user is called must not speak to the terminal.
pub(super) fn escape_control_characters(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c.is_control() {
            true => c.escape_unicode().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}

/// An instant of the contract as text; empty if there is none.
pub(super) fn instant(instant: Option<&Instant>) -> String {
    instant.map_or(String::new(), |instant| {
        let millis = instant
            .seconds
            .saturating_mul(1000)
            .saturating_add(i64::from(instant.nanos) / 1_000_000);
        Timestamp::from_millis(millis).to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["ID", "NAME"], ["a", "é\u{1b}[2J"], ["ccc", "d"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "ID   NAME\na    é\\u{1b}[2J\nccc  d\n");
    }
}
