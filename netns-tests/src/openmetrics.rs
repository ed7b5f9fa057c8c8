//! A strict reader of OpenMetrics 1.0 text, as far as the daemon uses it: counters and gauges.

use std::collections::{BTreeMap, BTreeSet};

/// Everything that was told at one moment.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    families: BTreeMap<String, FamilyText>,
    samples: BTreeMap<(String, Vec<(String, String)>), f64>,
}

#[derive(Clone, Debug)]
struct FamilyText {
    kind: String,
    has_help: bool,
    labels: Vec<String>,
}

/// A family and its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// The name of its samples: that of a counter ends in `_total`.
    pub series: String,
    /// `counter` or `gauge`.
    pub kind: String,
    /// The labels of its samples, in their order; empty without samples.
    pub labels: Vec<String>,
}

impl Exposition {
    /// Reads a text.
    ///
    /// # Errors
    /// The first line that is not as it must be, and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let body = text.strip_suffix("# EOF\n").ok_or("it does not end with # EOF")?;
        let (mut all, mut current) = (Self::default(), String::new());
        for line in body.lines() {
            all.line(line, &mut current).map_err(|reason| format!("{reason}: {line}"))?;
        }
        let bare = all.families.iter().find(|(_, family)| !family.has_help || family.kind.is_empty());
        bare.map_or(Ok(()), |(name, _)| Err(format!("{name} has no help or no type")))?;
        Ok(all)
    }

    /// The value of the one sample that has at least these labels; none where there is no such sample, or several.
    #[must_use]
    pub fn value(&self, series: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |found: &[(String, String)]| {
            labels.iter().all(|(key, value)| found.iter().any(|(k, v)| k == key && v == value))
        };
        let mut matching = self.samples.iter().filter(|((name, found), _)| name == series && has(found));
        matching.next().filter(|_| matching.next().is_none()).map(|(_, value)| *value)
    }

    /// Every family, by name.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        let family = |(name, family): (&String, &FamilyText)| Family {
            series: series_of(name, &family.kind),
            kind: family.kind.clone(),
            labels: family.labels.clone(),
        };
        self.families.iter().map(family).collect()
    }

    fn line(&mut self, line: &str, current: &mut String) -> Result<(), &'static str> {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(help)) if !help.is_empty() => {
                // Lines of a family must not be interleaved with those of others.
                if name != current.as_str() && self.families.contains_key(name) {
                    return Err("a family comes twice");
                }
                name.clone_into(current);
                self.family(name).has_help = true;
                Ok(())
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind @ ("counter" | "gauge"))) => {
                if name != current.as_str() && self.families.contains_key(name) {
                    return Err("a family comes twice");
                }
                name.clone_into(current);
                kind.clone_into(&mut self.family(name).kind);
                Ok(())
            }
            (Some("#"), ..) => Err("an unknown comment"),
            _ => self.sample(line, current),
        }
    }

    fn family(&mut self, name: &str) -> &mut FamilyText {
        let new = || FamilyText { kind: String::new(), has_help: false, labels: Vec::new() };
        self.families.entry(name.to_owned()).or_insert_with(new)
    }

    fn sample(&mut self, line: &str, current: &str) -> Result<(), &'static str> {
        let (head, value) = line.rsplit_once(' ').ok_or("no value")?;
        let (series, labels) = match head.split_once('{') {
            None => (head, Vec::new()),
            Some((series, rest)) => (series, labels(rest.strip_suffix('}').ok_or("no closing brace")?)?),
        };
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !series.chars().all(is_name) || series.is_empty() {
            return Err("a name with odd characters");
        }
        let value: f64 = value.parse().map_err(|_| "a value that is no number")?;
        let family = self.family(current);
        if series != series_of(current, &family.kind) {
            return Err("a sample outside its family");
        }
        if family.kind == "counter" && (value < 0.0 || !value.is_finite()) {
            return Err("a counter that is none");
        }
        let keys: Vec<String> = labels.iter().map(|(key, _)| key.clone()).collect();
        if keys.iter().collect::<BTreeSet<_>>().len() != keys.len() {
            return Err("a label comes twice");
        }
        if !family.labels.is_empty() && family.labels != keys {
            return Err("samples of one family with different labels");
        }
        family.labels = keys;
        let is_new = self.samples.insert((series.to_owned(), labels), value).is_none();
        if is_new { Ok(()) } else { Err("a series comes twice") }
    }
}

fn series_of(name: &str, kind: &str) -> String {
    if kind == "counter" { format!("{name}_total") } else { name.to_owned() }
}

/// Reads `key="value",…`.
fn labels(mut text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (key, rest) = text.split_once("=\"").ok_or("a label without a value")?;
        if !key.chars().all(|c| c.is_ascii_lowercase() || c == '_') || key.is_empty() {
            return Err("a label with odd characters");
        }
        let (mut value, mut chars) = (String::new(), rest.char_indices());
        let end = loop {
            match chars.next().ok_or("a value without its end")? {
                (at, '"') => break at,
                (_, '\\') => match chars.next().ok_or("a value without its end")?.1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    _ => return Err("an unknown escape"),
                },
                (_, c) => value.push(c),
            }
        };
        labels.push((key.to_owned(), value));
        let rest = rest.get(end + 1..).unwrap_or_default();
        text = match rest.strip_prefix(',') {
            Some("") => return Err("a comma at the end"),
            Some(more) => more,
            None if rest.is_empty() => rest,
            None => return Err("no comma between labels"),
        };
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# HELP a_b What.\n# TYPE a_b counter\n";

    #[test]
    fn good_text_is_read_and_each_fault_refused() {
        let good = format!("{HEAD}a_b_total{{peer=\"x\\\"\\\\\\n\",kind=\"\"}} 3\n# EOF\n");
        let read = Exposition::parse(&good).unwrap();
        assert_eq!(read.value("a_b_total", &[("peer", "x\"\\\n"), ("kind", "")]), Some(3.0));
        assert_eq!(read.families()[0].labels, ["peer", "kind"]);
        for bad in [
            "a_b 3\n",
            "a_b_total\n",
            "a_b_total{peer=\"x\"} three\n",
            "a_b_total -1\n",
            "a_b_total 1\na_b_total 2\n",
            "a_b_total{x=\"1\",x=\"2\"} 1\n",
            "a_b_total{x=\"1\",} 1\n",
            "a_b_total{x=\"1\"} 1\na_b_total{y=\"1\"} 1\n",
            "other 1\n",
            "# HELP c What.\n",
            "# UNIT a_b seconds\n",
        ] {
            assert!(Exposition::parse(&format!("{HEAD}{bad}# EOF\n")).is_err(), "{bad}");
        }
        assert!(Exposition::parse(HEAD).is_err());
    }
}
