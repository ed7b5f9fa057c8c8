//! The results of `scale` as Markdown.

use std::fmt::Write as _;

use super::record::{CaseRecord, METRICS, Metric, ScaleRecord, ScaleRound};
use crate::table::{figure, head, method};

/// One line about a round that was just measured.
pub(super) fn progress(name: &str, round: &ScaleRound) -> String {
    let mut line = format!("round {}  {name:14}", round.number);
    for metric in &METRICS {
        if let Some(figure) = (metric.of)(round) {
            let _ = write!(line, "  {} {figure:.*}", metric.title, metric.decimals);
        }
    }
    line
}

/// The table, the memory per peer and per session, and below them what failed.
pub(super) fn markdown(record: &ScaleRecord) -> String {
    let ScaleRecord { setting, configured, live, storm_per_second, .. } = record;
    let mut text = format!(
        "{}\n{configured} peers configured, {live} sessions, storms of {storm_per_second} initiations/s.\n{}\n",
        head(setting),
        method(setting, "one peer"),
    );
    let titles: Vec<&str> = METRICS.iter().map(|metric| metric.title).collect();
    let _ = writeln!(text, "| case | {} |\n|{}", titles.join(" | "), "---|".repeat(METRICS.len() + 1));
    for case in &record.cases {
        let cells: Vec<String> = METRICS.iter().map(|metric| cell(case, record.cases.first(), metric)).collect();
        let _ = writeln!(text, "| {}: {} | {} |", case.name, case.about, cells.join(" | "));
    }
    for (bytes, what) in
        [(record.bytes_per_configured_peer, "configured peer"), (record.bytes_per_live_session, "live session")]
    {
        if let Some(bytes) = bytes {
            let _ = write!(text, "\n* {bytes:.0} B resident per {what}");
        }
    }
    for (case, failure) in record.cases.iter().flat_map(|case| case.failures.iter().map(move |failure| (case, failure)))
    {
        let _ = write!(text, "\n* {} failed: {failure}", case.name);
    }
    text + "\n"
}

fn cell(case: &CaseRecord, reference: Option<&CaseRecord>, metric: &Metric) -> String {
    let Some(spread) = case.medians.get(metric.key) else { return "-".to_owned() };
    let base = reference.filter(|_| metric.is_compared).and_then(|reference| reference.medians.get(metric.key));
    figure(spread, metric.decimals, base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Tcp;
    use crate::table::tests::setting;

    fn case(name: &'static str, gbps: &[f64], resident: [f64; 2]) -> CaseRecord {
        let tcp = |gbps| Tcp {
            streams: 1,
            reverse: false,
            gbps,
            retransmits: None,
            cpu_seconds_per_gb: 1.0,
            loaded_ping: None,
        };
        let round = |gbps: &f64| ScaleRound {
            tcp: Some(tcp(*gbps)),
            resident_idle_mib: Some(resident[0]),
            resident_crowd_mib: Some(resident[1]),
            ..ScaleRound::default()
        };
        CaseRecord { rounds: gbps.iter().map(round).collect(), ..CaseRecord::new(name, "about it", 0) }
    }

    fn record() -> ScaleRecord {
        let mut record = ScaleRecord {
            format: 1,
            kind: "scale",
            setting: setting(),
            configured: 10_000,
            live: 1_000,
            storm_per_second: 5_000,
            cases: vec![case("one", &[6.0, 8.0, 7.0], [8.0, 8.0]), case("large", &[6.3], [18.0, 22.0])],
            bytes_per_configured_peer: None,
            bytes_per_live_session: None,
        };
        record.summarise();
        record
    }

    #[test]
    fn a_case_has_median_range_and_ratio_to_the_first_and_memory_is_told_per_peer_and_session() {
        let text = markdown(&record());
        assert!(text.contains("| one: about it | 7.00 (6.00–8.00) 1.00x |"), "{text}");
        assert!(text.contains("| large: about it | 6.30 0.90x |"), "{text}");
        assert!(text.contains("1049 B resident per configured peer"), "{text}");
        assert!(text.contains("4194 B resident per live session"), "{text}");
    }

    #[test]
    fn what_failed_is_told() {
        let mut record = record();
        record.cases[1].failures.push("round 0: no ping".to_owned());
        assert!(markdown(&record).contains("* large failed: round 0: no ping"));
    }
}
