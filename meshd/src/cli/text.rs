//! How values are written for people: each with its unit, tables aligned.

use std::fmt::Write as _;
use std::time::Duration;

/// What stands where there is no value.
pub(super) const NONE: &str = "-";

/// Appends rows, the first of them the headings, with columns as wide as their widest cell.
pub(super) fn table<const N: usize>(out: &mut String, rows: &[[String; N]]) {
    let width = |column: usize| rows.iter().map(|row| row.get(column).map_or(0, |cell| cell.chars().count())).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

/// A value, or what stands where there is none.
pub(super) fn or_none<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| NONE.to_owned(), text)
}

/// A byte count in binary units with three digits.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1000.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// So many of something.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A data rate in the longest unit that needs no fraction.
pub(super) fn rate(bits_per_second: u64) -> String {
    let units = [("Gbit/s", 1_000_000_000), ("Mbit/s", 1_000_000), ("kbit/s", 1_000)];
    let unit = units.into_iter().find(|(_, bits)| bits_per_second > 0 && bits_per_second.is_multiple_of(*bits));
    let (unit, bits) = unit.unwrap_or(("bit/s", 1));
    format!("{} {unit}", bits_per_second / bits)
}

/// A time span in its two largest units.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, ..) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

/// A time that has passed, from seconds.
pub(super) fn ago(seconds: f64) -> String {
    format!("{} ago", span(Duration::from_secs_f64(seconds.max(0.0))))
}

/// A round trip time, from microseconds.
pub(super) fn milliseconds(micros: u64) -> String {
    let value = micros as f64 / 1000.0;
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} ms")
}

/// A share of a thousand.
pub(super) fn percent(per_mille: u32) -> String {
    format!("{} %", per_mille.div_ceil(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_every_column_and_aligns_them() {
        let row = |prefix: &str| std::array::from_fn::<String, 3, _>(|column| format!("{prefix}{column}"));
        let mut out = String::new();
        table(&mut out, &[row("head"), row("é")]);
        assert_eq!(out, "head0  head1  head2\né0     é1     é2\n");
    }

    #[test]
    fn byte_counts_have_three_digits_and_a_unit() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (15_000, "14.6 KiB"), (1 << 20, "1.00 MiB")];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes(u64::MAX), "16384 PiB");
    }

    #[test]
    fn spans_show_their_two_largest_units() {
        let cases = [(5, "5s"), (65, "1m05s"), (3660, "1h01m"), (90_000, "1d01h")];
        for (seconds, text) in cases {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn rates_round_trips_and_losses_have_their_units() {
        let rates = [(1_000_000_000, "1 Gbit/s"), (100_000_000, "100 Mbit/s"), (64_008, "64008 bit/s"), (0, "0 bit/s")];
        for (bits, text) in rates {
            assert_eq!(rate(bits), text);
        }
        for (micros, text) in [(0, "0.00 ms"), (1_234, "1.23 ms"), (45_678, "45.7 ms"), (345_678, "346 ms")] {
            assert_eq!(milliseconds(micros), text);
        }
        assert_eq!([0, 1, 125, 1000].map(percent), ["0 %", "1 %", "13 %", "100 %"]);
    }
}
