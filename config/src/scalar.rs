//! Single values: texts, numbers, switches, periods, choices and paths, each checked as it is read.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::duration::{Period, PeriodError};
use crate::error::{Fault, quote};
use crate::note::Value;

/// The kind of a value with its article.
pub(crate) fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn wrong_type(value: &DeValue<'_>, wanted: &str) -> Fault {
    Fault::new(format!("must be {wanted}, not {}", article(value)))
}

/// The value as the operator wrote it, where it is a single one.
fn written(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(switch) => Some(switch.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// A text.
pub(crate) fn text<'d>(value: &'d DeValue<'d>) -> Result<&'d str, Fault> {
    value.as_str().ok_or_else(|| {
        let fault = wrong_type(value, "a text");
        match written(value) {
            Some(text) => fault.help(format!("put it in quotes: {}", quote(&text))),
            None => fault.help("write a text in quotes"),
        }
    })
}

/// A text that a person may choose freely, of 1 to 64 characters: it turns up in logs, metrics and tables.
pub(crate) fn label(value: &DeValue<'_>) -> Result<String, Fault> {
    let text = text(value)?;
    if text.trim().is_empty() {
        return Err(Fault::new("is empty").help("write 1 to 64 characters, or leave the key out"));
    }
    if text.trim() != text || text.chars().any(char::is_control) {
        let message = format!("{} has control characters, or blanks at an end", quote(text));
        return Err(Fault::new(message).help("remove them"));
    }
    if text.chars().count() > 64 {
        return Err(Fault::new(format!("{} is too long", quote(text))).help("use at most 64 characters"));
    }
    Ok(text.to_owned())
}

/// A switch.
pub(crate) fn switch(value: &DeValue<'_>) -> Result<bool, Fault> {
    value.as_bool().ok_or_else(|| wrong_type(value, "true or false").help("write true or false, without quotes"))
}

/// Shows a switch.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "as what shows any other value")]
pub(crate) fn show_switch(switch: &bool) -> Value {
    Value::Switch(*switch)
}

/// A whole number within bounds.
pub(crate) fn integer(value: &DeValue<'_>, range: &RangeInclusive<u32>) -> Result<u32, Fault> {
    let (low, high) = (range.start(), range.end());
    let Some(integer) = value.as_integer() else {
        let help = match value.as_str().and_then(|text| text.parse::<u32>().ok()) {
            Some(number) => format!("write {number} without quotes"),
            None => format!("use a whole number from {low} to {high}"),
        };
        return Err(wrong_type(value, "an integer").help(help));
    };
    let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(|n| u32::try_from(n).ok());
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| Fault::new(format!("{integer} is out of range")).help(format!("use {low} to {high}")))
}

/// A period within bounds.
pub(crate) fn period(value: &DeValue<'_>, range: &RangeInclusive<Duration>) -> Result<Duration, Fault> {
    let bounds = format!("{} to {}", Period(*range.start()), Period(*range.end()));
    if let Some(number) = value.as_integer() {
        let fault = wrong_type(value, "a duration with a unit");
        return Err(fault.help(format!("write \"{}s\" for seconds; {bounds} are possible", number.as_str())));
    }
    let text = value.as_str().ok_or_else(|| {
        wrong_type(value, "a duration with a unit").help(format!("write it as \"25s\"; {bounds} are possible"))
    })?;
    let Period(period) = text.parse().map_err(|error: PeriodError| {
        let help = match error {
            PeriodError::NoUnit => format!("write \"{}s\" for seconds", text.trim()),
            PeriodError::Number | PeriodError::Unit => {
                "write a whole number and ms, s, m or h, such as \"25s\"".to_owned()
            }
            PeriodError::TooLong => format!("use {bounds}"),
        };
        Fault::new(format!("{} {error}", quote(text))).help(help)
    })?;
    if !range.contains(&period) {
        let side = if period < *range.start() { "short" } else { "long" };
        return Err(Fault::new(format!("{} is too {side}", quote(text))).help(format!("use {bounds}")));
    }
    Ok(period)
}

/// Shows a period.
pub(crate) fn show_period(period: &Duration) -> Value {
    Value::text(&Period(*period))
}

/// One of a closed set of words.
pub(crate) fn choice<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Result<T, Fault> {
    word(text(value)?, choices)
}

/// One of a closed set of words, by itself.
pub(crate) fn word<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Fault> {
    if let Some((_, chosen)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*chosen);
    }
    let fault = Fault::new(format!("unknown value {}", quote(text)));
    let words = choices.iter().map(|(word, _)| *word);
    if let Some(near) = crate::suggest::nearest(text, words.clone()) {
        return Err(fault.help(format!("did you mean \"{near}\"?")));
    }
    let words: Vec<_> = words.map(|word| format!("\"{word}\"")).collect();
    Err(fault.help(format!("use {}", words.join(", "))))
}

/// A path as written; the caller resolves it against the folder of the file.
pub(crate) fn path(value: &DeValue<'_>) -> Result<PathBuf, Fault> {
    let text = text(value)?;
    if text.trim().is_empty() {
        return Err(Fault::new("is empty").help("write a path, or leave the key out"));
    }
    if text.contains('\0') {
        return Err(Fault::new("has a NUL character, which no path can have").help("remove it"));
    }
    Ok(PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> DeValue<'_> {
        DeValue::parse(text).unwrap().into_inner()
    }

    fn said<T: std::fmt::Debug>(result: Result<T, Fault>) -> String {
        let Fault { message, help } = result.unwrap_err();
        format!("{message}; {}", help.unwrap_or_default())
    }

    #[test]
    fn integers_are_read_in_every_notation_and_kept_in_bounds() {
        let read = |text: &str| integer(&value(text), &(5..=70_000));
        assert_eq!([read("5"), read("70_000"), read("0xFF"), read("+7")], [Ok(5), Ok(70_000), Ok(255), Ok(7)]);
        assert_eq!(said(read("4")), "4 is out of range; use 5 to 70000");
        assert_eq!(said(read("0x0")), "0x0 is out of range; use 5 to 70000");
        assert_eq!(said(read("-7")), "-7 is out of range; use 5 to 70000");
        assert!(said(read("99999999999999999999999")).contains("out of range"));
        assert_eq!(said(read("\"77\"")), "must be an integer, not a text; write 77 without quotes");
        assert_eq!(
            said(read("7.5")),
            "must be an integer, not a number with a fraction; use a whole number from 5 to 70000"
        );
    }

    #[test]
    fn periods_name_their_bounds() {
        let bounds = Duration::from_secs(1)..=Duration::from_secs(180);
        let read = |text: &str| period(&value(text), &bounds);
        assert_eq!(read("\"2m\""), Ok(Duration::from_secs(120)));
        assert_eq!(said(read("\"181s\"")), "\"181s\" is too long; use 1s to 3m");
        assert_eq!(said(read("\"900ms\"")), "\"900ms\" is too short; use 1s to 3m");
        assert_eq!(said(read("\"25\"")), "\"25\" has no unit; write \"25s\" for seconds");
        assert!(said(read("\"1.5s\"")).starts_with("\"1.5s\" has an unknown unit; write a whole number"));
        assert!(said(read("25")).starts_with("must be a duration with a unit, not an integer; write \"25s\""));
        assert!(said(read("true")).contains("not true or false"));
    }

    #[test]
    fn a_choice_offers_the_nearest_word_or_all() {
        let read = |text: &str| choice(&value(text), &[("edge", 1), ("connector", 2)]);
        assert_eq!(read("\"edge\""), Ok(1));
        assert_eq!(said(read("\"conector\"")), "unknown value \"conector\"; did you mean \"connector\"?");
        assert_eq!(said(read("\"hub\"")), "unknown value \"hub\"; use \"edge\", \"connector\"");
        assert_eq!(said(read("7")), "must be a text, not an integer; put it in quotes: \"7\"");
    }

    #[test]
    fn labels_and_paths_are_not_empty() {
        assert!(label(&value("\"  \"")).is_err() && label(&value("\"a\\nb\"")).is_err());
        assert!(label(&DeValue::String("x".repeat(65).into())).is_err());
        assert_eq!(label(&value("\"cn north\"")), Ok("cn north".into()));
        assert!(path(&value("\"\"")).is_err() && path(&value("\"a\\u0000\"")).is_err());
        assert_eq!(path(&value("\"a/b\"")), Ok(PathBuf::from("a/b")));
    }

    #[test]
    fn a_switch_is_no_text() {
        assert_eq!(switch(&value("true")), Ok(true));
        assert!(said(switch(&value("\"true\""))).contains("without quotes"));
    }
}
