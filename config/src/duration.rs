//! Durations as an operator writes them: a whole number and a unit, `"500ms"`, `"25s"`, `"2m"`, `"1h"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Longest period that a file may ask for, one year: far below what overflows a clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The units and their length in milliseconds, longest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A length of time with its text form, in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub Duration);

/// Why a text is no [`Period`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// The text does not begin with digits, or has more digits than a number can hold.
    #[error("does not begin with a whole number")]
    Number,
    /// There is a number only.
    #[error("has no unit")]
    NoUnit,
    /// What follows the number is no unit.
    #[error("has an unknown unit")]
    Unit,
    /// Longer than a year.
    #[error("is longer than a year")]
    TooLong,
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).ok_or(PeriodError::Number)?;
        let number: u64 = match number.parse() {
            Ok(number) => number,
            Err(_) if digits > 0 => return Err(PeriodError::TooLong),
            Err(_) => return Err(PeriodError::Number),
        };
        // `1 MiB` is written with a space elsewhere, so one is welcome here too.
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        if unit.is_empty() {
            return Err(PeriodError::NoUnit);
        }
        let (_, length) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(PeriodError::Unit)?;
        let period = number.checked_mul(length).map(Duration::from_millis).ok_or(PeriodError::TooLong)?;
        if period > LONGEST { Err(PeriodError::TooLong) } else { Ok(Self(period)) }
    }
}

impl fmt::Display for Period {
    /// Writes the longest unit that needs no fraction: 120 s are `2m`, 90 s are `90s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        let (unit, length) =
            UNITS.into_iter().find(|(_, l)| millis.is_multiple_of(u128::from(*l))).unwrap_or(("ms", 1));
        write!(f, "{}{unit}", millis / u128::from(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_period_is_a_whole_number_and_a_unit() {
        for (text, millis) in [("500ms", 500), ("25s", 25_000), ("2m", 120_000), ("1h", 3_600_000), ("25 s", 25_000)] {
            assert_eq!(text.parse(), Ok(Period(Duration::from_millis(millis))), "{text}");
        }
        for (text, why) in [
            ("", PeriodError::Number),
            ("s", PeriodError::Number),
            ("-5s", PeriodError::Number),
            ("25", PeriodError::NoUnit),
            ("25 ", PeriodError::NoUnit),
            ("1.5s", PeriodError::Unit),
            ("25S", PeriodError::Unit),
            ("25s ", PeriodError::Unit),
            ("5é", PeriodError::Unit),
            ("8761h", PeriodError::TooLong),
            ("99999999999999999999999s", PeriodError::TooLong),
            ("18446744073709551615h", PeriodError::TooLong),
        ] {
            assert_eq!(text.parse::<Period>(), Err(why), "{text}");
        }
    }

    #[test]
    fn the_text_is_the_longest_whole_unit() {
        for (millis, text) in [(0, "0s"), (1, "1ms"), (90_000, "90s"), (120_000, "2m"), (7_200_000, "2h")] {
            assert_eq!(Period(Duration::from_millis(millis)).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn a_period_survives_its_text_form(millis in 0..=LONGEST.as_millis() as u64) {
            let period = Period(Duration::from_millis(millis));
            prop_assert_eq!(period.to_string().parse(), Ok(period));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = text.parse::<Period>();
        }
    }
}
