//! Limits that are no tunnels for use: a forwarder without encryption, and the throwaway program of this very design.
//! Their programs are not installed by this one: `$PEERS_BIN` names the folder where they are.

use std::process::Command;

use super::{Install, Over, Peer, nothing_to_prepare};
use crate::Outcome;
use crate::testbed::Side;

const HAND: Install = Install::Other("build it and name its folder in PEERS_BIN");

/// As many segments as fit one UDP send with an MTU of 1420, so that a super-packet is one send.
const RTC_SEGMENTS: u32 = 45;

pub(crate) const FWD_GSO: Peer = Peer {
    name: "fwd-gso",
    about: "TUN to UDP without encryption, with offloads",
    is_limit: true,
    programs: &["fwd"],
    install: HAND,
    version: None,
    mtu: 1472,
    over: Over::Tunnel,
    prepare: nothing_to_prepare,
    start: |side| Ok(Some(forward(side, &["gso"], &[]))),
    configure: |side| configure(side, 1000, None),
};

pub(crate) const RTC: Peer = Peer {
    name: "rtc",
    about: "the spike of meshd's design, AES-256-GCM",
    programs: &["rtc"],
    mtu: 1420,
    start: |side| Ok(Some(forward(side, &[], &[]))),
    configure: |side| configure(side, 500, Some(RTC_SEGMENTS)),
    ..FWD_GSO
};

pub(crate) const RTC_NULL: Peer = Peer {
    name: "rtc-null",
    about: "the spike of meshd's design, without a cipher",
    start: |side| Ok(Some(forward(side, &[], &["aead=null"]))),
    ..RTC
};

fn forward(side: &Side, before: &[&str], after: &[&str]) -> Command {
    let mut command = side.daemon();
    command.args(before).arg(format!("tun{}", side.name));
    command.args([format!("{}:9000", side.link.mine), format!("{}:9000", side.link.theirs)]).args(after);
    command
}

fn configure(side: &Side, queue: u32, segments: Option<u32>) -> Outcome {
    let interface = format!("tun{}", side.name);
    side.wait_interface(&interface)?;
    side.run(&format!("ip link set {interface} txqueuelen {queue}"))?;
    if let Some(segments) = segments {
        side.run(&format!("ip link set {interface} gso_max_segs {segments}"))?;
    }
    side.set_up_interface(&interface)
}
