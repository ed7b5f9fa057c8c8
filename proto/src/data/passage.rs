//! How a packet gets through a path that may be narrower than the device.

use crate::packet::segment::Segments;
use crate::packet::{Gso, Offload, checksum, fragment};
use crate::path::{Fit, Fragments};

/// What is to be done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// Every segment goes in one datagram.
    Open(Fragments),
    /// A TCP super-packet, to be cut into segments of so many bytes of payload: which to choose is the business of whoever cuts
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
        if offload.gso == Gso::Tcp && segments.len_of(0) > usize::from(fit.limit) {
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
