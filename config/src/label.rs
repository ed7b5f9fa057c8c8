//! Labels of endpoints, and the selector that picks endpoints by them.

use std::collections::HashSet;
use std::fmt;

use toml::de::DeTable;

use crate::error::{Fault, quote};
use crate::note::Value;
use crate::read::{Located, Reader, Section};
use crate::shape;

/// Longest name and longest value (as of Kubernetes labels).
const LONGEST: usize = 63;
/// Longest prefix of a name, which is a DNS name.
const LONGEST_PREFIX: usize = 253;
const KEY: &str = "labels";

/// What an operator marks endpoints with: a name, or a name and a value. The rules are those of Kubernetes labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Label(String);

impl Label {
    fn name(&self) -> &str {
        self.0.split_once('=').map_or(self.0.as_str(), |(name, _)| name)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the labels of an endpoint: each name once.
pub(crate) fn read(reader: &mut Reader<'_>, section: Section<'_>) -> Vec<Located<Label>> {
    let labels = reader.list(section, KEY, label);
    let mut seen = HashSet::new();
    for Located { value, at } in &labels {
        if !seen.insert(value.name()) {
            let fault = Fault::new(format!("{} stands twice", quote(value.name())));
            reader.report_key(section, KEY, *at, fault.help("keep one of the two: a label has one value"));
        }
    }
    labels
}

/// Reads `[selector]`: the labels that an endpoint must have, all of them; none, and every endpoint is selected.
pub(crate) fn selector(reader: &mut Reader<'_>, root: &DeTable<'_>) -> Vec<Located<Label>> {
    let section = reader.section(root, &shape::SELECTOR);
    let labels = read(reader, section);
    let at = section.value(KEY).map(|value| value.span().start);
    reader.note(section, KEY, at, || Value::List(labels.iter().map(|label| label.value.to_string()).collect()));
    labels
}

fn label(text: &str) -> Result<Label, Fault> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let (prefix, own) = name.split_once('/').map_or((None, name), |(prefix, own)| (Some(prefix), own));
    let is_prefix = prefix.is_none_or(|prefix| prefix.len() <= LONGEST_PREFIX && prefix.split('.').all(is_dns_label));
    if !is_prefix || !is_word(own) || !(value.is_empty() || is_word(value)) {
        let fault = Fault::new(format!("{} is no label", quote(text)));
        return Err(fault.help(
            "write a name or name=value, each 1 to 63 letters, digits and inner '-', '_' and '.', such as \"edge\" or \"site=beijing\"",
        ));
    }
    // Without a value is the same as with an empty one.
    Ok(Label(text.strip_suffix('=').unwrap_or(text).to_owned()))
}

fn is_word(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = [text.bytes().next(), text.bytes().last()];
    text.len() <= LONGEST
        && text.bytes().all(is_inner)
        && ends.iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()))
}

fn is_dns_label(text: &str) -> bool {
    let characters = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    characters && (1..=63).contains(&text.len()) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_name_with_or_without_a_value() {
        for (text, kept) in [
            ("edge", "edge"),
            ("edge=", "edge"),
            ("site=beijing", "site=beijing"),
            ("node-role.kubernetes.io/edge=", "node-role.kubernetes.io/edge"),
            ("A_b.c-d=1.2_3-x", "A_b.c-d=1.2_3-x"),
        ] {
            assert_eq!(label(text).map(|label| label.0), Ok(kept.to_owned()));
        }
        let long = "x".repeat(64);
        for text in ["", "=x", "-a", "a-", "a b", "a=b=c", "a=-b", "é", "/a", "A.b/c", "a/b/c", "a/", &long] {
            assert!(label(text).is_err(), "{text}");
        }
        assert!(label(&long[1..]).is_ok());
    }
}
