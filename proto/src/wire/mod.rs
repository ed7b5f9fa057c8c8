//! Message bytes to structs and back: no state, never panics. The format is told in `docs/wire.md`.
//!
//! Every datagram begins with its type byte. Handshake messages have one fixed size each; data and control datagrams
//! share a 16-byte header that the AEAD authenticates. Integers are little-endian unless a comment says otherwise.

mod beacon;
mod control;
mod data;
mod handshake;
mod relay;
mod stun;
mod why;

pub use beacon::{
    BEACON_HEADER, BEACON_LEN, BEACON_PLAINTEXT_LEN, BEACON_SALT_LEN, BEACON_SEALED_LEN, Beacon, MAX_BEACON_ADDRESSES,
    SealedBeacon,
};
pub use control::{Control, EnrolAnswer, Families, MAX_ADDRESSES, MAX_CONTROL, MAX_UNREACHED, RelayRefusal, SprayStep};
pub use data::{CONTROL_LANE, DataHeader, Flags, HEADER_LEN, LANE_OFFSET, MAX_LANES, OVERHEAD, TAG_LEN};
pub use handshake::{
    COOKIE_REPLY_LEN, Capabilities, CookieReply, INITIATION_LEN, Initiation, InitiationPayload, MAC_LEN,
    NOISE_INITIATION_LEN, NOISE_RESPONSE_LEN, RESPONSE_LEN, Response, ResponsePayload, Suite, Suites,
};
pub use relay::{RELAY_HEADER_LEN, RelayHeader};
pub use stun::{BINDING_REQUEST_LEN, BindingAnswer, TransactionId};
pub use why::{
    KeyView, MachineView, PathView, PolicyView, Reach, RouteView, SelectionView, SessionView, TroubleView, View,
    WhyAnswer, WhyQuestion,
};

/// What a datagram claims to be, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// First handshake message.
    Initiation = 1,
    /// Second handshake message.
    Response = 2,
    /// Answer under load: prove that you receive at your address.
    CookieReply = 3,
    /// One inner IP packet, or nothing (a keepalive).
    Data = 4,
    /// One control message inside a session.
    Control = 5,
    /// Any of the others, by way of a relay.
    Relayed = 7,
}

/// Why a datagram cannot be one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The first byte is no message type, or there is none.
    #[error("unknown message type")]
    UnknownType,
    /// Too short, or not of the one size that its type has.
    #[error("length does not fit the message type")]
    Length,
}

impl MessageType {
    /// The type that a datagram claims.
    ///
    /// # Errors
    /// [`WireError::UnknownType`] where the first byte names none.
    pub fn of(datagram: &[u8]) -> Result<Self, WireError> {
        match datagram.first() {
            Some(1) => Ok(Self::Initiation),
            Some(2) => Ok(Self::Response),
            Some(3) => Ok(Self::CookieReply),
            Some(4) => Ok(Self::Data),
            Some(5) => Ok(Self::Control),
            Some(7) => Ok(Self::Relayed),
            Some(_) | None => Err(WireError::UnknownType),
        }
    }
}

/// The `N` bytes of `bytes` from `at`, which every caller has checked to exist; zeros where they do not.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}
