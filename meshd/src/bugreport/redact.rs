//! Takes secrets out of configuration files: by what their keys are called, with the rest of the text left as it is.
//!
//! Values are found by parsing. In comments, and in files that are not TOML, there is nothing to parse: what follows the name of a
//! secret there goes, and so does all that looks like a key.

use std::ops::Range;

use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

/// What stands where a secret stood.
const TAKEN_OUT: &str = "(taken out)";

/// Characters in a row from which on a word of a comment may be a key: 16 bytes in base64 have 22.
const KEY_LENGTH: usize = 20;

/// A text without its secrets, and these.
pub(super) struct Redacted {
    pub(super) text: String,
    pub(super) secrets: Vec<Zeroizing<String>>,
}

/// Takes the secrets out of a file of configuration.
pub(super) fn redact(text: &str) -> Redacted {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut leaves = Vec::new();
    collect(root.get_ref(), false, &mut leaves);
    let mut secrets: Vec<_> = leaves.iter().filter_map(|leaf| leaf.secret.clone()).collect();
    if !errors.is_empty() {
        secrets.extend(text.lines().filter_map(|line| assignment(line).map(|(_, value)| bare(value))));
        return Redacted { text: text.lines().map(|line| redact_words(line) + "\n").collect(), secrets };
    }
    leaves.sort_by_key(|leaf| leaf.span.start);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for leaf in &leaves {
        out.push_str(&redact_comments(text.get(at..leaf.span.start).unwrap_or_default()));
        match leaf.secret {
            Some(_) => out.push_str(&format!("\"{TAKEN_OUT}\"")),
            None => out.push_str(text.get(leaf.span.clone()).unwrap_or_default()),
        }
        at = leaf.span.end.max(at);
    }
    out.push_str(&redact_comments(text.get(at..).unwrap_or_default()));
    Redacted { text: out, secrets }
}

/// A value that is neither list nor table.
struct Leaf {
    span: Range<usize>,
    /// Its text, where that must not be seen.
    secret: Option<Zeroizing<String>>,
}

fn collect(table: &DeTable<'_>, is_below_secret: bool, leaves: &mut Vec<Leaf>) {
    for (key, value) in table {
        let is_secret = is_below_secret || is_secret_name(key.get_ref());
        collect_value(value.get_ref(), &value.span(), is_secret, leaves);
    }
}

fn collect_value(value: &DeValue<'_>, span: &Range<usize>, is_secret: bool, leaves: &mut Vec<Leaf>) {
    match value {
        DeValue::Table(table) => collect(table, is_secret, leaves),
        DeValue::Array(list) => {
            for item in list {
                collect_value(item.get_ref(), &item.span(), is_secret, leaves);
            }
        }
        DeValue::String(text) => {
            let secret = is_secret.then(|| Zeroizing::new(text.to_string()));
            leaves.push(Leaf { span: span.clone(), secret });
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            leaves.push(Leaf { span: span.clone(), secret: is_secret.then(Zeroizing::default) });
        }
    }
}

/// Whether a key of this name has a secret for its value; one that ends in `_file` has a path.
fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_open = name.ends_with("_file") || name.starts_with("public_");
    let is_named = ["token", "secret", "psk", "password", "private"].iter().any(|word| name.contains(word));
    !is_open && (is_named || name == "key" || name.ends_with("_key"))
}

/// What stands between two values: keys, which stay, and comments.
fn redact_comments(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| match line.split_once('#') {
        Some((before, comment)) => format!("{before}#{}", redact_words(comment)),
        None => line.to_owned(),
    });
    lines.collect()
}

/// A line without what follows the name of a secret, and without words that may be keys.
fn redact_words(line: &str) -> String {
    if let Some((before, value)) = assignment(line) {
        let end = if value.ends_with('\n') { "\n" } else { "" };
        return format!("{}= {TAKEN_OUT}{end}", without_keys(before));
    }
    without_keys(line)
}

/// A text without words that may be keys.
fn without_keys(line: &str) -> String {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || "+/_-".contains(c);
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(is_of_word) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !is_of_word(c)).unwrap_or(from.len()));
        out.push_str(before);
        out.push_str(if is_keylike(word) { TAKEN_OUT } else { word });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Long, and neither a word nor a path: those are of small letters, few of them between slashes.
fn is_keylike(word: &str) -> bool {
    let longest = word.split(['/', '-', '_']).map(str::len).max().unwrap_or_default();
    let is_plain = word.bytes().all(|b| b.is_ascii_lowercase() || b"/_-".contains(&b));
    word.len() >= KEY_LENGTH && (!is_plain || longest >= KEY_LENGTH)
}

/// The two sides of what may be an assignment to a secret: one is named somewhere before it.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (before, value) = line.split_once('=')?;
    let mut names = before.split(|c: char| !c.is_ascii_alphanumeric() && !"_-".contains(c));
    names.any(is_secret_name).then_some((before, value))
}

/// A value without quotes, blanks and comment.
fn bare(value: &str) -> Zeroizing<String> {
    let value = value.split('#').next().unwrap_or_default();
    Zeroizing::new(value.trim().trim_matches(['"', '\'', '[', ']', '}']).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;
    use proptest::prelude::*;

    #[test]
    fn secrets_go_and_everything_else_stays() {
        let text = r#"# A node. Old token: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
[node]
name = "lab.one"   # key in /var/lib/meshd/private.key
key_file = "private.key"
[lan]
#multicast_token = "deadbeef"
multicast_token = "0011223344556677" # from the old installation
other.psk = ['AgICAg==', "x"]
[[endpoint]]
public_key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
"#;
        let Redacted { text, secrets } = redact(text);
        assert_snapshot!(text, @r#"
        # A node. Old token: (taken out)= (taken out)
        [node]
        name = "lab.one"   # key in /var/lib/meshd/private.key
        key_file = "private.key"
        [lan]
        #multicast_token = (taken out)
        multicast_token = "(taken out)" # from the old installation
        other.psk = ["(taken out)", "(taken out)"]
        [[endpoint]]
        public_key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
        "#);
        let secrets: Vec<&str> = secrets.iter().map(|secret| secret.as_str()).collect();
        assert_eq!(secrets, ["0011223344556677", "AgICAg==", "x"]);
    }

    #[test]
    fn a_file_that_is_no_toml_loses_every_word_that_may_be_a_key() {
        let text = "[lan\nmulticast_token = deadbeef\n\"psk\" = [\"c2VjcmV0IHNlY3JldA==\",\nAgICAgICAgICAgICAgICAgICAgI=\nport = 6374\n";
        let Redacted { text, secrets } = redact(text);
        assert_snapshot!(text, @r#"
        [lan
        multicast_token = (taken out)
        "psk" = (taken out)
        (taken out)=
        port = 6374
        "#);
        assert!(secrets.iter().any(|secret| secret.as_str() == "deadbeef"));
    }

    proptest! {
        #[test]
        fn no_secret_survives_wherever_it_stands(
            secret in "[A-Za-z0-9+/]{22,60}",
            name in "(multicast_token|psk|join_secret|api_password|private_key|Signing_Key)",
            layout in 0_usize..7,
            before in "[a-z =\\[\\]\"#\n]{0,40}",
        ) {
            let text = match layout {
                0 => format!("{name} = \"{secret}\"\n"),
                1 => format!("[a]\nb.{name} = '{secret}'"),
                2 => format!("a = {{ {name} = [\"{secret}\"] }}\n"),
                3 => format!("[{name}]\nvalue = \"\"\"\n{secret}\"\"\"\n"),
                4 => format!("# {name} = {secret}\nport = 1\n"),
                5 => format!("port = [ 1, # old {name} {secret}= or so\n 2 ]\n"),
                _ => format!("{before}\n{name} = \"{secret}\"\n"),
            };
            prop_assert!(!redact(&text).text.contains(&secret), "{text}");
        }
    }
}
