//! meshd.toml(5) from the annotated reference: each table a section, each key an entry with the comment above it as its text.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The page in the language of man(7).
pub(super) fn page(reference: &str, version: &str) -> String {
    let mut page = format!(".TH MESHD.TOML 5 \"\" \"meshd {version}\"\n.ad l\n.nh\n");
    page.push_str(
        ".SH NAME\nmeshd.toml \\- configuration of meshd\n.SH SYNOPSIS\n.I /etc/meshd/meshd.toml\n.SH DESCRIPTION\n",
    );
    let mut writer = Writer { page, ..Writer::default() };
    reference.lines().for_each(|line| writer.line(line));
    writer.flush();
    writer.page + ".SH SEE ALSO\n.BR meshd (1),\n.BR meshd\\-config\\-check (1)\n"
}

/// The assignment in a line: also one that a `#` right before it makes an example.
pub(super) fn key(line: &str) -> Option<&str> {
    let line = line.strip_prefix('#').unwrap_or(line);
    let name = line.split(" = ").next().filter(|name| *name != line)?;
    let is_key = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    is_key.then_some(line)
}

#[derive(Default)]
struct Writer {
    page: String,
    /// Lines of the comment that is being read.
    comment: Vec<String>,
    /// The assignments below it.
    keys: Vec<String>,
    sections: BTreeSet<String>,
}

impl Writer {
    fn line(&mut self, line: &str) {
        if let Some(key) = key(line) {
            self.keys.push(key.to_owned());
        } else if line.starts_with('[') {
            self.flush();
            self.section(line);
        } else if let Some(text) = line.strip_prefix('#') {
            if !self.keys.is_empty() {
                self.flush();
            }
            self.comment.push(text.strip_prefix(' ').unwrap_or(text).to_owned());
        } else {
            self.flush();
        }
    }

    /// A table begins. One that was there already is a further example.
    fn section(&mut self, line: &str) {
        if self.sections.insert(line.to_owned()) {
            let _ = writeln!(self.page, ".SH {}", escaped(line));
        }
    }

    /// Writes what has been read: an entry, or a paragraph where there is no key. Keys without a comment are a further example.
    fn flush(&mut self) {
        let (comment, keys) = (std::mem::take(&mut self.comment), std::mem::take(&mut self.keys));
        if comment.is_empty() {
            return;
        }
        for (number, key) in keys.iter().enumerate() {
            let macro_ = if number == 0 { ".TP" } else { ".TQ" };
            let _ = write!(self.page, "{macro_}\n.B {}\n", escaped(key));
        }
        if keys.is_empty() {
            self.page.push_str(".PP\n");
        }
        for line in &comment {
            // A line that is set in keeps its place; an empty one begins a paragraph.
            match line.trim() {
                "" if keys.is_empty() => self.page.push_str(".PP\n"),
                "" => self.page.push_str(".IP\n"),
                text if line.starts_with("  ") => drop(write!(self.page, ".br\n\\ \\ {}\n", escaped(text))),
                text => drop(writeln!(self.page, "{}", escaped(text.trim_matches('-').trim()))),
            }
        }
    }
}

/// Text as it is: no line of it is a request, and no quote or hyphen becomes another character.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq").replace('`', "\\(ga");
    let text = text.replace('\'', "\\(aq").replace('~', "\\(ti").replace('^', "\\(ha");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}
