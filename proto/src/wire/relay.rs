//! Relayed datagrams: a header that a relay rewrites, and behind it a datagram that only its two ends can open.

use super::{MessageType, WireError, array};
use crate::path::Channel;

/// Length of the header in bytes: `type u8 | reserved 3 bytes | channel u32`.
pub const RELAY_HEADER_LEN: usize = 8;

/// The header of datagrams on this channel.
#[must_use]
pub const fn relay_header(channel: Channel) -> [u8; RELAY_HEADER_LEN] {
    let [a, b, c, d] = channel.0.to_le_bytes();
    [MessageType::Relayed as u8, 0, 0, 0, a, b, c, d]
}

/// Reads the channel.
///
/// # Errors
/// [`WireError::Length`] where nothing follows the header.
pub fn parse_relay_header(datagram: &[u8]) -> Result<Channel, WireError> {
    if datagram.len() <= RELAY_HEADER_LEN {
        return Err(WireError::Length);
    }
    Ok(Channel(u32::from_le_bytes(array(datagram, 4))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_survives_its_header_and_a_header_alone_is_nothing() {
        let mut datagram = relay_header(Channel(0x1234_5678)).to_vec();
        datagram.push(0);
        assert_eq!(MessageType::of(&datagram), Ok(MessageType::Relayed));
        assert_eq!(parse_relay_header(&datagram), Ok(Channel(0x1234_5678)));
        assert_eq!(parse_relay_header(&datagram[..8]), Err(WireError::Length));
    }
}
