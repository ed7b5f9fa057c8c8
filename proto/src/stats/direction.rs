//! Where packets and datagrams were on their way when they were dropped.

use super::DropReason;

/// Where something was on its way when it went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From this machine, or a network behind it, into the mesh.
    Outbound,
    /// From the mesh to this machine, or to a network behind it.
    Inbound,
    /// From a worker to the core.
    Core,
    /// A handshake with this node.
    Handshake,
    /// From one member to another by way of this node.
    Relay,
    /// A beacon on a LAN.
    Beacon,
}

impl Direction {
    /// The direction's name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Core => "core",
            Self::Handshake => "handshake",
            Self::Relay => "relay",
            Self::Beacon => "beacon",
        }
    }
}

impl DropReason {
    /// Where what is dropped for this reason was on its way.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::MalformedPacket
            | Self::NoRoute
            | Self::Multicast
            | Self::Denied
            | Self::ForeignSource
            | Self::StagingFull
            | Self::TooLong
            | Self::Unreachable
            | Self::SessionExhausted
            | Self::SendFailed => Direction::Outbound,
            Self::PuntFull => Direction::Core,
            Self::UnknownType
            | Self::MalformedDatagram
            | Self::UnknownSession
            | Self::Replayed
            | Self::AuthenticationFailed
            | Self::MalformedInner
            | Self::ForgedSource
            | Self::NotAnnounced
            | Self::DeviceFull
            | Self::StunUnexpected => Direction::Inbound,
            Self::BadMac
            | Self::HandshakeRateLimited
            | Self::HandshakeFailed
            | Self::HandshakeUnknownKey
            | Self::HandshakeNotAllowed
            | Self::HandshakeReplayed
            | Self::HandshakeUnexpected => Direction::Handshake,
            Self::RelayForeign | Self::RelayLimited | Self::RelayTotalLimited | Self::RelayFull => Direction::Relay,
            Self::BeaconMalformed
            | Self::BeaconRateLimited
            | Self::BeaconNotOpened
            | Self::BeaconOtherMesh
            | Self::BeaconClock
            | Self::BeaconReplayed
            | Self::BeaconNeighboursFull => Direction::Beacon,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_names_its_direction_is_of_that_direction() {
        for reason in DropReason::ALL {
            for direction in [Direction::Handshake, Direction::Relay, Direction::Beacon] {
                let is_named = reason.name().starts_with(&format!("{}_", direction.name()));
                assert!(!is_named || reason.direction() == direction, "{reason:?}");
            }
        }
    }
}
