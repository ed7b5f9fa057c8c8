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
        /// Finds the headers of `packet`.
        pub(crate) fn parse(packet: &[u8]) -> Result<Self, Malformed> {
            let byte = |at: usize| packet.get(at).copied().ok_or(Malformed);
            let (version, l4_offset, protocol) = match byte(0)? >> 4 {
                4 => {
                    let is_fragment = u16::from_be_bytes([byte(6)? & 0x3f, byte(7)?]) != 0;
                    (Version::V4, usize::from(byte(0)? & 0xf) * 4, if is_fragment { 255 } else { byte(9)? })
                }
                6 => (Version::V6, 40, byte(6)?),
                _ => return Err(Malformed),
            };
            let (transport, len) = match protocol {
                6 => (Transport::Tcp, usize::from(byte(l4_offset + 12)? >> 4) * 4),
                17 => (Transport::Udp, 8),
                _ => (Transport::Other, 0),
            };
            let min = if version == Version::V4 { 20 } else { 40 };
            let is_short =
                l4_offset < min || packet.len() < l4_offset + len || (transport == Transport::Tcp && len < 20);
            if is_short {
                Err(Malformed)
            } else {
                Ok(Self { version, transport, l4_offset, header_len: l4_offset + len })
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
    pub(crate) fn complete_at(packet: &mut [u8], start: usize, offset: usize) -> bool {
        let Some(at) = start.checked_add(offset) else { return false };
        let sum = !sum(0, packet.get(start..).unwrap_or_default());
        let Some(field) = packet.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>()) else { return false };
        // A zero would mean "no checksum" to UDP, and TCP takes either form of zero (RFC 768).
        *field = if sum == 0 { [0xff; 2] } else { sum.to_be_bytes() };
        true
    }

    /// The sum that a packet's pseudo-header and everything from its transport header on come to: 0xffff where the
    /// checksum is right.
    #[cfg(test)]
    pub(crate) fn verify(packet: &[u8], layout: &Layout) -> u16 {
        sum(u64::from(pseudo_header(packet, layout)), &packet[layout.l4_offset..])
    }

    /// The pseudo-header's sum (RFC 9293 §3.1, RFC 8200 §8.1).
    #[cfg(test)]
    pub(crate) fn pseudo_header(packet: &[u8], layout: &Layout) -> u16 {
        let addresses = if layout.version == Version::V4 { &packet[12..20] } else { &packet[8..40] };
        let protocol = if layout.transport == Transport::Tcp { 6 } else { 17 };
        let len = match layout.version {
            Version::V4 => u64::from(u16::from_be_bytes([packet[2], packet[3]])) - layout.l4_offset as u64,
            Version::V6 => u64::from(u16::from_be_bytes([packet[4], packet[5]])),
        };
        sum(protocol + len, addresses)
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
