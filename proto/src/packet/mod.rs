//! Inner IP packets as bytes: pure functions that parse, segment, coalesce and checksum. No state, no panics.
//!
//! `layout` finds the headers, `checksum` fills the checksum fields, `segment` takes the kernel's super-packets apart
//! for the sender, `coalesce` puts them together again for the receiver, `vnet` says to the TUN device what is left undone
//! in a packet, `icmp` says no to an inner sender, `mss` and `fragment` make packets fit a narrow path, and `tuple` tells who talks
//! to whom.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod checksum;
pub mod coalesce;
pub mod flow;
pub mod fragment;
pub mod icmp;
pub mod layout;
pub mod mss;
pub mod segment;
pub mod tuple;
pub mod vnet;

/// The largest IP packet, and so the largest super-packet: 65,535 bytes (RFC 791 §3.1).
pub const MAX_PACKET: usize = 65_535;

/// A piece of memory: where it starts, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Offset of its first byte.
    pub start: usize,
    /// Bytes.
    pub len: usize,
}

#[cfg(test)]
mod tests;

/// What the kernel left undone in a packet that it handed over, or may leave undone in one it is handed.
///
/// The neutral form of a virtio-net header (virtio 1.2 §5.1.6): offsets are not in it because each side derives them from
/// its own parse of the packet ([`layout::Layout`]) and never trusts somebody else's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Which transport's super-packet this is.
    pub gso: Gso,
    /// Payload bytes per segment; zero where `gso` is [`Gso::None`].
    pub segment_size: u16,
    /// The transport checksum field holds the pseudo-header sum only (`CSUM_PARTIAL`).
    pub partial_checksum: bool,
}

/// The kind of super-packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gso {
    /// An ordinary packet.
    #[default]
    None,
    /// TCP over IPv4 or IPv6 (TSO).
    Tcp,
    /// UDP over IPv4 or IPv6 (USO).
    Udp,
}

/// Most segments of a super-packet, and most datagrams of one UDP GSO send: `UDP_MAX_SEGMENTS` of kernels before 6.9, and what a receiver's GRO merges at most.
pub const MAX_SEGMENTS: usize = 64;
