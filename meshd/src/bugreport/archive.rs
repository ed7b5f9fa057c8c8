//! The parts of a report, and the tar file that they become.

use std::fmt::Write as _;
use std::io;

use crate::cli::{bytes, count};

/// Most bytes of a part; what is more is cut off.
pub(super) const MAX_PART: usize = 8 << 20;

/// Most bytes of all parts together: what any issue tracker takes once compressed.
const MAX_TOTAL: usize = 48 << 20;

/// The folder that everything is in.
const FOLDER: &str = "meshd-bugreport";

/// What an operator should know before passing a report on.
pub(crate) const WARNING: &str =
    "Public addresses and names of your mesh are in it; keys, tokens and passwords are not.";

/// A file of the report.
pub(super) struct Part {
    pub(super) name: &'static str,
    /// What is in it, or why it is not there.
    pub(super) content: Result<Vec<u8>, String>,
}

impl Part {
    /// Cuts what is too long, and says so at its end.
    pub(super) fn new(name: &'static str, content: Result<Vec<u8>, String>) -> Self {
        let cut = |mut bytes: Vec<u8>| {
            if bytes.len() > MAX_PART {
                bytes.truncate(MAX_PART);
                bytes.extend_from_slice(b"\n(cut off here)\n");
            }
            bytes
        };
        Self { name, content: content.map(cut) }
    }
}

/// Leaves out parts from the end of the list until all fit.
pub(super) fn bound(parts: &mut [Part]) {
    let mut total = 0;
    for part in parts {
        let len = part.content.as_ref().map_or(0, Vec::len);
        if total + len > MAX_TOTAL {
            part.content = Err("the report is full".to_owned());
        } else {
            total += len;
        }
    }
}

/// A line for each part: its size, or why it is not there.
pub(super) fn contents(parts: &[Part]) -> String {
    let width = parts.iter().map(|part| part.name.len()).max().unwrap_or_default();
    let mut out = String::new();
    for part in parts {
        let text = match &part.content {
            Ok(content) => bytes(content.len() as u64),
            Err(reason) => format!("not there: {reason}"),
        };
        let _ = writeln!(out, "  {:width$}  {text}", part.name);
    }
    out
}

/// The tar file (POSIX.1-1988 ustar), with a list of its contents. `seconds` is the time of its entries, since the Unix epoch.
///
/// # Errors
/// Never, save for want of memory.
pub(super) fn tar(parts: &[Part], seconds: u64) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let there = parts.iter().filter_map(|part| Some((part.name, part.content.as_ref().ok()?)));
    let number = count(parts.iter().filter(|part| part.content.is_ok()).count() as u64, "part");
    let readme = format!("A report on a meshd node: {number}.\n{WARNING}\n\n{}", contents(parts)).into_bytes();
    for (name, content) in std::iter::once(("README.txt", &readme)).chain(there) {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(seconds);
        builder.append_data(&mut header, format!("{FOLDER}/{name}"), content.as_slice())?;
    }
    builder.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn the_archive_holds_what_is_there_and_tells_what_is_not() {
        let parts = [
            Part::new("a.txt", Ok(b"here".to_vec())),
            Part::new("b/c.json", Err("the daemon does not run".to_owned())),
        ];
        let tar = tar(&parts, 1_700_000_000).unwrap();
        let mut archive = tar::Archive::new(tar.as_slice());
        let mut read = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let (path, mut text) = (entry.path().unwrap().display().to_string(), String::new());
            entry.read_to_string(&mut text).unwrap();
            read.push((path, text));
        }
        assert_eq!(read.len(), 2);
        assert!(read[0].1.contains("b/c.json  not there: the daemon does not run"), "{}", read[0].1);
        assert_eq!(read[1], ("meshd-bugreport/a.txt".to_owned(), "here".to_owned()));
    }

    #[test]
    fn parts_and_the_whole_are_bounded() {
        let mut parts: Vec<Part> = (0..8).map(|_| Part::new("x", Ok(vec![b'x'; MAX_PART + 1]))).collect();
        assert!(parts[0].content.as_ref().unwrap().ends_with(b"(cut off here)\n"));
        bound(&mut parts);
        let total: usize = parts.iter().filter_map(|part| part.content.as_ref().ok()).map(Vec::len).sum();
        assert!(total <= MAX_TOTAL && parts[7].content.is_err());
    }
}
