//! What is to be found in the memory of another process.

use rustix::process::Pid;
use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    process::Command,
};

const PAGE: usize = 4096;

/// Copies what a process holds in memory, but for empty pages, into a file.
///
/// # Errors
/// If the kernel does not let this process look.
pub(crate) fn dump(pid: Pid, into: &Path) -> io::Result<()> {
    let pid = pid.as_raw_nonzero();
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut dump = File::create(into)?;
    let mut chunk = vec![0; 256 * PAGE];
    let empty = [0; PAGE];
    for map in maps.lines() {
        let mut words = map.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        // What is not writable holds the program, not what came over the network.
        if !rights.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let address = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let (mut at, end) = (address(from), address(to));
        while at < end {
            let length = usize::try_from(end - at).unwrap().min(chunk.len());
            // A region may be gone by now.
            if memory.read_exact_at(&mut chunk[..length], at).is_err() {
                break;
            }
            for page in chunk[..length].chunks(PAGE).filter(|page| **page != empty) {
                dump.write_all(page)?;
            }
            at += length as u64;
        }
    }
    Ok(())
}

/// How often these texts stand in a file.
pub(crate) fn occurrences(texts: &[&str], file: &Path) -> usize {
    let mut grep = Command::new("grep");
    grep.args(["--text", "--only-matching", "--fixed-strings"]);
    for text in texts {
        grep.args(["-e", text]);
    }
    let output = grep.arg("--").arg(file).env("LC_ALL", "C").output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().count()
}
