//! The wall clock, by which peers tell new handshakes from repeated ones.

use std::time::Duration;

use super::facts::{ClockFacts, Facts};
use super::finding::{Check, Finding};

/// How far ahead of the last handshake the floor is kept, and as much again for the time between two looks.
const MARGIN: Duration = Duration::from_secs(20);

const CLOCK: Check = Check("clock");

pub(super) fn clock(facts: &Facts) -> Vec<Finding> {
    let ClockFacts { now, built, is_synchronised, floor } = &facts.clock;
    let set = "set it: timedatectl set-ntp true, or date -s";
    let mut findings = Vec::new();
    if built.is_some_and(|built| *now < built) {
        let found = "it is set to a time before this program was written: a machine without a battery?";
        findings.push(CLOCK.fail(found, set));
    }
    match floor {
        Ok(floor) if *floor > *now + MARGIN => {
            let ahead = crate::cli::span(*floor - *now);
            let found =
                format!("it is {ahead} behind the last handshake of this node (the file timestamp in [state] dir)");
            findings.push(CLOCK.warn(found, set));
        }
        Ok(_) => {}
        Err(reason) => findings.push(CLOCK.skipped(format!("the last handshake: {reason}"), "run this as root")),
    }
    findings.push(match is_synchronised {
        Ok(true) => CLOCK.ok("something keeps it right"),
        Ok(false) => CLOCK.warn("nothing keeps it right (adjtimex says unsynchronised)", "timedatectl set-ntp true"),
        Err(reason) => CLOCK.skipped(reason, "timedatectl"),
    });
    findings
}
