//! Handshake messages: fixed sizes, views over the received bytes, and the payloads that Noise encrypts.
//!
//! ```text
//! Initiation  type 1 | 0 0 0 | sender u32                | noise 112 | mac1 16 | mac2 16     = 152 bytes
//! Response    type 2 | 0 0 0 | sender u32 | receiver u32 | noise  64 | mac1 16 | mac2 16     = 108 bytes
//! CookieReply type 3 | 0 0 0 | receiver u32 | nonce 16 | sealed cookie 32                    =  56 bytes
//! ```
//! A reply is never larger than what it answers.

use std::fmt;

use super::{MessageType, WireError, array};
use crate::id::SessionIndex;

/// Bytes of a message authentication code.
pub const MAC_LEN: usize = 16;

/// Bytes of an encrypted payload, before its tag.
const PAYLOAD_LEN: usize = 16;

/// Noise message 1 of IKpsk2: `e` 32, `s` 32 + tag 16, payload 16 + tag 16.
pub const NOISE_INITIATION_LEN: usize = 32 + 48 + PAYLOAD_LEN + 16;

/// Noise message 2 of IKpsk2: `e` 32, payload 16 + tag 16.
pub const NOISE_RESPONSE_LEN: usize = 32 + PAYLOAD_LEN + 16;

/// Bytes of an initiation.
pub const INITIATION_LEN: usize = 8 + NOISE_INITIATION_LEN + 2 * MAC_LEN;

/// Bytes of a response.
pub const RESPONSE_LEN: usize = 12 + NOISE_RESPONSE_LEN + 2 * MAC_LEN;

/// Bytes of a cookie reply.
pub const COOKIE_REPLY_LEN: usize = 8 + 16 + 32;

/// A received initiation.
#[derive(Clone, Copy, Debug)]
pub struct Initiation<'a> {
    /// The initiator's name for the session to be.
    pub sender: SessionIndex,
    /// Noise message 1.
    pub noise: &'a [u8],
}

/// A received response.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The responder's name for the session.
    pub sender: SessionIndex,
    /// The initiator's name for it.
    pub receiver: SessionIndex,
    /// Noise message 2.
    pub noise: &'a [u8],
}

/// A received cookie reply.
#[derive(Clone, Copy, Debug)]
pub struct CookieReply {
    /// Sender index of the message that was refused.
    pub receiver: SessionIndex,
    /// Chosen at random; derives the key that seals the cookie.
    pub nonce: [u8; 16],
    /// Cookie and tag.
    pub sealed: [u8; 32],
}

impl<'a> Initiation<'a> {
    /// Views the message.
    ///
    /// # Errors
    /// [`WireError::Length`] for any other size than [`INITIATION_LEN`].
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        check(datagram, MessageType::Initiation, INITIATION_LEN)?;
        let noise = datagram.get(8..8 + NOISE_INITIATION_LEN).ok_or(WireError::Length)?;
        Ok(Self { sender: index(datagram, 4), noise })
    }

    /// The message without its macs, which follow it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![MessageType::Initiation as u8, 0, 0, 0];
        bytes.extend(self.sender.0.to_le_bytes());
        bytes.extend(self.noise);
        bytes
    }
}

impl<'a> Response<'a> {
    /// Views the message.
    ///
    /// # Errors
    /// [`WireError::Length`] for any other size than [`RESPONSE_LEN`].
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        check(datagram, MessageType::Response, RESPONSE_LEN)?;
        let noise = datagram.get(12..12 + NOISE_RESPONSE_LEN).ok_or(WireError::Length)?;
        Ok(Self { sender: index(datagram, 4), receiver: index(datagram, 8), noise })
    }

    /// The message without its macs, which follow it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![MessageType::Response as u8, 0, 0, 0];
        bytes.extend(self.sender.0.to_le_bytes());
        bytes.extend(self.receiver.0.to_le_bytes());
        bytes.extend(self.noise);
        bytes
    }
}

impl CookieReply {
    /// Reads the message.
    ///
    /// # Errors
    /// [`WireError::Length`] for any other size than [`COOKIE_REPLY_LEN`].
    pub fn parse(datagram: &[u8]) -> Result<Self, WireError> {
        check(datagram, MessageType::CookieReply, COOKIE_REPLY_LEN)?;
        Ok(Self { receiver: index(datagram, 4), nonce: array(datagram, 8), sealed: array(datagram, 24) })
    }

    /// The message's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![MessageType::CookieReply as u8, 0, 0, 0];
        bytes.extend(self.receiver.0.to_le_bytes());
        bytes.extend(self.nonce);
        bytes.extend(self.sealed);
        bytes
    }
}

fn check(datagram: &[u8], kind: MessageType, len: usize) -> Result<(), WireError> {
    if MessageType::of(datagram)? != kind {
        return Err(WireError::UnknownType);
    }
    if datagram.len() == len { Ok(()) } else { Err(WireError::Length) }
}

fn index(datagram: &[u8], at: usize) -> SessionIndex {
    SessionIndex(u32::from_le_bytes(array(datagram, at)))
}

/// One transport cipher suite. Its value is its bit in [`Suites`], and the byte that names it in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Suite {
    /// AES-256-GCM (NIST SP 800-38D).
    Aes256Gcm = 1,
    /// ChaCha20-Poly1305 (RFC 8439).
    ChaCha20Poly1305 = 2,
    /// AES-128-GCM (NIST SP 800-38D).
    Aes128Gcm = 4,
    /// AEGIS-128L with a 128-bit tag (RFC 10032).
    Aegis128L = 8,
    /// AEGIS-128X2 with a 128-bit tag (RFC 10032).
    Aegis128X2 = 16,
}

impl Suite {
    /// Every suite, the fastest first where there are instructions for AES.
    pub const ALL: [Self; 5] =
        [Self::Aegis128X2, Self::Aegis128L, Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// Its name in `meshd.toml`, in status output and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
            Self::Aes128Gcm => "aes-128-gcm",
            Self::Aegis128L => "aegis-128l",
            Self::Aegis128X2 => "aegis-128x2",
        }
    }

    /// The byte that names it on the wire.
    #[must_use]
    pub const fn bit(self) -> u8 {
        self as u8
    }

    fn of_bit(bit: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.bit() == bit)
    }
}

/// Set of transport cipher suites, one bit each. What a peer offers may have bits that this version does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suites(pub u8);

impl Suites {
    /// What a node offers that is not told otherwise: the two that every node has.
    pub const DEFAULT: Self = Self::of(&[Suite::Aes256Gcm, Suite::ChaCha20Poly1305]);

    /// The set of these.
    #[must_use]
    pub const fn of(suites: &[Suite]) -> Self {
        let mut rest = suites;
        let mut bits = 0;
        while let [suite, others @ ..] = rest {
            bits |= suite.bit();
            rest = others;
        }
        Self(bits)
    }

    /// Whether `suite` is in the set.
    #[must_use]
    pub const fn contains(self, suite: Suite) -> bool {
        self.0 & suite.bit() != 0
    }

    /// What is in this set or in `other`.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this set and in `other`.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Suites {
    /// Names them in the order of [`Suite::ALL`], then the bits that this version does not know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Suite::ALL.into_iter().filter(|suite| self.contains(*suite));
        let mut names: Vec<_> = known.map(|suite| suite.name().to_owned()).collect();
        let unknown = self.without(Self::of(&Suite::ALL));
        if !unknown.is_empty() {
            names.push(format!("unknown {:#04x}", unknown.0));
        }
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}

/// What a node's data plane can do with received datagrams, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u8);

impl Capabilities {
    /// Understands [`Flags::COAL`](super::Flags::COAL).
    pub const COAL: Self = Self(1);
    /// Understands [`Flags::CSUM_PARTIAL`](super::Flags::CSUM_PARTIAL).
    pub const CSUM_PARTIAL: Self = Self(2);
    /// AES is fast here (an instruction set for it); without it ChaCha20 is preferred.
    pub const FAST_AES: Self = Self(4);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits and those of `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Payload of noise message 1: timestamp u64 | suites u8 | capabilities u8 | lanes u8 | 5 reserved.
///
/// It has no forward secrecy (Noise §7.7), so it holds no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitiationPayload {
    /// Strictly increasing per static key; nanoseconds of wall time where the clock is sane.
    pub timestamp: u64,
    /// Suites that the initiator offers.
    pub suites: Suites,
    /// What the initiator can receive.
    pub capabilities: Capabilities,
    /// Number of lanes `0..lanes` on which the initiator may send, besides [`CONTROL_LANE`](super::CONTROL_LANE).
    pub lanes: u8,
}

/// Payload of noise message 2: suite u8 | capabilities u8 | lanes u8 | 13 reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponsePayload {
    /// The one suite that the responder chose.
    pub suite: Suite,
    /// What the responder can receive.
    pub capabilities: Capabilities,
    /// Number of lanes on which the responder may send, besides the control lane.
    pub lanes: u8,
}

impl InitiationPayload {
    /// Reads a payload; reserved bytes are ignored.
    #[must_use]
    pub fn parse(bytes: &[u8; PAYLOAD_LEN]) -> Self {
        let [suites, capabilities, lanes] = array(bytes, 8);
        Self {
            timestamp: u64::from_le_bytes(array(bytes, 0)),
            suites: Suites(suites),
            capabilities: Capabilities(capabilities),
            lanes,
        }
    }

    /// The payload's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; PAYLOAD_LEN] {
        let mut bytes = [0; PAYLOAD_LEN];
        bytes[..8].copy_from_slice(&self.timestamp.to_le_bytes());
        bytes[8..11].copy_from_slice(&[self.suites.0, self.capabilities.0, self.lanes]);
        bytes
    }
}

impl ResponsePayload {
    /// Reads a payload; reserved bytes are ignored. `None` where the suite is no single known one.
    #[must_use]
    pub fn parse(bytes: &[u8; PAYLOAD_LEN]) -> Option<Self> {
        let [suite, capabilities, lanes] = array(bytes, 0);
        Some(Self { suite: Suite::of_bit(suite)?, capabilities: Capabilities(capabilities), lanes })
    }

    /// The payload's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; PAYLOAD_LEN] {
        let mut bytes = [0; PAYLOAD_LEN];
        bytes[..3].copy_from_slice(&[self.suite.bit(), self.capabilities.0, self.lanes]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_those_of_the_format_and_no_reply_is_larger_than_what_it_answers() {
        assert_eq!((INITIATION_LEN, RESPONSE_LEN, COOKIE_REPLY_LEN), (152, 108, 56));
        const { assert!(RESPONSE_LEN <= INITIATION_LEN && COOKIE_REPLY_LEN <= RESPONSE_LEN) };
    }

    #[test]
    fn payloads_have_their_documented_layout() {
        let payload = InitiationPayload {
            timestamp: 0x0807_0605_0403_0201,
            suites: Suites::DEFAULT,
            capabilities: Capabilities::CSUM_PARTIAL,
            lanes: 2,
        };
        assert_eq!(payload.to_bytes(), [1, 2, 3, 4, 5, 6, 7, 8, 3, 2, 2, 0, 0, 0, 0, 0]);
        assert_eq!(InitiationPayload::parse(&payload.to_bytes()), payload);
        for (suite, byte) in Suite::ALL.into_iter().zip([16, 8, 4, 1, 2]) {
            let payload = ResponsePayload { suite, capabilities: Capabilities::COAL, lanes: 1 };
            assert_eq!(payload.to_bytes()[..4], [byte, 1, 1, 0]);
            assert_eq!(ResponsePayload::parse(&payload.to_bytes()), Some(payload));
        }
        for byte in [0, 3, 32, 0x81, 255] {
            let mut bytes = [0; PAYLOAD_LEN];
            bytes[0] = byte;
            assert_eq!(ResponsePayload::parse(&bytes), None, "{byte} is no single known suite");
        }
    }

    #[test]
    fn sets_of_suites_name_what_is_in_them() {
        assert_eq!(Suites::default().to_string(), "none");
        assert_eq!(Suites::DEFAULT.to_string(), "aes-256-gcm, chacha20-poly1305");
        assert_eq!(Suites(0x50).to_string(), "aegis-128x2, unknown 0x40");
        assert_eq!(Suites::of(&Suite::ALL), Suites(0x1f));
        let extra = Suites::DEFAULT.or(Suites::of(&[Suite::Aegis128L]));
        assert_eq!(extra.without(Suites::DEFAULT), Suites::of(&[Suite::Aegis128L]));
        assert_eq!(extra.common(Suites::DEFAULT), Suites::DEFAULT);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic_and_only_the_one_size_parses(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Initiation::parse(&bytes).is_ok(), bytes.first() == Some(&1) && bytes.len() == INITIATION_LEN);
            prop_assert_eq!(Response::parse(&bytes).is_ok(), bytes.first() == Some(&2) && bytes.len() == RESPONSE_LEN);
            prop_assert_eq!(CookieReply::parse(&bytes).is_ok(), bytes.first() == Some(&3) && bytes.len() == COOKIE_REPLY_LEN);
            let _ = super::super::DataHeader::parse(&bytes);
            let _ = super::super::Control::parse(&bytes);
        }

        #[test]
        fn messages_survive_their_encoding(sender: u32, receiver: u32, nonce: [u8; 16], sealed: [u8; 32]) {
            let reply = CookieReply { receiver: SessionIndex(receiver), nonce, sealed };
            let parsed = CookieReply::parse(&reply.to_bytes()).unwrap();
            prop_assert_eq!((parsed.receiver, parsed.nonce, parsed.sealed), (reply.receiver, nonce, sealed));
            let noise = [9; NOISE_RESPONSE_LEN];
            let response = Response { sender: SessionIndex(sender), receiver: SessionIndex(receiver), noise: &noise };
            let mut bytes = response.to_bytes();
            bytes.extend([0; 2 * MAC_LEN]);
            let parsed = Response::parse(&bytes).unwrap();
            prop_assert_eq!((parsed.sender, parsed.receiver, parsed.noise), (response.sender, response.receiver, &noise[..]));
        }
    }
}
