//! The 16-byte header of data and control datagrams.
//!
//! ```text
//!  0      1      2      3          4               8                    16
//!  +------+------+------+----------+---------------+--------------------+--- ... ---+-----+
//!  | type | flags| lane | reserved | receiver u32  | counter u64        | ciphertext| tag |
//!  +------+------+------+----------+---------------+--------------------+--- ... ---+-----+
//!  |<------------------- additional data of the AEAD ------------------>|           | 16  |
//! ```

use super::{MessageType, WireError, array};
use crate::id::SessionIndex;

/// Bytes before the ciphertext.
pub const HEADER_LEN: usize = 16;

/// Bytes of the AEAD's tag, after the ciphertext.
pub const TAG_LEN: usize = 16;

/// What a datagram adds to the inner packet it carries, in bytes.
pub const OVERHEAD: usize = HEADER_LEN + TAG_LEN;

/// Where the lane stands in a data or control datagram, for whoever steers datagrams without parsing them.
pub const LANE_OFFSET: usize = 2;

/// The lane of the core, beside the workers' lanes `0..MAX_LANES`.
pub const CONTROL_LANE: u8 = 255;

/// Most lanes that workers of one node use.
pub const MAX_LANES: u8 = 64;

/// Flag bits of a data datagram; authenticated, but visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// The inner transport checksum holds the pseudo-header sum only; the receiver derives it anew.
    pub const CSUM_PARTIAL: Self = Self(1);
    /// This segment continues the previous counter of its lane: same flow, same headers, next payload.
    pub const COAL: Self = Self(2);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits and those of `other`, if `condition`.
    #[must_use]
    pub const fn with(self, other: Self, condition: bool) -> Self {
        if condition { Self(self.0 | other.0) } else { self }
    }
}

/// The parsed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// [`MessageType::Data`] or [`MessageType::Control`].
    pub kind: MessageType,
    /// Meaning of the segment.
    pub flags: Flags,
    /// Nonce sub-space of the sender: one per worker, [`CONTROL_LANE`] for the core.
    pub lane: u8,
    /// The receiver's name for the session.
    pub receiver: SessionIndex,
    /// The nonce: lane in the top byte, sequence number below.
    pub counter: u64,
}

impl DataHeader {
    /// Reads the header of a data or control datagram; the rest must have room for a tag.
    ///
    /// # Errors
    /// [`WireError`] where the type is another, the datagram is too short, or lane and counter disagree.
    #[inline]
    pub fn parse(datagram: &[u8]) -> Result<Self, WireError> {
        let kind = match datagram.first() {
            Some(4) => MessageType::Data,
            Some(5) => MessageType::Control,
            Some(_) | None => return Err(WireError::UnknownType),
        };
        if datagram.len() < OVERHEAD {
            return Err(WireError::Length);
        }
        let [_, flags, lane, _] = array(datagram, 0);
        let counter = u64::from_le_bytes(array(datagram, 8));
        // The lane stands in clear at a fixed offset for steering; a different lane in the nonce would let one
        // counter be checked against the wrong replay window.
        if counter.to_be_bytes()[0] != lane {
            return Err(WireError::Length);
        }
        let receiver = SessionIndex(u32::from_le_bytes(array(datagram, 4)));
        Ok(Self { kind, flags: Flags(flags), lane, receiver, counter })
    }

    /// The header's bytes.
    #[inline]
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = self.kind as u8;
        bytes[1] = self.flags.0;
        bytes[LANE_OFFSET] = self.lane;
        bytes[4..8].copy_from_slice(&self.receiver.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.counter.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> DataHeader {
        DataHeader {
            kind: MessageType::Data,
            flags: Flags::COAL,
            lane: 3,
            receiver: SessionIndex(0x0403_0201),
            counter: (3 << 56) | 0x0807,
        }
    }

    #[test]
    fn the_header_has_its_documented_layout() {
        let expected = [4, 2, 3, 0, 1, 2, 3, 4, 7, 8, 0, 0, 0, 0, 0, 3];
        assert_eq!(header().to_bytes(), expected);
        let mut datagram = expected.to_vec();
        datagram.extend([0; TAG_LEN]);
        assert_eq!(DataHeader::parse(&datagram), Ok(header()));
    }

    #[test]
    fn a_lane_that_disagrees_with_the_counter_is_refused() {
        let mut datagram = header().to_bytes().to_vec();
        datagram.extend([0; TAG_LEN]);
        datagram[2] = 4;
        assert_eq!(DataHeader::parse(&datagram), Err(WireError::Length));
    }

    #[test]
    fn a_datagram_without_room_for_a_tag_is_refused() {
        let mut datagram = header().to_bytes().to_vec();
        datagram.extend([0; TAG_LEN - 1]);
        assert_eq!(DataHeader::parse(&datagram), Err(WireError::Length));
        assert_eq!(DataHeader::parse(&[]), Err(WireError::UnknownType));
    }
}
