//! Data rates as an operator writes them: a whole number and a unit, `"100 Mbit/s"`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use toml::de::DeValue;

use crate::error::{Fault, quote};
use crate::scalar;

/// The units in bits a second, longest first.
const UNITS: [(&str, u64); 3] = [("Gbit/s", 1_000_000_000), ("Mbit/s", 1_000_000), ("kbit/s", 1_000)];

/// Below 64 kbit/s not even handshakes get through; above 400 Gbit/s there are no links.
const RANGE: RangeInclusive<u64> = 64_000..=400_000_000_000;

/// An amount of data in a time with its text form, in bits a second, 64 kbit/s to 400 Gbit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

/// Why a text is no [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// The text does not begin with digits.
    #[error("does not begin with a whole number")]
    Number,
    /// What follows the number is no unit.
    #[error("has no unit of data a second")]
    Unit,
    /// Outside of what a [`Rate`] holds.
    #[error("is out of range")]
    Range,
}

impl Rate {
    pub(crate) const fn from_megabits(megabits: u64) -> Self {
        Self(megabits * 1_000_000)
    }

    /// Bytes a second.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0 / 8
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).filter(|_| digits > 0).ok_or(RateError::Number)?;
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        let (_, bits) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(RateError::Unit)?;
        let rate = number.parse::<u64>().ok().and_then(|number| number.checked_mul(bits));
        rate.filter(|rate| RANGE.contains(rate)).map(Self).ok_or(RateError::Range)
    }
}

impl fmt::Display for Rate {
    /// Writes the longest unit that needs no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bits) = UNITS.into_iter().find(|(_, bits)| self.0.is_multiple_of(*bits)).unwrap_or(("bit/s", 1));
        write!(f, "{} {unit}", self.0 / bits)
    }
}

/// Reads a rate.
pub(crate) fn read(value: &DeValue<'_>) -> Result<Rate, Fault> {
    if let Some(number) = value.as_integer() {
        let fault = Fault::new("must be a rate with a unit, not an integer");
        return Err(fault.help(format!("write \"{} Mbit/s\" for megabits a second", number.as_str())));
    }
    let text = scalar::text(value)?;
    text.parse().map_err(|error: RateError| {
        let help = match error {
            RateError::Number | RateError::Unit => {
                "write a whole number and kbit/s, Mbit/s or Gbit/s, such as \"100 Mbit/s\"".to_owned()
            }
            RateError::Range => format!("use {} to {}", Rate(*RANGE.start()), Rate(*RANGE.end())),
        };
        Fault::new(format!("{} {error}", quote(text))).help(help)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rate_is_a_whole_number_and_a_unit() {
        for (text, bytes) in [("100 Mbit/s", 12_500_000), ("1Gbit/s", 125_000_000), ("64 kbit/s", 8_000)] {
            assert_eq!(text.parse::<Rate>().map(Rate::bytes), Ok(bytes), "{text}");
        }
        for (text, why) in [
            ("", RateError::Number),
            ("fast", RateError::Number),
            ("100", RateError::Unit),
            ("100 MB", RateError::Unit),
            ("1.5 Gbit/s", RateError::Unit),
            ("63 kbit/s", RateError::Range),
            ("401 Gbit/s", RateError::Range),
            ("99999999999999999999999 kbit/s", RateError::Range),
        ] {
            assert_eq!(text.parse::<Rate>(), Err(why), "{text}");
        }
    }

    #[test]
    fn a_wrong_rate_is_told_how_it_is_written() {
        let said = |text: &str| {
            let value = DeValue::parse(text).unwrap().into_inner();
            let Fault { message, help } = read(&value).unwrap_err();
            format!("{message}; {}", help.unwrap_or_default())
        };
        assert!(said("100").ends_with("write \"100 Mbit/s\" for megabits a second"));
        assert_eq!(said("\"1 kbit/s\""), "\"1 kbit/s\" is out of range; use 64 kbit/s to 400 Gbit/s");
        assert!(said("\"100 MB/s\"").contains("such as \"100 Mbit/s\""));
    }

    proptest! {
        #[test]
        fn a_rate_survives_its_text_form(kilobits in 64..=400_000_000_u64) {
            let rate = Rate(kilobits * 1_000);
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
        }
    }
}
