//! What every key came to and where that was said: noted while a file is read, and only where `meshd config show` asks for it.

use std::fmt;
use std::path::PathBuf;

use toml::de::DeValue;

use crate::error::Fault;
use crate::read::{Located, Reader, Section};
use crate::shape;
use crate::source::Place;

/// A key, the value that the daemon uses, and where that comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The table of `meshd.toml` or of the mesh, such as `session`.
    pub table: &'static str,
    /// The key in it.
    pub key: &'static str,
    /// Its value.
    pub value: Value,
    /// Who said so.
    pub origin: Origin,
}

impl Setting {
    /// The header of its table, such as `[session]`.
    #[must_use]
    pub fn header(&self) -> String {
        let shape = shape::ALL_TABLES.iter().find(|shape| shape.name == self.table);
        shape.map_or_else(|| format!("[{}]", self.table), ToString::to_string)
    }
}

/// A value as it can be shown; as a text it is TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// There is none.
    Absent,
    /// There is one, and nobody is shown it.
    Secret,
    /// A switch.
    Switch(bool),
    /// A whole number.
    Number(u64),
    /// A text, a duration, an address and so on.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No file names it.
    Default,
    /// A file does.
    File {
        /// The file as the operator named it.
        file: PathBuf,
        /// Line, counted from 1.
        line: u32,
        /// Column in characters, counted from 1.
        column: u32,
        /// The mesh's table of arguments that it stands in, such as `[defaults.args]`; `None` outside of these.
        args: Option<String>,
    },
}

/// A value and where it was said, for messages that come when its file is no longer at hand.
#[derive(Clone, Debug)]
pub(crate) struct Said<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

impl Value {
    /// A text, from what has a text form.
    pub(crate) fn text(value: &impl ToString) -> Self {
        Self::Text(value.to_string())
    }

    /// A list of texts, from what has text forms.
    pub(crate) fn list<T: ToString>(values: &[T]) -> Self {
        Self::List(values.iter().map(ToString::to_string).collect())
    }

    /// The word of a closed set that means this.
    pub(crate) fn word<T: PartialEq>(value: &T, choices: &[(&str, T)]) -> Self {
        let word = choices.iter().find(|(_, choice)| choice == value);
        word.map_or(Self::Absent, |(word, _)| Self::Text((*word).to_owned()))
    }
}

impl fmt::Display for Value {
    /// Writes TOML; what has none in parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("(none)"),
            Self::Secret => f.write_str("(set)"),
            Self::Switch(switch) => switch.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => quoted(f, text),
            Self::List(texts) => {
                f.write_str("[")?;
                for (index, text) in texts.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { ", " })?;
                    quoted(f, text)?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Writes a basic string (TOML 1.0, "String").
fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            c if c.is_control() => write!(f, "\\u{:04X}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

impl fmt::Display for Origin {
    /// Writes the file and line, and the table of arguments.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line, args, .. } => {
                write!(f, "{}:{line}", file.display())?;
                args.as_ref().map_or(Ok(()), |args| write!(f, " {args}"))
            }
        }
    }
}

impl Origin {
    /// The place in front of a warning; empty for a default.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Default => String::new(),
            Self::File { file, line, column, .. } => format!("{}:{line}:{column}: ", file.display()),
        }
    }
}

impl Reader<'_> {
    /// Where an offset of this file is, as the origin of a value.
    pub(crate) fn origin(&self, at: usize) -> Origin {
        let Place { line, column } = self.source.place(at);
        let args = self.within.strip_suffix('.').map(|within| format!("[{within}]"));
        Origin::File { file: self.source.file.to_owned(), line, column, args }
    }

    /// Reads an optional key over what is in `slot`, and notes what is there then. Returns the offset where the file has it.
    pub(crate) fn set<'d, T>(
        &mut self,
        section: Section<'d>,
        key: &'static str,
        slot: &mut T,
        parse: impl FnOnce(&'d DeValue<'d>) -> Result<T, Fault>,
        show: impl FnOnce(&T) -> Value,
    ) -> Option<usize> {
        let read = self.optional(section, key, parse);
        self.put(section, key, slot, read, show)
    }

    /// Reads an optional key that has a default, and notes its value.
    pub(crate) fn value_or<'d, T>(
        &mut self,
        section: Section<'d>,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&'d DeValue<'d>) -> Result<T, Fault>,
        show: impl FnOnce(&T) -> Value,
    ) -> T {
        let mut slot = default;
        self.set(section, key, &mut slot, parse, show);
        slot
    }

    /// Puts what was read, if anything, over what is in `slot`, and notes what is there then. Returns the offset of what was read.
    pub(crate) fn put<T>(
        &mut self,
        section: Section<'_>,
        key: &'static str,
        slot: &mut T,
        read: Option<Located<T>>,
        show: impl FnOnce(&T) -> Value,
    ) -> Option<usize> {
        let at = read.map(|Located { value, at }| {
            *slot = value;
            at
        });
        self.note(section, key, at, || show(slot));
        at
    }

    /// Notes the value that a key has now, and that this file said so at an offset, if it did.
    pub(crate) fn note(
        &mut self,
        section: Section<'_>,
        key: &'static str,
        at: Option<usize>,
        value: impl FnOnce() -> Value,
    ) {
        let origin = at.map(|at| self.origin(at));
        let Some(notes) = &mut self.notes else { return };
        let table = section.shape.name;
        match (notes.iter_mut().find(|note| (note.table, note.key) == (table, key)), origin) {
            (Some(note), Some(origin)) => (note.value, note.origin) = (value(), origin),
            (Some(_), None) => {}
            (None, origin) => {
                notes.push(Setting { table, key, value: value(), origin: origin.unwrap_or(Origin::Default) });
            }
        }
    }

    /// Changes a noted value, where what the daemon uses depends on another key.
    pub(crate) fn amend(&mut self, table: &str, key: &str, value: impl FnOnce() -> Value) {
        if let Some(note) = self.notes.iter_mut().flatten().find(|note| (note.table, note.key) == (table, key)) {
            note.value = value();
        }
    }
}
