//! What `proto::packet::{layout, checksum}` will hold, as far as the device needs it, until they are merged.

pub(crate) mod layout {
    //! Where the headers of an inner packet are.

    /// The IP version.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Version {
        /// IPv4.
        V4,
        /// IPv6.
        V6,
    }

    /// The transport protocol.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Transport {
        /// TCP.
        Tcp,
        /// UDP.
        Udp,
        /// Another one, or a fragment.
        Other,
    }

    /// Offsets in one packet, whose headers must be there, but not all of its payload.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Layout {
        /// The IP version.
        pub(crate) version: Version,
        /// The transport protocol.
        pub(crate) transport: Transport,
        /// Where the transport header starts.
        pub(crate) l4_offset: usize,
        /// Where the payload starts.
        pub(crate) header_len: usize,
    }

    /// The packet has no headers that make sense.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Malformed;

    impl Layout {
        /// Finds the headers of `packet`, whose IP length must be its byte count exactly.
        pub(crate) fn parse(packet: &[u8]) -> Result<Self, Malformed> {
            let byte = |at: usize| packet.get(at).copied().ok_or(Malformed);
            let field = |at: usize| Ok(u16::from_be_bytes([byte(at)?, byte(at + 1)?]));
            let (version, stated, l4_offset, protocol) = match byte(0)? >> 4 {
                4 => {
                    let is_fragment = field(6)? & 0x3fff != 0;
                    let protocol = if is_fragment { 0 } else { byte(9)? };
                    (Version::V4, usize::from(field(2)?), usize::from(byte(0)? & 0xf) * 4, protocol)
                }
                6 => (Version::V6, usize::from(field(4)?) + 40, 40, byte(6)?),
                _ => return Err(Malformed),
            };
            let (transport, len, min) = match protocol {
                6 => (Transport::Tcp, usize::from(byte(l4_offset + 12)? >> 4) * 4, 20),
                17 => (Transport::Udp, 8, 8),
                _ => (Transport::Other, 0, 0),
            };
            if stated != packet.len() || l4_offset < 20 || len < min || packet.len() < l4_offset + len {
                return Err(Malformed);
            }
            Ok(Self { version, transport, l4_offset, header_len: l4_offset + len })
        }

        /// Where the transport's checksum field lies; `None` for [`Transport::Other`].
        pub(crate) const fn checksum_offset(&self) -> Option<usize> {
            match self.transport {
                Transport::Tcp => Some(self.l4_offset + 16),
                Transport::Udp => Some(self.l4_offset + 6),
                Transport::Other => None,
            }
        }
    }
}

pub(crate) mod checksum {
    //! The Internet checksum (RFC 1071).

    #[cfg(test)]
    use super::layout::{Layout, Transport, Version};

    /// Sums `packet` from `start` to its end into the field `offset` bytes after `start`, which holds the pseudo-header's
    /// sum. `false`: the field is not in the packet.
    #[must_use]
    pub(crate) fn complete_at(packet: &mut [u8], start: usize, offset: usize) -> bool {
        let Some(at) = start.checked_add(offset) else { return false };
        let sum = !sum(0, packet.get(start..).unwrap_or_default());
        let Some(field) = packet.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>()) else { return false };
        // A zero would mean "no checksum" to UDP, and TCP takes either form of zero (RFC 768).
        *field = if sum == 0 { [0xff; 2] } else { sum.to_be_bytes() };
        true
    }

    /// Whether the transport checksum is right.
    #[cfg(test)]
    pub(crate) fn verify(packet: &[u8], layout: &Layout) -> bool {
        let bytes = &packet[layout.l4_offset..];
        sum(u64::from(pseudo_header_sum(packet, layout, bytes.len())), bytes) == 0xffff
    }

    /// The pseudo-header's sum (RFC 9293 §3.1, RFC 8200 §8.1) for `l4_len` bytes of transport header and payload.
    #[cfg(test)]
    pub(crate) fn pseudo_header_sum(packet: &[u8], layout: &Layout, l4_len: usize) -> u16 {
        let addresses = if layout.version == Version::V4 { &packet[12..20] } else { &packet[8..40] };
        let protocol = if layout.transport == Transport::Tcp { 6 } else { 17 };
        sum(protocol + l4_len as u64, addresses)
    }

    fn sum(seed: u64, bytes: &[u8]) -> u16 {
        let (words, rest) = bytes.as_chunks::<2>();
        let words: u64 = words.iter().map(|&word| u64::from(u16::from_be_bytes(word))).sum();
        let last = rest.first().map_or(0, |&byte| u64::from(byte) << 8);
        let mut sum = seed + words + last;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        // Just folded.
        sum as u16
    }
}
