//! Passwords that everyone tries first: those that are known to be used, and keyboard walks.

use std::cmp::Ordering;

/// One word a line, folded as [`policy`](super::policy) folds, sorted by bytes. Its NOTICE says where it comes from.
const LIST: &[u8] = include_bytes!("common_passwords/list.txt");

/// Rows that fingers walk along, over the end to the start again: those of the common keyboards, and the alphabet.
const ROWS: [&[u8]; 13] = [
    b"1234567890",
    b"abcdefghijklmnopqrstuvwxyz",
    b"qwertyuiop",
    b"asdfghjkl",
    b"zxcvbnm",
    b"1234567890qwertyuiopasdfghjklzxcvbnm",
    b"qwertyuiop[]asdfghjkl;'zxcvbnm,./",
    b"qwertzuiopasdfghjklyxcvbnm",
    b"azertyuiopqsdfghjklmwxcvbn",
    b"qazwsxedcrfvtgbyhnujmikolp",
    b"1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    b"1q2w3e4r5t6y7u8i9o0p",
    b"!@#$%^&*()",
];

/// Whether the list has exactly this word.
pub(super) fn is_listed(word: &str) -> bool {
    // A search by halves over the text itself: `low` and `high` are always starts of lines, or the end.
    let (mut low, mut high) = (0, LIST.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let is_end = |byte: &u8| *byte == b'\n';
        let start = LIST[low..middle]
            .iter()
            .rposition(is_end)
            .map_or(low, |at| low + at + 1);
        let end = LIST[middle..high]
            .iter()
            .position(is_end)
            .map_or(high, |at| middle + at);
        match LIST[start..end].cmp(word.as_bytes()) {
            Ordering::Equal => return true,
            Ordering::Less => low = (end + 1).min(high),
            Ordering::Greater => high = start,
        }
    }
    false
}

/// Whether the text goes along one row, forwards or backwards, from anywhere and however often round.
pub(super) fn is_keyboard_walk(text: &str) -> bool {
    ROWS.iter()
        .any(|row| goes_along(row, text.bytes()) || goes_along(row, text.bytes().rev()))
}

fn goes_along(row: &[u8], text: impl Iterator<Item = u8>) -> bool {
    let mut text = text.peekable();
    // No row has a byte twice, so there is one place to start from.
    let start = row.iter().position(|byte| Some(byte) == text.peek());
    start.is_some_and(|start| {
        text.zip(row.iter().cycle().skip(start))
            .all(|(byte, key)| byte == *key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn lines() -> Vec<&'static str> {
        str::from_utf8(LIST).unwrap().lines().collect()
    }

    #[test]
    fn s_42_the_list_has_3000_passwords_of_the_default_minimum_length() {
        assert!(lines().iter().filter(|line| line.len() >= 15).count() >= 3_000);
        assert!(
            lines()
                .iter()
                .filter(|line| (8..15).contains(&line.len()))
                .count()
                >= 3_000
        );
    }

    #[test]
    fn the_list_is_sorted_and_ends_each_line() {
        assert!(lines().is_sorted_by(|a, b| a.as_bytes() < b.as_bytes()));
        assert_eq!(LIST.last(), Some(&b'\n'));
    }

    #[test]
    fn every_line_of_the_list_is_found_and_nothing_else() {
        let lines = lines();
        let known: HashSet<_> = lines.iter().copied().collect();
        for line in &lines {
            assert!(is_listed(line), "{line}");
            for other in [
                &line[1..],
                &line[..line.len() - 1],
                &format!("{line}!"),
                &format!("{line}\n"),
            ] {
                assert_eq!(is_listed(other), known.contains(other), "{other}");
            }
        }
        for other in ["", "\n", "\u{0}", "\u{ff}", "~~~~~~~~~~~~~~~~~~~", "!"] {
            assert!(!is_listed(other), "{other}");
        }
    }

    #[test]
    fn a_keyboard_walk_goes_along_one_row() {
        for text in [
            "qwertyuiopasdfgh",
            "mnbvcxzlkjhgfdsa",
            "456789012345678901234",
            "1qaz2wsx3edc4rfv",
            "zyxwvutsrqponmlk",
        ] {
            assert!(is_keyboard_walk(text), "{text}");
        }
        for text in ["", "qwertyuiopasdfgj", "correct horse battery", "\u{1f600}"] {
            assert!(!is_keyboard_walk(text), "{text}");
        }
        for row in ROWS {
            assert_eq!(row.iter().collect::<HashSet<_>>().len(), row.len());
        }
    }
}
