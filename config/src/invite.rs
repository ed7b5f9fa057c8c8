//! `[invite]` of `meshd.toml`, and `invited_until` of an endpoint: who may become a member without an operator's hand.

use std::time::{SystemTime, UNIX_EPOCH};

use proto::invitation::{Invited, UnixTime};
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};
use toml::de::{DeTable, DeValue};
use toml::value::{Datetime, Offset};

use crate::error::{Fault, quote};
use crate::note::Value;
use crate::read::{Located, Reader};
use crate::source::{Place, Source};
use crate::{scalar, shape};

/// `[invite]`: what becomes of invitations that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InviteConfig {
    /// Whether this node writes those who use one into its mesh file by itself.
    pub accept: bool,
}

/// Reads `[invite]`.
pub(crate) fn read(reader: &mut Reader<'_>, root: &DeTable<'_>) -> InviteConfig {
    let section = reader.section(root, &shape::INVITE);
    InviteConfig { accept: reader.value_or(section, "accept", false, scalar::switch, |on| Value::Switch(*on)) }
}

/// The moment now, by the system's clock.
#[must_use]
pub fn unix_now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// A moment as the mesh file has it: RFC 3339, UTC, whole seconds.
#[must_use]
pub fn time_text(at: UnixTime) -> String {
    let seconds = i64::try_from(at.0).unwrap_or(i64::MAX);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, time) = (at.date(), at.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", time.hour(), time.minute(), time.second())
}

/// Reads `invited_until`.
pub(crate) fn until(value: &DeValue<'_>) -> Result<UnixTime, Fault> {
    let text = scalar::text(value)?;
    let fault = || {
        let fault = Fault::new(format!("{} is not a moment", quote(text)));
        fault.help("write it as RFC 3339 has it, with Z: \"2026-11-22T12:00:00Z\"")
    };
    moment_of(text).ok_or_else(fault)
}

/// A moment as [`time_text`] writes it, or another with its offset.
pub(crate) fn moment_of(text: &str) -> Option<UnixTime> {
    text.parse::<Datetime>().ok().and_then(moment)
}

fn moment(written: Datetime) -> Option<UnixTime> {
    let (date, time) = written.date.zip(written.time)?;
    let minutes = match written.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => minutes,
    };
    let date = Date::from_calendar_date(date.year.into(), Month::try_from(date.month).ok()?, date.day).ok()?;
    let time = Time::from_hms(time.hour, time.minute, time.second.unwrap_or(0)).ok()?;
    let offset = UtcOffset::from_whole_seconds(i32::from(minutes) * 60).ok()?;
    let at = PrimitiveDateTime::new(date, time).assume_offset(offset).unix_timestamp();
    u64::try_from(at).ok().map(UnixTime)
}

/// What to say of invitations that nobody used in time.
pub(crate) fn expired(source: &Source<'_>, invited: &[Located<Invited>], now: UnixTime) -> Vec<String> {
    let over = invited.iter().filter(|one| one.value.until <= now);
    let text = |Located { value, at }: &Located<Invited>| {
        let (Place { line, column }, name) = (source.place(*at), value.name.as_str());
        let file = source.file.display();
        let help = format!("run `meshd invite {name}` for another, or remove the endpoint");
        format!("{file}:{line}:{column}: the invitation of {} has expired; {help}", quote(name))
    };
    over.map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<UnixTime, Fault> {
        until(&DeValue::String(text.into()))
    }

    #[test]
    fn a_moment_is_read_with_its_offset_and_nothing_less_than_a_whole_one_is() {
        assert_eq!(read("1970-01-01T00:00:00Z").ok(), Some(UnixTime(0)));
        assert_eq!(read("2026-11-22T12:00:00Z").ok(), Some(UnixTime(1_795_348_800)));
        assert_eq!(read("2026-11-22T14:00:00+02:00").ok(), Some(UnixTime(1_795_348_800)));
        for text in [
            "",
            "tomorrow",
            "2026-11-22",
            "2026-11-22T12:00:00",
            "12:00:00",
            "2026-02-30T12:00:00Z",
            "1960-01-01T00:00:00Z",
        ] {
            let fault = read(text).unwrap_err();
            assert!(fault.help.is_some_and(|help| help.contains("2026-11-22T12:00:00Z")), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_moment_survives_its_text(seconds in 0u64..=253_402_300_799) {
            prop_assert_eq!(read(&time_text(UnixTime(seconds))).ok(), Some(UnixTime(seconds)));
        }
    }
}
