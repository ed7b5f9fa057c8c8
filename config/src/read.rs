//! Walks a parsed TOML file by hand: records every problem and goes on, where serde would stop at the first.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Fault, Problem, quote};
use crate::note::Setting;
use crate::scalar::{self, article};
use crate::shape::{self, Shape};
use crate::source::{Place, Source};
use crate::syntax::{self, Complaint, Damage};
use crate::{args, suggest};

/// A table of a file, or the place of one that is absent and has its defaults.
#[derive(Clone, Copy)]
pub(crate) struct Section<'d> {
    pub(crate) shape: &'static Shape,
    /// Offset of its header; 0 where it is absent.
    pub(crate) at: usize,
    table: Option<&'d DeTable<'d>>,
}

impl<'d> Section<'d> {
    /// The value of a key.
    pub(crate) fn value(&self, key: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.table.and_then(|table| table.get(key))
    }

    /// Offset of a key's value; the header's where the key is absent.
    pub(crate) fn place_of(&self, key: &str) -> usize {
        self.value(key).map_or(self.at, |value| value.span().start)
    }
}

/// A value and the offset where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) at: usize,
}

/// One file under inspection, and what is wrong with it so far.
pub(crate) struct Reader<'t> {
    pub(crate) source: Source<'t>,
    /// What stands in front of a table's name where it lies in another: `defaults.args.`, or nothing.
    pub(crate) within: String,
    /// What every key came to, where that is asked for.
    pub(crate) notes: Option<Vec<Setting>>,
    problems: Vec<Problem>,
    damage: Damage,
}

impl<'t> Reader<'t> {
    pub(crate) fn new(file: &'t Path, text: &'t str) -> Self {
        let source = Source::new(file, text);
        Self { source, within: String::new(), notes: None, problems: Vec::new(), damage: Damage::default() }
    }

    /// Parses the text, as far as it can be parsed.
    pub(crate) fn parse(&mut self) -> DeTable<'t> {
        let (root, complaints, damage) = syntax::parse(&self.source);
        for Complaint { at, key, fault } in complaints {
            self.report(at, key, fault);
        }
        self.damage = damage;
        root
    }

    /// Whether no syntax error took a part of the file: only then is what seems missing missing indeed.
    pub(crate) fn is_whole(&self) -> bool {
        self.damage.is_none()
    }

    /// Records a problem of what stands at an offset, unless a syntax error makes that guesswork.
    pub(crate) fn report(&mut self, at: usize, key: impl Into<String>, Fault { message, help }: Fault) {
        let Place { line, column } = self.source.place(at);
        if self.damage.spares(line) {
            let (file, key) = (self.source.file.to_owned(), key.into());
            self.problems.push(Problem { file, line, column, key, message, help });
        }
    }

    /// Everything recorded, in the order of the file.
    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems
    }

    /// Refuses top-level names that `shapes` does not have; those of `elsewhere` belong in `meshd.toml`.
    pub(crate) fn root(&mut self, root: &DeTable<'_>, shapes: &[&'static Shape], elsewhere: &[&'static Shape]) {
        for (key, value) in root {
            let name: &str = key.get_ref();
            if shapes.iter().any(|shape| shape.name == name) {
                continue;
            }
            let items = value.get_ref().as_array().map_or(&[][..], |array| array);
            let is_table = value.get_ref().is_table() || items.iter().any(|item| item.get_ref().is_table());
            let what = if is_table { "table" } else { "key" };
            let fault = Fault::new(format!("unknown {what} {} at the top of the file", quote(name)));
            let owners: Vec<_> = shapes.iter().filter(|shape| !is_table && shape.keys.contains(&name)).collect();
            let fault = if let Some(shape) = elsewhere.iter().find(|shape| shape.name == name) {
                let all = if args::may_have(name) {
                    format!("; for all nodes write [defaults.args.{name}]")
                } else {
                    String::new()
                };
                fault.help(format!("{shape} belongs in meshd.toml{all}"))
            } else if let [owner] = owners.as_slice() {
                fault.help(format!("it belongs in {owner}"))
            } else if let Some(near) = suggest::nearest(name, shapes.iter().map(|shape| shape.name)) {
                fault.help(format!("did you mean \"{near}\"?"))
            } else {
                let known: Vec<_> = shapes.iter().map(ToString::to_string).collect();
                fault.help(format!("known tables: {}", known.join(", ")))
            };
            self.report(key.span().start, name, fault);
        }
    }

    /// The one table of a shape; the absent one where the file has none, or something else by its name.
    pub(crate) fn section<'d>(&mut self, root: &'d DeTable<'d>, shape: &'static Shape) -> Section<'d> {
        let absent = Section { shape, at: 0, table: None };
        let Some(value) = root.get(shape.name) else { return absent };
        if let Some(table) = value.get_ref().as_table() {
            return self.checked(Section { shape, at: value.span().start, table: Some(table) });
        }
        let fault = Fault::new(format!("{} must be one table, not {}", shape.name, article(value.get_ref())));
        self.report(value.span().start, shape.name, fault.help(format!("write {}, once", self.title(shape))));
        absent
    }

    /// The table of a shape once more, which [`section`](Self::section) has reported on.
    pub(crate) fn again<'d>(&self, root: &'d DeTable<'d>, shape: &'static Shape) -> Section<'d> {
        let value = root.get(shape.name);
        Section {
            shape,
            at: value.map_or(0, |value| value.span().start),
            table: value.and_then(|value| value.get_ref().as_table()),
        }
    }

    /// The table of a shape that begins at an offset, of those that [`sections`](Self::sections) has reported on.
    pub(crate) fn that<'d>(&self, root: &'d DeTable<'d>, shape: &'static Shape, at: usize) -> Section<'d> {
        let all = root.get(shape.name).and_then(|value| value.get_ref().as_array());
        let found = all.and_then(|all| all.iter().find(|value| value.span().start == at));
        Section { shape, at, table: found.and_then(|value| value.get_ref().as_table()) }
    }

    /// How a message names a table.
    pub(crate) fn title(&self, shape: &Shape) -> String {
        if self.within.is_empty() { shape.to_string() } else { format!("[{}{}]", self.within, shape.name) }
    }

    /// All tables of a shape that may stand more than once.
    pub(crate) fn sections<'d>(&mut self, root: &'d DeTable<'d>, shape: &'static Shape) -> Vec<Section<'d>> {
        let Some(value) = root.get(shape.name) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            let message = format!("{} must be a list of tables, not {}", shape.name, article(value.get_ref()));
            let fault = Fault::new(message).help(format!("write {shape}, with two brackets"));
            self.report(value.span().start, shape.name, fault);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(array.len());
        for value in array.iter() {
            let at = value.span().start;
            match value.get_ref().as_table() {
                Some(table) => sections.push(self.checked(Section { shape, at, table: Some(table) })),
                None => {
                    let message = format!("{} must be a table, not {}", shape.name, article(value.get_ref()));
                    self.report(at, shape.name, Fault::new(message).help(format!("write {shape}")));
                }
            }
        }
        sections
    }

    /// Refuses the keys of a table that its shape does not have.
    fn checked<'d>(&mut self, section: Section<'d>) -> Section<'d> {
        let shape = section.shape;
        for (key, _) in section.table.into_iter().flatten() {
            let name: &str = key.get_ref();
            if shape.keys.contains(&name) || args::is_for_node(shape, name) {
                continue;
            }
            let fault = Fault::new(format!("unknown key {} in {}", quote(name), self.title(shape)));
            let fault = match suggest::nearest(name, shape.keys.iter().copied()) {
                Some(near) => fault.help(format!("did you mean \"{near}\"?")),
                None => match shape::owner_of(name) {
                    Some(owner) => fault.help(format!("it belongs in {owner}")),
                    None => fault.help(format!("known keys: {}", shape.keys.join(", "))),
                },
            };
            self.report(key.span().start, format!("{}{}.{name}", self.within, shape.name), fault);
        }
        section
    }

    /// Reports a fault of one key of a table.
    pub(crate) fn report_key(&mut self, section: Section<'_>, key: &str, at: usize, fault: Fault) {
        let message = format!("{} {key}: {}", self.title(section.shape), fault.message);
        self.report(at, format!("{}{}.{key}", self.within, section.shape.name), Fault { message, help: fault.help });
    }

    /// Reads an optional key; `None` where it is absent or refused.
    pub(crate) fn optional<'d, T>(
        &mut self,
        section: Section<'d>,
        key: &str,
        parse: impl FnOnce(&'d DeValue<'d>) -> Result<T, Fault>,
    ) -> Option<Located<T>> {
        let value = section.value(key)?;
        let at = value.span().start;
        match parse(value.get_ref()) {
            Ok(value) => Some(Located { value, at }),
            Err(fault) => {
                self.report_key(section, key, at, fault);
                None
            }
        }
    }

    /// Reads a key that must be there; `example` is the line to add where it is not.
    pub(crate) fn required<'d, T>(
        &mut self,
        section: Section<'d>,
        key: &str,
        example: &str,
        parse: impl FnOnce(&'d DeValue<'d>) -> Result<T, Fault>,
    ) -> Option<Located<T>> {
        if section.value(key).is_none() && self.is_whole() {
            let shape = section.shape;
            let fault = match section.table {
                Some(_) => Fault::new(format!("{shape} has no \"{key}\"")).help(format!("add {example}")),
                None => Fault::new(format!("there is no {shape}")).help(format!("add {shape}, and below it {example}")),
            };
            self.report(section.at, format!("{}.{key}", section.shape.name), fault);
        }
        self.optional(section, key, parse)
    }

    /// Reads an optional list of texts, each parsed on its own; refused ones are left out.
    pub(crate) fn list<T>(
        &mut self,
        section: Section<'_>,
        key: &str,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Vec<Located<T>> {
        let Some(value) = section.value(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            let message = format!("must be a list, not {}", article(value.get_ref()));
            let help = value
                .get_ref()
                .as_str()
                .map_or("write [\"…\", \"…\"]".to_owned(), |one| format!("write [{}]", quote(one)));
            self.report_key(section, key, value.span().start, Fault::new(message).help(help));
            return Vec::new();
        };
        let mut items = Vec::with_capacity(array.len());
        for item in array.iter() {
            let at = item.span().start;
            match scalar::text(item.get_ref()).and_then(&parse) {
                Ok(value) => items.push(Located { value, at }),
                Err(fault) => self.report_key(section, key, at, fault),
            }
        }
        items
    }
}
