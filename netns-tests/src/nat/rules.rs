//! What each kind of NAT is in nftables.
//!
//! Linux's own NAT is port restricted: it keeps the source port, or takes the one that the same inner endpoint has
//! already, and its connection tracking lets in answers only. The other kinds deviate in three places: how a source port
//! is found; `back`, a map of outer ports to inner endpoints that is learned from what goes out, after its translation;
//! and `asked`, which remembers whom each outer port has sent to.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::{Hairpin, NatKind, Wall};

/// Each mapping of [`NatKind::SymmetricSequential`] has a port by so much greater than the last.
pub(super) const STEP: u16 = 1;

/// Where its ports begin, and how many there are before they begin anew.
const SEQUENCE: (u16, u16) = (40_000, 4096);

/// The ports of [`NatKind::Cgn`]: neither meshd's own nor one that Linux gives to sockets is among them.
const CGN_PORTS: &str = "10240-26623";

/// A gateway, as its rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting<'a> {
    /// One of a single gateway: [`NatKind::layers`] has taken the others apart.
    pub(super) kind: NatKind,
    pub(super) wall: Wall,
    pub(super) hairpin: Hairpin,
    /// Interface to the LAN.
    pub(super) inside: &'a str,
    /// Interface to the internet.
    pub(super) outside: &'a str,
    /// What it translates to.
    pub(super) outer: Ipv4Addr,
    /// How long `back` and `asked` remember, in seconds.
    pub(super) memory: u64,
}

impl Setting<'_> {
    /// The gateway's tables, in place of those before; nothing is remembered from them.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for family in ["ip", "ip6"] {
            let _ = writeln!(text, "table {family} gateway {{}}\ndelete table {family} gateway");
        }
        if self.kind != NatKind::None {
            let [memories, out] = [self.memories(), self.way_out()];
            let _ = writeln!(text, "table ip gateway {{\n{memories}{out}{}{}}}", self.way_in(), self.guard());
        }
        if self.wall == Wall::Firewall {
            text.push_str(&self.firewall());
        }
        text
    }

    fn memories(&self) -> String {
        let flags = format!("flags dynamic,timeout; size 65535; timeout {}s;", self.memory);
        let inside = self.inside;
        // After the translation (srcnat is 100), which alone knows the outer port. An answer to what came in belongs to a
        // connection that began outside.
        format!(
            "map back {{ type inet_service : ipv4_addr . inet_service; {flags} }}\n\
             set asked {{ type inet_service . ipv4_addr; {flags} }}\n\
             chain learn {{\ntype filter hook postrouting priority srcnat + 10;\n\
             iifname != \"{inside}\" return\n\
             meta l4proto != udp return\n\
             ct direction original update @back {{ udp sport : ct original ip saddr . ct original proto-src }}\n\
             ct direction original update @asked {{ udp sport . ct original ip daddr }}\n\
             ct direction reply update @back {{ udp sport : ct reply ip saddr . ct reply proto-src }}\n\
             ct direction reply update @asked {{ udp sport . ct reply ip daddr }}\n}}\n"
        )
    }

    fn way_out(&self) -> String {
        let Self { inside, outside, outer, .. } = self;
        let udp = match self.kind {
            NatKind::Cgn => format!("{outer}:{CGN_PORTS}"),
            NatKind::SymmetricSequential => format!("{outer} : numgen inc mod {} map {{ {} }}", SEQUENCE.1, sequence()),
            NatKind::SymmetricRandom => format!("{outer}:1024-65535 fully-random"),
            NatKind::None
            | NatKind::FullCone
            | NatKind::AddressRestricted
            | NatKind::PortRestricted
            | NatKind::NoUdp
            | NatKind::DoubleNat(..) => outer.to_string(),
        };
        format!(
            "chain source {{\nmeta l4proto udp snat to {udp}\nsnat to {outer}\n}}\n\
             chain out {{\ntype nat hook postrouting priority srcnat;\n\
             oifname \"{outside}\" jump source\noifname \"{inside}\" ct status dnat jump source\n}}\n"
        )
    }

    fn way_in(&self) -> String {
        let Self { inside, outside, outer, .. } = self;
        let target = "dnat ip to udp dport map @back\n";
        let from_outside = match self.kind {
            NatKind::FullCone => format!("iifname \"{outside}\" ip daddr {outer} {target}"),
            NatKind::AddressRestricted => {
                format!("iifname \"{outside}\" ip daddr {outer} udp dport . ip saddr @asked {target}")
            }
            NatKind::None
            | NatKind::PortRestricted
            | NatKind::Cgn
            | NatKind::SymmetricSequential
            | NatKind::SymmetricRandom
            | NatKind::NoUdp
            | NatKind::DoubleNat(..) => String::new(),
        };
        let from_inside = match self.hairpin {
            Hairpin::On => format!("iifname \"{inside}\" ip daddr {outer} {target}"),
            Hairpin::Off => String::new(),
        };
        format!("chain in {{\ntype nat hook prerouting priority dstnat;\n{from_outside}{from_inside}}}\n")
    }

    /// What nobody asked for is dropped, not refused, and so tracked by nobody: Linux would take a connection of its own for
    /// it, and give the host that then sends to its source another port.
    fn guard(&self) -> String {
        let outer = self.outer;
        let udp = if self.kind == NatKind::NoUdp { "meta l4proto udp drop\n" } else { "" };
        format!(
            "chain input {{\ntype filter hook input priority 0;\n\
             ip daddr {outer} meta l4proto {{ tcp, udp }} ct state new drop\n}}\n\
             chain forward {{\ntype filter hook forward priority 0;\n{udp}}}\n"
        )
    }

    fn firewall(&self) -> String {
        let outside = self.outside;
        format!(
            "table ip6 gateway {{\nchain forward {{\ntype filter hook forward priority 0;\n\
             iifname \"{outside}\" ct state established,related accept\niifname \"{outside}\" drop\n}}\n}}\n"
        )
    }
}

/// The ports of [`NatKind::SymmetricSequential`], as the elements of a map.
fn sequence() -> String {
    let (first, count) = SEQUENCE;
    let elements: Vec<String> = (0..count).map(|number| format!("{number} : {}", first + number * STEP)).collect();
    elements.join(", ")
}
