//! The results of `ways` as Markdown.

use std::fmt::Write as _;

use super::record::{PairRecord, WaysRecord};
use crate::statistics::percentile;
use crate::table::head;

/// A row for each kind of pair, one for all, and below them what was not as expected.
pub(super) fn markdown(record: &WaysRecord) -> String {
    let mut text = format!(
        "{}\n{} rounds; every uplink takes {} ms each way; times in ms.\n\n",
        head(&record.setting),
        record.setting.rounds,
        record.uplink_ms
    );
    text.push_str(
        "| pair | expected | as expected | first byte p50 | p95 | direct p50 | p95 |\n|---|---|---|---|---|---|---|\n",
    );
    let mut kinds: Vec<(&str, &str)> = Vec::new();
    for pair in &record.pairs {
        let kind = (pair.kind.as_str(), pair.expected);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    for (kind, expected) in kinds {
        let of_kind = |pair: &&PairRecord| pair.kind == kind && pair.expected == expected;
        let pairs: Vec<&PairRecord> = record.pairs.iter().filter(of_kind).collect();
        let _ = writeln!(text, "| {kind} | {expected} | {} |", figures(&pairs));
    }
    let all: Vec<&PairRecord> = record.pairs.iter().collect();
    let _ = writeln!(text, "| all | | {} |", figures(&all));
    for pair in record.pairs.iter().filter(|pair| !pair.is_as_expected()) {
        let _ = write!(
            text,
            "\n* round {}: {} to {} is {}, not {}",
            pair.round, pair.one, pair.other, pair.way, pair.expected
        );
    }
    for failure in &record.failures {
        let _ = write!(text, "\n* failed: {failure}");
    }
    text + "\n"
}

fn figures(pairs: &[&PairRecord]) -> String {
    let first: Vec<f64> = pairs.iter().map(|pair| pair.first_byte_ms).collect();
    let direct: Vec<f64> = pairs.iter().filter_map(|pair| pair.direct_ms).collect();
    let good = pairs.iter().filter(|pair| pair.is_as_expected()).count();
    let cell = |figures: &[f64], percent| percentile(figures, percent).map_or("-".to_owned(), |ms| format!("{ms:.0}"));
    let cells = [cell(&first, 50), cell(&first, 95), cell(&direct, 50), cell(&direct, 95)];
    format!("{good} of {} | {}", pairs.len(), cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::setting;

    fn pair(kind: &str, way: &'static str, direct_ms: Option<f64>) -> PairRecord {
        PairRecord {
            round: 0,
            one: "PortRestricted".to_owned(),
            other: "Cgn".to_owned(),
            kind: kind.to_owned(),
            expected: "direct",
            way,
            first_byte_ms: 12.0,
            direct_ms,
        }
    }

    #[test]
    fn kinds_have_a_row_each_and_pairs_that_went_another_way_are_named() {
        let pairs = vec![pair("a", "direct", Some(40.0)), pair("a", "direct", Some(60.0)), pair("b", "relayed", None)];
        let record = WaysRecord {
            format: 1,
            kind: "ways",
            setting: setting(),
            pairs,
            uplink_ms: 10,
            failures: vec!["none".to_owned()],
        };
        let text = markdown(&record);
        assert!(text.contains("| a | direct | 2 of 2 | 12 | 12 | 40 | 60 |"), "{text}");
        assert!(text.contains("| b | direct | 0 of 1 | 12 | 12 | - | - |"), "{text}");
        assert!(text.contains("| all | | 2 of 3 | 12 | 12 | 40 | 60 |"), "{text}");
        assert!(text.contains("* round 0: PortRestricted to Cgn is relayed, not direct"), "{text}");
        assert!(text.contains("* failed: none"), "{text}");
    }
}
