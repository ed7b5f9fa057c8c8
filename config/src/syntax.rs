//! Parses a file as TOML, and tells which of its lines can be believed where it is none.

use std::collections::BTreeSet;

use toml::de::{self, DeTable};

use crate::error::{Fault, quote};
use crate::source::Source;

/// Most broken lines that one file reports: behind so many, it is not TOML at all.
const BROKEN_LINES: usize = 10;

/// A complaint of the parser's.
pub(crate) struct Complaint {
    /// Offset of what it is about.
    pub(crate) at: usize,
    /// The key that stands twice; empty for other complaints.
    pub(crate) key: String,
    pub(crate) fault: Fault,
}

/// What a syntax error has taken from a file.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    lines: BTreeSet<u32>,
    /// From here on the parser may have taken one thing for another.
    lost_from: Option<u32>,
}

impl Damage {
    /// Whether nothing is lost: only then is what seems missing missing indeed.
    pub(crate) fn is_none(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether what stands in a line is what the operator wrote there.
    pub(crate) fn spares(&self, line: u32) -> bool {
        !self.lines.contains(&line) && self.lost_from.is_none_or(|lost| line < lost)
    }
}

/// Parses a text, as far as it can be parsed.
pub(crate) fn parse<'t>(source: &Source<'t>) -> (DeTable<'t>, Vec<Complaint>, Damage) {
    let (root, mut errors) = DeTable::parse_recoverable(source.text);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let (mut complaints, mut damage) = (Vec::new(), Damage::default());
    for error in &errors {
        let at = error.span().unwrap_or_default().start;
        if let Some((key, fault)) = repeated(error, source.text) {
            complaints.push(Complaint { at, key, fault });
            continue;
        }
        let line = source.place(at).line;
        if !damage.lines.insert(line) {
            continue;
        }
        let fault = Fault::new(format!("not TOML: {}", error.message()));
        let is_last = damage.lines.len() == BROKEN_LINES;
        let fault = if is_last { fault.help("what follows is not shown: mend this first") } else { fault };
        complaints.push(Complaint { at, key: String::new(), fault });
        let is_runaway = is_runaway(error.message());
        if is_runaway || is_last || is_header(source, at) {
            damage.lost_from.get_or_insert(line);
        }
        if is_runaway || is_last {
            break;
        }
    }
    (root.into_inner(), complaints, damage)
}

/// Explains the parser's complaint about a key or a table that stands twice; nothing is lost to these.
fn repeated(error: &de::Error, text: &str) -> Option<(String, Fault)> {
    if error.message() != "duplicate key" {
        return None;
    }
    let span = error.span()?;
    let written = text.get(span.clone()).unwrap_or_default();
    let name = written.trim_matches(['"', '\'']);
    let fault = if text.get(..span.start).is_some_and(|before| before.ends_with('[')) {
        Fault::new(format!("[{written}] stands twice")).help("merge the two")
    } else {
        Fault::new(format!("key {} is given twice", quote(name))).help("keep one of the two")
    };
    Some((name.to_owned(), fault))
}

/// Whether the parser takes all that follows for a part of the value that it complains about.
fn is_runaway(message: &str) -> bool {
    ["unclosed array,", "unclosed inline", "missing comma", "multi-line"].iter().any(|sign| message.contains(sign))
}

/// Whether the line of an offset is a table's header: what follows a broken one belongs to no known table.
fn is_header(source: &Source<'_>, at: usize) -> bool {
    source.text.get(source.line_start(at)..).is_some_and(|line| line.trim_start_matches([' ', '\t']).starts_with('['))
}
