//! What `POST /v1/trace` takes and says: a line for each packet, and one at the end.

use serde::{Deserialize, Serialize};

/// Which packets, and for how long. All of the filter must be met; what is absent does not matter.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceRequest {
    /// Name of a peer, or an address of it.
    #[serde(default)]
    pub(crate) peer: Option<String>,
    /// Inner source or destination: an address or a prefix.
    #[serde(default)]
    pub(crate) host: Option<String>,
    /// Inner source or destination port.
    #[serde(default)]
    pub(crate) port: Option<u16>,
    /// Inner protocol.
    #[serde(default)]
    pub(crate) protocol: Option<Protocol>,
    /// Only what is dropped.
    #[serde(default)]
    pub(crate) drops: bool,
    /// One of so many.
    #[serde(default)]
    pub(crate) sample: Option<u64>,
    /// How many packets at most.
    #[serde(default)]
    pub(crate) count: Option<u64>,
    /// For how long, in milliseconds.
    #[serde(default)]
    pub(crate) for_ms: Option<u64>,
    /// Sends the first so many bytes of each packet too.
    #[serde(default)]
    pub(crate) snap: Option<usize>,
}

/// An inner protocol, of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

/// A line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum TraceLine {
    /// A packet.
    Packet(Box<PacketLine>),
    /// So many packets before this were not kept: they came faster than they were read.
    Lost { count: u64 },
    /// The last line.
    End(EndLine),
}

/// A packet, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PacketLine {
    /// When, as RFC 3339 writes it, in UTC.
    pub(crate) time: String,
    /// The same in microseconds since 1970.
    pub(crate) unix_us: u64,
    /// `out`: from the TUN device; `in`: from a peer; `relayed`: from a member to another.
    pub(crate) direction: String,
    /// Inner addresses; absent where the inner packet cannot be read.
    pub(crate) source: Option<String>,
    pub(crate) destination: Option<String>,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, or the number.
    pub(crate) protocol: Option<String>,
    pub(crate) source_port: Option<u16>,
    pub(crate) destination_port: Option<u16>,
    pub(crate) icmp_type: Option<u8>,
    /// Bytes of the inner packet, or of the datagram where that cannot be read.
    pub(crate) length: usize,
    pub(crate) peer: Option<String>,
    /// Kind, and the relay's name or the address.
    pub(crate) path: Option<String>,
    /// Where a relayed datagram goes on to.
    pub(crate) onward: Option<String>,
    /// This node's index of the session, in hexadecimal.
    pub(crate) session: Option<String>,
    pub(crate) lane: Option<u8>,
    /// Of the first datagram, on its lane.
    pub(crate) counter: Option<u64>,
    /// Datagrams that a super-packet became; zero where there is none.
    pub(crate) segments: usize,
    /// `sent`, `delivered`, `forwarded`, `punted` or `dropped`.
    pub(crate) verdict: String,
    /// Why it was punted or dropped, as in `drops` of the status.
    pub(crate) reason: Option<String>,
    /// The same in words.
    pub(crate) text: Option<String>,
    /// Its first bytes in base64, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<String>,
}

/// How a trace ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndLine {
    /// `time`, `count` or `reload`.
    pub(crate) reason: String,
    /// Packets told.
    pub(crate) packets: u64,
    /// Packets that were not kept.
    pub(crate) lost: u64,
}
