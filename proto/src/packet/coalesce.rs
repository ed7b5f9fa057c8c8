//! Puts a run of authenticated segments together again, as the super-packet that the sender's kernel had made (COAL).
//!
//! The payload is not copied: a run is a list of [`Part`]s of the receive memory, and only the first header is patched.
//! Continuations are not compared with the first header. They come from the same peer, which could as well have sent
//! that header, so the worst it can garble is its own flow; what is checked here is that the result is a valid packet.

use std::net::IpAddr;

use super::checksum;
use super::layout::{
    self, IPV4_HEADER, IPV6_HEADER, Layout, Malformed, Transport, Version, field, read_u16, write_u16,
};
use super::segment::{ACK, CWR, FIN, PSH, Position, RST, SYN, Template, URG};
use super::{Gso, Offload};
use super::{MAX_PACKET, MAX_SEGMENTS, Part};

/// Segments that become one packet on a device, with what is needed of the first one's headers.
#[derive(Clone, Debug)]
pub struct Run {
    parts: [Part; MAX_SEGMENTS],
    count: usize,
    layout: Layout,
    /// The first packet's headers as they came.
    headers: [u8; MAX_HEADERS],
    partial_checksum: bool,
    /// Payload bytes of the first packet.
    segment_size: usize,
    /// Bytes of the merged packet.
    total: usize,
    /// TCP flags that the last segment added.
    last_flags: u8,
    is_open: bool,
    /// Where the memory must reach for all parts to lie inside.
    memory_end: usize,
}

/// Room for the longest headers that are not [`Transport::Other`]: 60 bytes of IPv4 and 60 bytes of TCP.
const MAX_HEADERS: usize = 128;

const NOTHING: Part = Part { start: 0, len: 0 };
const NO_LAYOUT: Layout = Layout { version: Version::V4, transport: Transport::Other, l4_offset: 0, header_len: 0 };

impl Default for Run {
    fn default() -> Self {
        Self::new()
    }
}

impl Run {
    /// An empty run.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            parts: [NOTHING; MAX_SEGMENTS],
            count: 0,
            layout: NO_LAYOUT,
            headers: [0; MAX_HEADERS],
            partial_checksum: false,
            segment_size: 0,
            total: 0,
            last_flags: 0,
            is_open: false,
            memory_end: 0,
        }
    }

    /// Begins a run with the packet at `part` of `memory`, and forgets the previous one.
    ///
    /// # Errors
    /// The packet is [`Malformed`], or has a partial checksum that meshd cannot complete; then the run is empty.
    #[inline]
    pub fn start(&mut self, memory: &[u8], part: Part, partial_checksum: bool) -> Result<(), Malformed> {
        self.clear();
        let outside = Malformed::OutsideMemory { start: part.start, len: part.len };
        let packet = slice(memory, part).ok_or(outside)?;
        let layout = Layout::parse(packet)?;
        if partial_checksum && layout.transport == Transport::Other {
            return Err(Malformed::NoChecksumField);
        }
        let too_short = Malformed::TooShort { len: packet.len() };
        let (headers, payload) = packet.split_at_checked(layout.header_len).ok_or(too_short)?;
        self.headers.get_mut(..headers.len()).ok_or(too_short)?.copy_from_slice(headers);
        self.layout = layout;
        self.partial_checksum = partial_checksum;
        self.segment_size = payload.len();
        self.total = packet.len();
        // Without payload there is no size that a continuation could have.
        self.is_open = partial_checksum && may_continue(headers, &layout);
        self.push(part, part);
        Ok(())
    }

    /// Appends the packet at `part` of `memory`, which its datagram, authenticated, calls the continuation of the
    /// previous one: same session, same lane, next counter. All but its payload and its final TCP flags is dropped.
    ///
    /// False: it does not fit, so finish this run and start the next one with it.
    #[inline]
    #[must_use]
    pub fn try_append(&mut self, memory: &[u8], part: Part, partial_checksum: bool) -> bool {
        let payload_len = part.len.saturating_sub(self.layout.header_len);
        let total = self.total.saturating_add(payload_len);
        let fits = self.is_open
            && partial_checksum
            && (1..=self.segment_size).contains(&payload_len)
            && total <= MAX_PACKET
            && self.count < MAX_SEGMENTS;
        if !fits {
            return false;
        }
        let Some(flags) = slice(memory, part).and_then(|packet| self.continuation_flags(packet)) else {
            return false;
        };
        self.total = total;
        self.last_flags = flags;
        self.is_open = flags == 0 && payload_len == self.segment_size;
        self.push(part, Part { start: part.start.saturating_add(self.layout.header_len), len: payload_len });
        true
    }

    /// Patches the first header in place so that it speaks for the whole run, and returns what to hand to the device.
    ///
    /// A single packet without partial checksum is left untouched. `None`: the run is empty, or `memory` is not the
    /// memory that it was made of.
    #[inline]
    pub fn finish(&self, memory: &mut [u8]) -> Option<(&[Part], Offload)> {
        let parts = self.parts.get(..self.count)?;
        let first = parts.first()?;
        if memory.len() < self.memory_end {
            return None;
        }
        if self.partial_checksum {
            self.patch(memory.get_mut(first.start..)?.get_mut(..self.layout.header_len)?);
        }
        Some((parts, self.offload()))
    }

    /// Takes the run apart again, for a device that refuses super-packets: writes one segment to the start of `out` as
    /// a packet of its own, with a complete checksum. Works before and after [`finish`](Self::finish).
    ///
    /// Returns its length; zero where there is no such segment or `out` is too small.
    pub fn segment(&self, memory: &[u8], index: usize, out: &mut [u8]) -> usize {
        self.write_segment(memory, index, out).unwrap_or(0)
    }

    /// Whether there is nothing in it.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many segments it holds.
    #[inline]
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Bytes of the packet that it makes.
    #[inline]
    #[must_use]
    pub const fn total_len(&self) -> usize {
        self.total
    }

    /// Forgets everything.
    #[inline]
    pub const fn clear(&mut self) {
        self.count = 0;
        self.layout = NO_LAYOUT;
        self.partial_checksum = false;
        self.segment_size = 0;
        self.total = 0;
        self.last_flags = 0;
        self.is_open = false;
        self.memory_end = 0;
    }

    /// The first packet's headers; `None` for an empty run.
    #[inline]
    #[must_use]
    pub fn layout(&self) -> Option<&Layout> {
        (self.count > 0).then_some(&self.layout)
    }

    /// The first packet's source and destination, which are those of the whole run.
    #[inline]
    #[must_use]
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        layout::addresses(self.headers.get(..self.layout()?.header_len)?)
    }

    #[inline]
    fn push(&mut self, whole: Part, kept: Part) {
        if let Some(slot) = self.parts.get_mut(self.count) {
            *slot = kept;
            self.count = self.count.saturating_add(1);
            self.memory_end = self.memory_end.max(whole.start.saturating_add(whole.len));
        }
    }

    /// FIN and PSH of a continuation; `None` where its headers end elsewhere than the first one's, or its TCP flags are
    /// none that segmentation gives to a later segment.
    #[inline]
    fn continuation_flags(&self, packet: &[u8]) -> Option<u8> {
        let (ip, first) = (packet.first_chunk::<IPV4_HEADER>()?, self.headers.first_chunk::<IPV4_HEADER>()?);
        let has_same_ip = match self.layout.version {
            Version::V4 => ip[0] == first[0] && ip[9] == first[9] && [ip[6] & 0x3f, ip[7]] == [0, 0],
            Version::V6 => ip[0] >> 4 == 6 && ip[6] == first[6],
        };
        if !has_same_ip {
            return None;
        }
        match self.layout.transport {
            Transport::Udp => Some(0),
            Transport::Tcp => {
                let tcp = packet.get(self.layout.l4_offset..)?.first_chunk::<14>()?;
                let first = self.headers.get(self.layout.l4_offset..)?.first_chunk::<14>()?;
                let has_same_flags = (tcp[13] ^ first[13]) & !(FIN | PSH | CWR) == 0 && tcp[13] & CWR == 0;
                (tcp[12] >> 4 == first[12] >> 4 && has_same_flags).then_some(tcp[13] & (FIN | PSH))
            }
            Transport::Other => None,
        }
    }

    #[inline]
    fn patch(&self, headers: &mut [u8]) {
        let l4_len = self.total.saturating_sub(self.layout.l4_offset);
        if self.count > 1 {
            match self.layout.version {
                Version::V4 => checksum::write_ipv4_header(headers, field(self.total)),
                Version::V6 => {
                    write_u16(headers, 4, field(self.total.saturating_sub(IPV6_HEADER)));
                }
            }
            match self.layout.transport {
                Transport::Udp => {
                    write_u16(headers, self.layout.l4_offset.saturating_add(4), field(l4_len));
                }
                Transport::Tcp => {
                    if let Some(flags) = headers.get_mut(self.layout.l4_offset.saturating_add(13)) {
                        *flags |= self.last_flags;
                    }
                }
                Transport::Other => {}
            }
        }
        checksum::write_partial(headers, &self.layout, l4_len);
    }

    #[inline]
    fn offload(&self) -> Offload {
        let partial_checksum = self.partial_checksum;
        let gso = match self.layout.transport {
            Transport::Tcp if self.count > 1 => Gso::Tcp,
            Transport::Udp if self.count > 1 => Gso::Udp,
            Transport::Tcp | Transport::Udp | Transport::Other => Gso::None,
        };
        let segment_size = if gso == Gso::None { 0 } else { field(self.segment_size) };
        Offload { gso, segment_size, partial_checksum }
    }

    fn write_segment(&self, memory: &[u8], index: usize, out: &mut [u8]) -> Option<usize> {
        let bytes = slice(memory, *self.parts.get(..self.count)?.get(index)?)?;
        if self.count == 1 {
            let out = out.get_mut(..bytes.len())?;
            out.copy_from_slice(bytes);
            if self.partial_checksum {
                checksum::complete(out, &self.layout);
            }
            return Some(bytes.len());
        }
        let headers = self.headers.get(..self.layout.header_len)?;
        let payload = if index == 0 { bytes.get(headers.len()..)? } else { bytes };
        let len = headers.len().saturating_add(payload.len());
        let out = out.get_mut(..len)?;
        let template = Template::new(headers, self.layout, field(self.segment_size))?.with_flags(self.last_flags);
        let position = Position { index, is_last: index.saturating_add(1) == self.count };
        template.write(position, payload, out)?;
        checksum::complete(out, &self.layout);
        Some(len)
    }
}

/// Whether other segments may follow a packet with these headers in one super-packet.
#[inline]
fn may_continue(headers: &[u8], layout: &Layout) -> bool {
    match layout.transport {
        Transport::Udp => true,
        Transport::Tcp => {
            let flags = headers.get(layout.l4_offset..).and_then(|tcp| tcp.get(13)).copied().unwrap_or(0);
            flags & (FIN | SYN | RST | PSH | ACK | URG) == ACK
        }
        Transport::Other => false,
    }
}

#[inline]
fn slice(memory: &[u8], part: Part) -> Option<&[u8]> {
    memory.get(part.start..)?.get(..part.len)
}

/// What consecutive UDP datagrams have in common that may travel as one super-packet: every header byte but the lengths,
/// the IPv4 ID and the checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    headers: [u8; IPV6_HEADER + layout::UDP_HEADER],
    /// Bytes of the packet.
    len: usize,
}

impl FlowKey {
    /// The key of a packet that `layout` was parsed from.
    ///
    /// `None`: it is no UDP datagram, is empty, or must stay as it is: a super-packet would lose its IPv4 options, and
    /// its ID where that has a meaning because DF is clear (RFC 6864 §4).
    #[inline]
    #[must_use]
    pub fn of(packet: &[u8], layout: &Layout) -> Option<Self> {
        const DONT_FRAGMENT: u16 = 0x4000;
        if layout.transport != Transport::Udp || packet.len() <= layout.header_len {
            return None;
        }
        let mut headers = [0; IPV6_HEADER + layout::UDP_HEADER];
        match layout.version {
            Version::V4 => {
                let bytes = packet.first_chunk::<{ IPV4_HEADER + layout::UDP_HEADER }>()?;
                if layout.l4_offset != IPV4_HEADER || read_u16(bytes, 6)? & DONT_FRAGMENT == 0 {
                    return None;
                }
                *headers.first_chunk_mut()? = *bytes;
                [headers[2], headers[3], headers[4], headers[5], headers[10], headers[11]] = [0; 6];
                headers[24..28].fill(0);
            }
            Version::V6 => {
                headers = *packet.first_chunk()?;
                [headers[4], headers[5]] = [0; 2];
                headers[44..48].fill(0);
            }
        }
        Some(Self { headers, len: packet.len() })
    }

    /// Whether a super-packet that ends with `previous` may take this one too: of its flow, and as long, or shorter as
    /// the last.
    #[inline]
    #[must_use]
    pub fn continues(&self, previous: &Self) -> bool {
        self.headers == previous.headers && self.len <= previous.len
    }

    /// Whether this one ends a super-packet by being shorter than `previous`.
    #[inline]
    #[must_use]
    pub const fn is_shorter(&self, previous: &Self) -> bool {
        self.len < previous.len
    }
}
