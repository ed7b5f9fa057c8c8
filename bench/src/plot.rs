//! The results as bars: an SVG written by hand, one panel per figure, one bar per peer, a line from minimum to maximum.

use std::fmt::Write as _;

use crate::record::{METRICS, Metric, PeerRecord, Record};
use crate::table::REFERENCE;

/// The figures that are drawn.
const DRAWN: [&str; 8] = [
    "tcp1_gbps",
    "tcp4_gbps",
    "udp1200_kpps",
    "udp64_kpps",
    "tcp1_cpu_s_per_gb",
    "resident_after_mib",
    "ping_p50_us",
    "loaded_ping_p99_ms",
];

/// Sizes in pixels.
const PANEL_WIDTH: usize = 520;
const LABEL_WIDTH: usize = 130;
const BAR_WIDTH: usize = 290;
const ROW_HEIGHT: usize = 20;
const HEAD_HEIGHT: usize = 52;
const PANEL_HEAD: usize = 34;

/// Draws a run.
pub(crate) fn svg(record: &Record) -> String {
    let is_drawn = |metric: &&Metric| {
        DRAWN.contains(&metric.key) && record.peers.iter().any(|peer| peer.medians.contains_key(metric.key))
    };
    let metrics: Vec<&Metric> = METRICS.iter().filter(is_drawn).collect();
    let panel_height = PANEL_HEAD + record.peers.len() * ROW_HEIGHT + 10;
    let height = HEAD_HEIGHT + metrics.len().div_ceil(2) * panel_height;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"15\">meshd and others, {date}</text>\n\
         <text x=\"10\" y=\"38\" fill=\"#555\">{subtitle}</text>\n",
        width = 2 * PANEL_WIDTH,
        date = escape(&record.setting.date),
        subtitle = escape(&subtitle(record)),
    );
    for (number, metric) in metrics.into_iter().enumerate() {
        let (x, y) = (number % 2 * PANEL_WIDTH, HEAD_HEIGHT + number / 2 * panel_height);
        let _ = write!(text, "<g transform=\"translate({x},{y})\">\n{}</g>\n", panel(record, metric));
    }
    text + "</svg>\n"
}

fn subtitle(record: &Record) -> String {
    let setting = &record.setting;
    let wire = if setting.wire { ", link without offloads" } else { "" };
    format!(
        "Linux {}, {}, {} cores, {}{wire}; medians of {} rounds, lines from minimum to maximum",
        setting.machine.kernel, setting.machine.cpu, setting.machine.cores, setting.congestion_control, setting.rounds
    )
}

fn panel(record: &Record, metric: &Metric) -> String {
    let better = if metric.is_higher_better { "higher is better" } else { "lower is better" };
    let mut text = format!(
        "<text x=\"10\" y=\"24\" font-weight=\"bold\">{} <tspan font-weight=\"normal\" fill=\"#555\">({better})</tspan>\
         </text>\n",
        escape(metric.title)
    );
    let spreads = record.peers.iter().filter_map(|peer| peer.medians.get(metric.key));
    let longest = spreads.map(|spread| spread.max).fold(f64::MIN_POSITIVE, f64::max);
    for (row, peer) in record.peers.iter().enumerate() {
        text.push_str(&bar(peer, metric, longest, PANEL_HEAD + row * ROW_HEIGHT));
    }
    text
}

fn bar(peer: &PeerRecord, metric: &Metric, longest: f64, y: usize) -> String {
    let (label_y, name) = (y + 13, escape(peer.name));
    let label_x = LABEL_WIDTH - 6;
    let mut text = format!("<text x=\"{label_x}\" y=\"{label_y}\" text-anchor=\"end\">{name}</text>\n");
    let Some(spread) = peer.medians.get(metric.key) else {
        let why = if peer.missing.is_some() { "missing" } else { "no figure" };
        let _ = writeln!(text, "<text x=\"{LABEL_WIDTH}\" y=\"{label_y}\" fill=\"#999\">{why}</text>");
        return text;
    };
    #[expect(clippy::cast_precision_loss, reason = "pixels")]
    let pixels = |figure: f64| figure / longest * BAR_WIDTH as f64;
    #[expect(clippy::cast_precision_loss, reason = "pixels")]
    let left = LABEL_WIDTH as f64;
    let (width, low, high) = (pixels(spread.median), left + pixels(spread.min), left + pixels(spread.max));
    let (line_y, figure_x) = (y + 9, high + 6.0);
    let _ = writeln!(
        text,
        "<rect x=\"{LABEL_WIDTH}\" y=\"{bar_y}\" width=\"{width:.1}\" height=\"14\" fill=\"{colour}\"/>\n\
         <line x1=\"{low:.1}\" y1=\"{line_y}\" x2=\"{high:.1}\" y2=\"{line_y}\" stroke=\"black\"/>\n\
         <text x=\"{figure_x:.1}\" y=\"{label_y}\">{figure:.decimals$}</text>",
        bar_y = y + 2,
        colour = colour(peer),
        figure = spread.median,
        decimals = metric.decimals,
    );
    text
}

fn colour(peer: &PeerRecord) -> &'static str {
    match (peer.name.starts_with(REFERENCE), peer.is_limit) {
        (true, _) => "#2a7ab8",
        (false, true) => "#cccccc",
        (false, false) => "#e0a050",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_figures_and_text_is_escaped() {
        let text = svg(&crate::table::tests::record());
        assert!(text.contains("A &lt;fast&gt; one &amp; only"), "{text}");
        // meshd's median is 7 of at most 8, wireguard-go's 2.1 of 8.
        assert!(text.contains("width=\"253.8\" height=\"14\" fill=\"#2a7ab8\""), "{text}");
        assert!(text.contains("width=\"76.1\" height=\"14\" fill=\"#e0a050\""), "{text}");
        assert!(text.contains(">missing</text>"), "{text}");
        for tag in ["text", "g", "svg"] {
            let opened = text.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, text.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
