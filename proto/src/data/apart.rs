//! The slow path out: what the core does with packets that waited for a session, or are larger than their path.

use super::PeerRow;
use super::outbound::seal;
use super::passage::{self, Passage};
use crate::packet::segment::Segments;
use crate::packet::{Gso, Offload, mss};
use crate::path::Fragments;
use crate::session::TxLane;
use crate::wire::{Flags, OVERHEAD};

/// What became of a packet on the slow path.
pub(crate) struct SealedApart {
    /// The datagrams, and whether they may be cut on their way.
    pub(crate) datagrams: Vec<(Vec<u8>, Fragments)>,
    /// It is larger than its path carries, so that its sender is to be told, whether or not it could be cut.
    pub(crate) is_too_long: bool,
}

/// Seals one packet segment by segment, each as a datagram of its own.
pub(crate) fn seal_staged(packet: &[u8], mut offload: Offload, row: &PeerRow, lane: &mut TxLane) -> SealedApart {
    let mut sealed = SealedApart { datagrams: Vec::new(), is_too_long: false };
    let mut packet = packet.to_vec();
    if offload.gso == Gso::None {
        mss::clamp(&mut packet, row.fit.limit, offload.partial_checksum);
    }
    let Ok(segments) = Segments::new(&packet, &offload) else { return sealed };
    match Passage::of(&segments, offload, row.fit) {
        Passage::Open(_) => seal_apart(&segments, row, lane, &mut sealed),
        Passage::Narrow(payload) => {
            sealed.is_too_long = true;
            offload = Offload { gso: Gso::Tcp, segment_size: payload, partial_checksum: true };
            if let Ok(segments) = Segments::new(&packet, &offload) {
                seal_apart(&segments, row, lane, &mut sealed);
            }
        }
        Passage::Closed => {
            sealed.is_too_long = true;
            let pieces = passage::cut(&packet, &segments, offload, row.fit).unwrap_or_default();
            let pieces = pieces.iter().filter_map(|piece| Segments::new(piece, &Offload::default()).ok());
            pieces.for_each(|piece| seal_apart(&piece, row, lane, &mut sealed));
        }
    }
    sealed
}

fn seal_apart(segments: &Segments<'_>, row: &PeerRow, lane: &mut TxLane, sealed: &mut SealedApart) {
    for index in 0..segments.count() {
        let mut datagram = vec![0; segments.len_of(index) + OVERHEAD];
        if seal(segments, index, row.session.capabilities, Flags::default(), lane, &mut datagram) {
            let is_known = segments.len_of(index) <= usize::from(row.fit.whole);
            sealed.datagrams.push((datagram, if is_known { Fragments::Never } else { Fragments::Allowed }));
        }
    }
}
