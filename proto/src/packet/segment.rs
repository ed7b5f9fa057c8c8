//! Takes a super-packet of the kernel apart into the packets that it stands for (TSO, USO), for the sender to seal.

use super::checksum;
use super::layout::{IPV6_HEADER, Layout, Malformed, TCP_HEADER, Transport, UDP_HEADER, Version, field};
use super::{Gso, Offload};

/// A super-packet, or an ordinary packet as the only segment of itself, that was checked once and is written out
/// segment by segment.
#[derive(Clone, Debug)]
pub struct Segments<'p> {
    packet: &'p [u8],
    layout: Layout,
    segment_size: u16,
    count: usize,
    partial_checksum: bool,
    template: Option<Template<'p>>,
}

impl<'p> Segments<'p> {
    /// Checks `packet` against the offload that it came with.
    ///
    /// # Errors
    /// The packet is [`Malformed`], or its offload does not fit it. A partial checksum in anything but TCP and UDP has
    /// to be [completed](checksum::complete_at) before.
    #[inline]
    pub fn new(packet: &'p [u8], offload: &Offload) -> Result<Self, Malformed> {
        let layout = Layout::parse(packet)?;
        let (gso, transport) = (offload.gso, layout.transport);
        match (gso, transport) {
            (Gso::None, Transport::Other) if offload.partial_checksum => Err(Malformed::NoChecksumField),
            (Gso::None, Transport::Tcp | Transport::Udp | Transport::Other) => {
                let partial_checksum = offload.partial_checksum;
                Ok(Self { packet, layout, segment_size: 0, count: 1, partial_checksum, template: None })
            }
            (Gso::Tcp, Transport::Tcp) | (Gso::Udp, Transport::Udp) => Self::of_super_packet(packet, layout, offload),
            (Gso::Tcp, Transport::Udp | Transport::Other) | (Gso::Udp, Transport::Tcp | Transport::Other) => {
                Err(Malformed::WrongTransport { gso, transport })
            }
        }
    }

    /// How many segments there are: at least one.
    #[inline]
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Bytes of one segment, headers included; zero for a segment that there is not.
    #[inline]
    #[must_use]
    pub fn len_of(&self, index: usize) -> usize {
        if index >= self.count {
            return 0;
        }
        match &self.template {
            None => self.packet.len(),
            Some(template) => template.headers.len().saturating_add(self.payload(index).len()),
        }
    }

    /// Payload bytes of every segment but perhaps the last; zero for an ordinary packet.
    #[inline]
    #[must_use]
    pub const fn segment_size(&self) -> u16 {
        self.segment_size
    }

    /// Whether all segments are equally long.
    #[inline]
    #[must_use]
    pub fn is_uniform(&self) -> bool {
        self.len_of(0) == self.len_of(self.count.saturating_sub(1))
    }

    /// Whether the segments as written hold a partial checksum.
    #[inline]
    #[must_use]
    pub const fn is_partial_checksum(&self) -> bool {
        self.partial_checksum
    }

    /// The headers, which all segments share.
    #[inline]
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes one segment as a packet of its own, [`len_of`](Self::len_of) bytes long. With a partial checksum, its
    /// field holds the pseudo-header sum for this segment; else it is as it came.
    ///
    /// Returns false, and leaves `out` undefined, where there is no such segment or `out` has another length.
    #[inline]
    #[must_use]
    pub fn write(&self, index: usize, out: &mut [u8]) -> bool {
        if index >= self.count || out.len() != self.len_of(index) {
            return false;
        }
        let Some(template) = &self.template else {
            out.copy_from_slice(self.packet);
            if self.partial_checksum {
                checksum::write_partial(out, &self.layout, out.len().saturating_sub(self.layout.l4_offset));
            }
            return true;
        };
        let position = Position { index, is_last: index.saturating_add(1) == self.count };
        template.write(position, self.payload(index), out).is_some()
    }

    #[inline]
    fn of_super_packet(packet: &'p [u8], layout: Layout, offload: &Offload) -> Result<Self, Malformed> {
        if offload.segment_size == 0 {
            return Err(Malformed::NoSegmentSize);
        }
        let too_short = Malformed::TooShort { len: packet.len() };
        let (headers, payload) = packet.split_at_checked(layout.header_len).ok_or(too_short)?;
        let template = Template::new(headers, layout, offload.segment_size).ok_or(too_short)?;
        let count = payload.len().div_ceil(usize::from(offload.segment_size)).max(1);
        let segment_size = offload.segment_size;
        Ok(Self { packet, layout, segment_size, count, partial_checksum: true, template: Some(template) })
    }

    #[inline]
    fn payload(&self, index: usize) -> &'p [u8] {
        let size = usize::from(self.segment_size);
        let start = size.saturating_mul(index).saturating_add(self.layout.header_len);
        let rest = self.packet.get(start..).unwrap_or_default();
        rest.get(..size).unwrap_or(rest)
    }
}

/// What the headers of a run's segments have in common, so that each costs a copy and a few stores.
#[derive(Clone, Debug)]
pub(super) struct Template<'p> {
    layout: Layout,
    headers: &'p [u8],
    segment_size: u32,
    /// Of the first segment.
    id: u16,
    /// Of the first segment.
    sequence: u32,
    /// TCP flags of the whole super-packet.
    flags: u8,
    /// Sum of the IPv4 header without total length, ID and checksum, and not folded together with them yet.
    ipv4_sum: u16,
    /// Sum of the pseudo-header without length.
    pseudo_sum: u16,
}

/// Which segment of a super-packet.
#[derive(Clone, Copy)]
pub(super) struct Position {
    pub(super) index: usize,
    pub(super) is_last: bool,
}

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;
pub(super) const URG: u8 = 0x20;
pub(super) const CWR: u8 = 0x80;

impl<'p> Template<'p> {
    /// `None`: `headers` are shorter than `layout` says.
    #[inline]
    pub(super) fn new(headers: &'p [u8], layout: Layout, segment_size: u16) -> Option<Self> {
        let ip = headers.first_chunk::<20>()?;
        let l4 = headers.get(layout.l4_offset..)?;
        let (sequence, flags) = match layout.transport {
            Transport::Tcp => {
                let tcp = l4.first_chunk::<TCP_HEADER>()?;
                (u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]), tcp[13])
            }
            Transport::Udp | Transport::Other => (0, 0),
        };
        let (id, ipv4_sum) = match layout.version {
            Version::V4 => {
                let (head, options) = (checksum::sum(ip), checksum::sum(headers.get(20..layout.l4_offset)?));
                let [len, id, stored] = [[ip[2], ip[3]], [ip[4], ip[5]], [ip[10], ip[11]]].map(u16::from_be_bytes);
                // RFC 1624: taking a word away is adding its complement.
                (id, checksum::add(&[head, options, !len, !id, !stored]))
            }
            Version::V6 => (0, 0),
        };
        let pseudo_sum = checksum::pseudo_header_sum(headers, &layout, 0);
        Some(Self { layout, headers, segment_size: segment_size.into(), id, sequence, flags, ipv4_sum, pseudo_sum })
    }

    /// Adds TCP flags that a later segment brought.
    pub(super) const fn with_flags(mut self, flags: u8) -> Self {
        self.flags |= flags;
        self
    }

    /// Writes one segment with its partial checksum; `None` where `out` is not as long as headers and payload.
    #[inline]
    pub(super) fn write(&self, position: Position, payload: &[u8], out: &mut [u8]) -> Option<()> {
        let len = out.len();
        let (headers, body) = out.split_at_mut_checked(self.headers.len())?;
        if body.len() != payload.len() {
            return None;
        }
        headers.copy_from_slice(self.headers);
        body.copy_from_slice(payload);
        match self.layout.version {
            Version::V4 => self.patch_v4(position, field(len), headers.first_chunk_mut()?),
            Version::V6 => {
                let header = headers.first_chunk_mut::<IPV6_HEADER>()?;
                [header[4], header[5]] = field(len.saturating_sub(IPV6_HEADER)).to_be_bytes();
            }
        }
        let l4_len = field(len.saturating_sub(self.layout.l4_offset));
        let partial = checksum::add(&[self.pseudo_sum, l4_len]);
        let l4 = headers.get_mut(self.layout.l4_offset..)?;
        match self.layout.transport {
            Transport::Tcp => self.patch_tcp(position, partial, l4.first_chunk_mut()?),
            Transport::Udp => {
                let header = l4.first_chunk_mut::<UDP_HEADER>()?;
                [header[4], header[5]] = l4_len.to_be_bytes();
                [header[6], header[7]] = partial.to_be_bytes();
            }
            Transport::Other => {}
        }
        Some(())
    }

    #[inline]
    fn patch_v4(&self, position: Position, len: u16, header: &mut [u8; 20]) {
        let id = self.id.wrapping_add(position.index as u16);
        [header[2], header[3]] = len.to_be_bytes();
        [header[4], header[5]] = id.to_be_bytes();
        [header[10], header[11]] = (!checksum::add(&[self.ipv4_sum, len, id])).to_be_bytes();
    }

    #[inline]
    fn patch_tcp(&self, position: Position, partial: u16, header: &mut [u8; TCP_HEADER]) {
        let sequence = self.sequence.wrapping_add(self.segment_size.wrapping_mul(position.index as u32));
        let not_last = if position.is_last { 0 } else { FIN | PSH };
        let not_first = if position.index == 0 { 0 } else { CWR };
        [header[4], header[5], header[6], header[7]] = sequence.to_be_bytes();
        header[13] = self.flags & !(not_last | not_first);
        [header[16], header[17]] = partial.to_be_bytes();
    }
}
