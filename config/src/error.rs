//! What is wrong with a configuration: every problem with its place, its key, and what to do about it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// A message and its help share a line up to this many characters; longer help gets a line of its own.
const ONE_LINE: usize = 110;

/// One thing that is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as the operator named it.
    pub file: PathBuf,
    /// Line, counted from 1; 0 where the problem is the file as a whole.
    pub line: u32,
    /// Column in characters, counted from 1; 0 where `line` is.
    pub column: u32,
    /// The offending key as a path, such as `endpoint.subnets`; empty where there is none.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// A problem of a whole file.
    pub(crate) fn of_file(file: &Path, message: impl Into<String>, help: Option<String>) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0, key: String::new(), message: message.into(), help }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.help {
            None => Ok(()),
            Some(help) if self.message.len() + help.len() <= ONE_LINE => write!(f, "; {help}"),
            Some(help) => write!(f, "\n    help: {help}"),
        }
    }
}

/// Everything that is wrong with a configuration, in the order of its files and lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        let files = self.0.iter().map(|problem| &problem.file).collect::<BTreeSet<_>>().len();
        match (self.0.len(), files) {
            (1, _) => f.write_str("1 problem"),
            (count, 1) => write!(f, "{count} problems"),
            (count, files) => write!(f, "{count} problems in {files} files"),
        }
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// What is wrong with a value, before it is known where the value stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Quotes a text of the operator's for a message: escaped, and cut so that a message stays a line.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{:?}", format!("{}…", text.get(..cut).unwrap_or_default())),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(file: &str, message: &str, help: Option<&str>) -> Problem {
        Problem {
            file: file.into(),
            line: 14,
            column: 1,
            key: "endpoint.subnet".into(),
            message: message.into(),
            help: help.map(Into::into),
        }
    }

    #[test]
    fn short_help_shares_the_line_and_long_help_has_its_own() {
        let short =
            problem("/etc/mesh.toml", "unknown key \"subnet\" in [[endpoint]]", Some("did you mean \"subnets\"?"));
        assert_eq!(
            short.to_string(),
            "/etc/mesh.toml:14:1: unknown key \"subnet\" in [[endpoint]]; did you mean \"subnets\"?"
        );
        let long = problem("m", "wrong", Some(&"x".repeat(120)));
        assert_eq!(long.to_string(), format!("m:14:1: wrong\n    help: {}", "x".repeat(120)));
        let whole = Problem::of_file(Path::new("m"), "no such file", None);
        assert_eq!(whole.to_string(), "m: no such file");
    }

    #[test]
    fn a_list_of_problems_ends_with_its_count() {
        let (a, b) = (problem("a", "x", None), problem("b", "y", None));
        assert_eq!(Problems(vec![a.clone()]).to_string(), "a:14:1: x\n1 problem");
        assert!(Problems(vec![a.clone(), a.clone()]).to_string().ends_with("\n2 problems"));
        assert!(Problems(vec![a, b]).to_string().ends_with("\n2 problems in 2 files"));
    }

    #[test]
    fn quoted_text_is_escaped_and_short() {
        assert_eq!(quote("a\nb"), "\"a\\nb\"");
        assert!(quote(&"é".repeat(500)).chars().count() < 90);
    }
}
