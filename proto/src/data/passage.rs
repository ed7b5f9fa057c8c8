//! How a packet gets through a path that may be narrower than the device.

use crate::packet::layout::Transport;
use crate::packet::segment::Segments;
use crate::packet::{Gso, Offload, checksum, fragment};
use crate::path::{Fit, Fragments};

/// What is to be done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// Every segment goes in one datagram.
    Open(Fragments),
    /// A TCP super-packet, or one segment whose checksum is still to be computed, to be cut into segments of so many bytes of payload: which to choose is the business of whoever cuts
    /// it (RFC 9293 §3.7.2 asks for no more than fits), so nothing is lost until its sender has learnt better.
    Narrow(u16),
    /// Not as it is.
    Closed,
}

impl Passage {
    #[inline]
    pub(super) fn of(segments: &Segments<'_>, offload: Offload, fit: Fit) -> Self {
        if segments.len_of(0) <= usize::from(fit.whole) {
            return Self::Open(Fragments::Never);
        }
        Self::of_large(segments, offload, fit)
    }

    #[cold]
    fn of_large(segments: &Segments<'_>, offload: Offload, fit: Fit) -> Self {
        let layout = segments.layout();
        // Others have a checksum already, and a new one would vouch for what nobody has looked at.
        let is_ours = layout.transport == Transport::Tcp && (offload.gso == Gso::Tcp || offload.partial_checksum);
        if is_ours && segments.len_of(0) > usize::from(fit.limit) {
            let payload = usize::from(fit.limit).saturating_sub(layout.header_len);
            return u16::try_from(payload).ok().filter(|size| *size > 0).map_or(Self::Closed, Self::Narrow);
        }
        let is_carried = segments.len_of(0) <= usize::from(fit.most(layout.version));
        if is_carried { Self::Open(Fragments::Allowed) } else { Self::Closed }
    }
}

/// The fragments of a packet that is too large, where its sender allows them.
pub(super) fn cut(packet: &[u8], segments: &Segments<'_>, offload: Offload, fit: Fit) -> Option<Vec<Vec<u8>>> {
    if offload.gso != Gso::None {
        return None;
    }
    let mut whole = packet.to_vec();
    if offload.partial_checksum {
        checksum::complete(&mut whole, segments.layout());
    }
    fragment::fragments(&whole, fit.limit)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const FIT: Fit = Fit::known(1220);

    fn tcp(payload: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(1, 2, 3, 4);
        builder.write(&mut packet, &vec![7; payload]).unwrap();
        packet
    }

    fn udp_v6(payload: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv6([1; 16], [2; 16], 64).udp(1, 2).write(&mut packet, &vec![7; payload]).unwrap();
        packet
    }

    fn passage(packet: &[u8], offload: Offload, fit: Fit) -> Passage {
        Passage::of(&Segments::new(packet, &offload).unwrap(), offload, fit)
    }

    #[test]
    fn what_is_known_to_arrive_whole_must_not_be_cut_and_what_is_not_known_may_be() {
        let none = Offload::default();
        assert_eq!(passage(&tcp(1180), none, FIT), Passage::Open(Fragments::Never));
        assert_eq!(passage(&tcp(1181), none, FIT), Passage::Closed);
        assert_eq!(passage(&tcp(1380), none, Fit::unknown(1420)), Passage::Open(Fragments::Allowed));
        assert_eq!(
            passage(&udp_v6(1280 - 48), none, FIT),
            Passage::Open(Fragments::Allowed),
            "every IPv6 path carries it"
        );
        assert_eq!(passage(&udp_v6(1281 - 48), none, FIT), Passage::Closed);
    }

    #[test]
    fn segments_that_are_to_be_made_anyway_are_made_smaller() {
        let tso = Offload { gso: Gso::Tcp, segment_size: 1380, partial_checksum: true };
        let super_packet = tcp(20_000);
        assert_eq!(passage(&super_packet, tso, FIT), Passage::Narrow(1180));
        let narrow = Segments::new(&super_packet, &Offload { segment_size: 1180, ..tso }).unwrap();
        assert_eq!((narrow.len_of(0), narrow.count()), (1220, 17));
        let single = Offload { partial_checksum: true, ..Offload::default() };
        assert_eq!(passage(&tcp(1380), single, FIT), Passage::Narrow(1180));
    }

    #[test]
    fn only_ordinary_packets_are_cut_and_only_where_their_sender_allows_it() {
        let (mut packet, none) = (tcp(3_000), Offload::default());
        packet[6] = 0;
        let pieces = |packet: &[u8]| cut(packet, &Segments::new(packet, &none).unwrap(), none, FIT);
        assert_eq!(pieces(&packet).unwrap().len(), 3);
        packet[6] = 0x40;
        assert_eq!(pieces(&packet), None);
    }
}
