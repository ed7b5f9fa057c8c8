//! Why a configuration was not taken over, in as many words as there is room for.

use std::fmt;

use config::Problems;

/// Why a configuration was not taken over; the one before stays. As a text, everything that `meshd config check` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    text: String,
    /// Each problem in one line. Never empty.
    problems: Vec<String>,
}

impl Refusal {
    /// The first problem, and how many more there are: for a status or an event.
    pub(crate) fn brief(&self) -> String {
        let first = self.problems.first().map_or("", String::as_str);
        match self.problems.len() {
            0 | 1 => first.to_owned(),
            count => format!("{first} (and {} more)", count - 1),
        }
    }

    /// Every problem, in one line: for a log.
    pub(crate) fn line(&self) -> String {
        self.problems.join("; ")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        let text = problems.to_string();
        Self { text, problems: problems.0.iter().map(|problem| one_line(&problem.to_string())).collect() }
    }
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self { problems: vec![one_line(&text)], text }
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_one_line_and_the_first_of_several_problems_with_their_number() {
        let text = "[interface]\nmtuu = 1400\n[lan]\ninterval = \"x\"\n";
        let problems = config::parse_node("meshd.toml".as_ref(), text).unwrap_err();
        let count = problems.0.len();
        assert!(count > 1, "{problems}");
        let refusal = Refusal::from(problems.clone());
        assert_eq!(refusal.to_string(), problems.to_string());
        assert!(refusal.brief().starts_with("meshd.toml:") && !refusal.brief().contains('\n'), "{}", refusal.brief());
        assert!(refusal.brief().ends_with(&format!(" (and {} more)", count - 1)), "{}", refusal.brief());
        let line = refusal.line();
        assert!(!line.contains('\n') && line.contains("mtuu") && line.contains("interval"), "{line}");
        assert_eq!(Refusal::from("no\n    help: do".to_owned()).brief(), "no; help: do");
    }
}
