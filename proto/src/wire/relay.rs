//! Relayed datagrams: a header that a relay rewrites, and behind it a datagram that only its two ends can open.

use super::{MessageType, WireError, array};
use crate::path::{Channel, Fragments};

/// Length of the header in bytes: `type u8 | flags u8 | reserved 2 bytes | channel u32`.
pub const RELAY_HEADER_LEN: usize = 8;

/// The datagram may be fragmented behind the relay too.
const MAY_FRAGMENT: u8 = 1;

/// What stands before a relayed datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayHeader {
    /// Between which two it is carried.
    pub channel: Channel,
    /// Whether it may be cut on its way.
    pub fragments: Fragments,
}

impl RelayHeader {
    /// Reads the header; flags that this version does not know are left out.
    ///
    /// # Errors
    /// [`WireError::Length`] where nothing follows the header.
    pub fn parse(datagram: &[u8]) -> Result<Self, WireError> {
        if datagram.len() <= RELAY_HEADER_LEN {
            return Err(WireError::Length);
        }
        let [_, flags, _, _] = array(datagram, 0);
        let fragments = if flags & MAY_FRAGMENT == 0 { Fragments::Never } else { Fragments::Allowed };
        Ok(Self { channel: Channel(u32::from_le_bytes(array(datagram, 4))), fragments })
    }

    /// The header's bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; RELAY_HEADER_LEN] {
        let [a, b, c, d] = self.channel.0.to_le_bytes();
        let flags = match self.fragments {
            Fragments::Never => 0,
            Fragments::Allowed => MAY_FRAGMENT,
        };
        [MessageType::Relayed as u8, flags, 0, 0, a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_its_encoding_and_a_header_alone_is_nothing() {
        for fragments in [Fragments::Never, Fragments::Allowed] {
            let header = RelayHeader { channel: Channel(0x1234_5678), fragments };
            let mut datagram = header.to_bytes().to_vec();
            datagram.push(0);
            assert_eq!(MessageType::of(&datagram), Ok(MessageType::Relayed));
            assert_eq!(RelayHeader::parse(&datagram), Ok(header));
            assert_eq!(RelayHeader::parse(&datagram[..8]), Err(WireError::Length));
        }
    }
}
