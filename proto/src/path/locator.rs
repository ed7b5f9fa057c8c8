//! Places that datagrams come from and go to.

use std::fmt;
use std::net::SocketAddr;

/// A relay's name for one direction between two of its members; chosen by the relay at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(pub u32);

/// One of this machine's sockets, as the shell numbers them. It means nothing to anybody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u8);

impl SocketId {
    /// Those that listen on the node's port; every other is one that a spray left over.
    pub const MAIN: Self = Self(0);
}

/// Where a datagram comes from or goes to: a socket address, the channel if a relay is there, and the socket at this end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Locator {
    /// The peer's address, or the relay's.
    pub address: SocketAddr,
    /// `None`: the peer itself is there.
    pub channel: Option<Channel>,
    /// The socket of this machine that it comes to or leaves by.
    pub socket: SocketId,
}

impl Locator {
    /// Whether what goes there is carried over TLS: it goes to a socket of our own on this machine first.
    #[must_use]
    pub fn is_carried(self) -> bool {
        self.address.ip().is_loopback()
    }
}

impl From<SocketAddr> for Locator {
    fn from(address: SocketAddr) -> Self {
        Self { address, channel: None, socket: SocketId::MAIN }
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.channel {
            None => self.address.fmt(f),
            Some(_) => write!(f, "relay {}", self.address),
        }
    }
}

/// How a candidate became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A beacon on a LAN that both are in.
    Lan = 1,
    /// The endpoint's record: `public_addresses`.
    Public = 2,
    /// The peer's router forwards it to the peer (PCP, NAT-PMP, UPnP-IGD).
    Mapped = 3,
    /// Others see the peer there.
    Observed = 4,
    /// An address of one of the peer's interfaces.
    Interface = 5,
    /// An authentic datagram came from there.
    Seen = 6,
    /// A relay has opened a channel.
    Relay = 7,
    /// A socket of this machine that is carried to the peer over TLS; means nothing to anybody else.
    Tls = 8,
}

impl Origin {
    /// Every origin.
    pub const ALL: [Self; 8] =
        [Self::Lan, Self::Public, Self::Mapped, Self::Observed, Self::Interface, Self::Seen, Self::Relay, Self::Tls];

    /// The origin with this number on the wire.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| *origin as u8 == number)
    }

    /// Its name in status output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Public => "public",
            Self::Mapped => "mapped",
            Self::Observed => "observed",
            Self::Interface => "interface",
            Self::Seen => "seen",
            Self::Relay => "relay",
            Self::Tls => "tls",
        }
    }
}

/// What kind of way a path is; the better one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathKind {
    /// On a LAN that both are in.
    Lan,
    /// From socket to socket across the network.
    Direct,
    /// Through a relay, over UDP.
    Relay,
    /// Through a relay, over TLS.
    Tls,
}

impl PathKind {
    /// The kind of a candidate.
    #[must_use]
    pub fn of(locator: Locator, origin: Origin) -> Self {
        match (locator.channel, origin) {
            _ if locator.is_carried() => Self::Tls,
            (Some(_), _) => Self::Relay,
            (None, Origin::Lan) => Self::Lan,
            (None, _) => Self::Direct,
        }
    }

    /// Its name in status output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Tls => "tls",
        }
    }
}
