//! Wall time as it is written: RFC 3339, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// How many digits of a second are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Digits {
    /// Milliseconds.
    Three,
    /// Microseconds.
    Six,
}

/// Microseconds since 1970; zero on a clock that shows less.
pub(crate) fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A time given in microseconds since 1970, such as `2026-11-21T16:56:15.123Z`; that of 1970 where it has more than four
/// digits of years.
pub(crate) fn text(unix_micros: u64, digits: Digits) -> String {
    let seconds = i64::try_from(unix_micros / 1_000_000).unwrap_or_default();
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, (hour, minute, second)) = (at.date(), at.time().as_hms());
    let micros = unix_micros % 1_000_000;
    let fraction = match digits {
        Digits::Three => format!("{:03}", micros / 1_000),
        Digits::Six => format!("{micros:06}"),
    };
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_with_as_many_digits_as_asked_for() {
        assert_eq!(text(0, Digits::Three), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(1_795_280_175_123_456, Digits::Three), "2026-11-21T16:56:15.123Z");
        assert_eq!(text(1_709_164_799_000_007, Digits::Six), "2024-02-28T23:59:59.000007Z");
        assert!(text(u64::MAX, Digits::Six).ends_with('Z'));
    }
}
