//! Control messages: the plaintext of [`MessageType::Control`](super::MessageType) datagrams.
//!
//! The first byte is the kind. A receiver ignores kinds and trailing bytes that it does not know, so that later versions
//! may add both.

use super::array;

/// Longest control plaintext in bytes; what is longer is no control message.
pub const MAX_CONTROL: usize = 256;

/// One control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Empty plaintext: I am here, and this session works.
    Keepalive,
    /// Answer at once, to the address that this came from, with the same token.
    Probe {
        /// Chosen at random by the prober.
        token: u64,
    },
    /// The answer to a probe.
    ProbeReply {
        /// The probe's token.
        token: u64,
    },
    /// The sender ends this session and forgets its keys.
    Close,
}

impl Control {
    /// Longest encoding of these messages, in bytes.
    pub const MAX_LEN: usize = 9;

    /// Reads a plaintext; `None` for a kind that this version does not know or a message cut short.
    #[must_use]
    pub fn parse(plaintext: &[u8]) -> Option<Self> {
        let token = || (plaintext.len() >= 9).then(|| u64::from_le_bytes(array(plaintext, 1)));
        match plaintext.first() {
            None => Some(Self::Keepalive),
            Some(1) => token().map(|token| Self::Probe { token }),
            Some(2) => token().map(|token| Self::ProbeReply { token }),
            Some(3) => Some(Self::Close),
            Some(_) => None,
        }
    }

    /// Writes the message to the start of `out` and returns its length.
    #[must_use]
    pub fn write(&self, out: &mut [u8; Self::MAX_LEN]) -> usize {
        let mut tagged = |kind: u8, token: u64| {
            out[0] = kind;
            out[1..9].copy_from_slice(&token.to_le_bytes());
            9
        };
        match self {
            Self::Keepalive => 0,
            Self::Probe { token } => tagged(1, *token),
            Self::ProbeReply { token } => tagged(2, *token),
            Self::Close => {
                out[0] = 3;
                1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_its_encoding() {
        for message in
            [Control::Keepalive, Control::Probe { token: 7 }, Control::ProbeReply { token: u64::MAX }, Control::Close]
        {
            let mut bytes = [0; Control::MAX_LEN];
            let len = message.write(&mut bytes);
            assert_eq!(Control::parse(&bytes[..len]), Some(message));
        }
    }

    #[test]
    fn unknown_kinds_and_short_messages_are_none_and_trailing_bytes_are_ignored() {
        assert_eq!(Control::parse(&[99]), None);
        assert_eq!(Control::parse(&[1, 0, 0]), None);
        assert_eq!(Control::parse(&[3, 1, 2, 3]), Some(Control::Close));
    }
}
