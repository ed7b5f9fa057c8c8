//! Which flow a packet is of, as a number: the same for all packets of one connection in one direction.

use super::layout::{Layout, Transport, Version};

/// A number for the flow of a packet that `layout` was parsed from, from its addresses and, where it has them, its ports.
///
/// Fragments have none, so those of a flow with ports may get another number than its whole packets.
#[must_use]
pub fn flow_hash(packet: &[u8], layout: &Layout) -> u64 {
    let addresses = match layout.version {
        Version::V4 => 12..20,
        Version::V6 => 8..40,
    };
    let ports = if layout.transport == Transport::Other { 0 } else { 4 };
    let ports = packet.get(layout.l4_offset..).and_then(|behind| behind.get(..ports));
    let parts = [packet.get(addresses), ports];
    let words = parts.into_iter().flatten().flat_map(|part| part.as_chunks::<4>().0);
    words.fold(0, |hash, word| mix(hash ^ u64::from(u32::from_be_bytes(*word))))
}

/// Spreads the bits of a number over all of it (the finalizer of SplitMix64, Steele et al. 2014).
#[must_use]
pub(crate) const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn hash(from: [u8; 4], ports: (u16, u16), payload: usize) -> u64 {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4(from, [10, 0, 0, 2], 64).udp(ports.0, ports.1);
        builder.write(&mut packet, &vec![7; payload]).unwrap();
        flow_hash(&packet, &Layout::parse(&packet).unwrap())
    }

    #[test]
    fn packets_of_one_flow_have_one_number_and_those_of_others_have_others() {
        let flow = hash([10, 0, 0, 1], (1, 2), 100);
        assert_eq!(hash([10, 0, 0, 1], (1, 2), 7), flow);
        let others =
            [hash([10, 0, 0, 3], (1, 2), 100), hash([10, 0, 0, 1], (3, 2), 100), hash([10, 0, 0, 1], (1, 3), 100)];
        assert!(others.iter().all(|other| *other != flow));
    }
}
