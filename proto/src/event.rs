//! What the core tells the shell: things an operator may want to know, and answers to what was asked.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::handshake::HandshakeError;
use crate::id::{EndpointName, PeerId, PublicKey};
use crate::member::Denial;
use crate::owner::Condition;
use crate::path::{Locator, SprayStatus};
use crate::wire::{EnrolAnswer, WhyQuestion};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session is up where there was none.
    Connected {
        /// With whom.
        peer: PeerId,
        /// Over which address.
        remote: Locator,
    },
    /// A new session has replaced the one before.
    Rekeyed {
        /// With whom.
        peer: PeerId,
    },
    /// No session is left.
    Disconnected {
        /// With whom.
        peer: PeerId,
        /// Its name: who was removed has no other place that tells it.
        name: EndpointName,
        /// Why.
        reason: Disconnect,
    },
    /// The peer is now reached at another address.
    Moved {
        /// Who.
        peer: PeerId,
        /// Where.
        remote: Locator,
    },
    /// The peer does not answer our handshakes.
    Unreachable {
        /// Who.
        peer: PeerId,
    },
    /// A handshake was refused. Said once per initiator and reason, then at most once a minute.
    Refused {
        /// The initiator, where its key is known.
        peer: Option<PeerId>,
        /// Where it came from.
        source: Locator,
        /// Why.
        reason: Refusal,
    },
    /// What the machine is to route to neighbours has changed; [`Node::neighbour_routes`](crate::node::Node::neighbour_routes)
    /// tells all of it.
    NeighbourRoutes,
    /// A prefix that several peers announce is carried by another of them from now on.
    OwnerChanged {
        /// Which.
        prefix: IpNet,
        /// Who carries it now; `None`: none may.
        owner: Option<PeerId>,
        /// Who did before.
        before: PeerId,
        /// Why that one does not any more; [`Condition::Works`] where it only is not the best one.
        condition: Condition,
    },
    /// A relay that does not answer over UDP, or whose data does not, is to be tried over TLS: the shell answers with
    /// [`Node::handle_carrier`](crate::node::Node::handle_carrier). Said again each time that it is missed.
    CarrierWanted {
        /// The relay.
        peer: PeerId,
    },
    /// A spray begins at this side's sockets: the shell opens up to [`SPRAY_SOCKETS`](crate::path::SPRAY_SOCKETS), and sends from each
    /// one of the probes that [`Node::spray_probes`](crate::node::Node::spray_probes) seals to `target`. What comes to one of
    /// them it gives to [`Node::handle_datagram`](crate::node::Node::handle_datagram) under a number of its own, keeps
    /// the socket if the node [uses](crate::node::Node::uses_socket) it then, and closes the others.
    SprayWanted {
        /// For whom.
        peer: PeerId,
        /// Where that is reached.
        target: SocketAddr,
    },
    /// A spray is over, at either side; sockets that it has not used are closed.
    SprayEnded {
        /// With whom.
        peer: PeerId,
        /// What came of it.
        status: SprayStatus,
    },
    /// A peer asks why packets do, or do not, get through: the shell answers at once with
    /// [`Node::answer_why`](crate::node::Node::answer_why), which takes what the machine does with such packets.
    WhyAsked {
        /// Who.
        peer: PeerId,
        /// What.
        question: WhyQuestion,
    },
    /// An invited endpoint wants its own key to take the place of the one in its invitation. The shell decides, and says so by
    /// [`Node::answer_enrolment`](crate::node::Node::answer_enrolment).
    EnrolWanted {
        /// Who.
        peer: PeerId,
        /// Its own key, which no other endpoint has.
        key: PublicKey,
        /// Where it says that it may be dialled; at most [`MAX_ADDRESSES`](crate::wire::MAX_ADDRESSES).
        addresses: Vec<SocketAddr>,
    },
    /// Who has invited this node has answered [`Node::enrol`](crate::node::Node::enrol).
    EnrolAnswered {
        /// Who.
        peer: PeerId,
        /// What it said.
        answer: EnrolAnswer,
    },
    /// A probe that the shell asked for was answered.
    ProbeReply {
        /// By whom.
        peer: PeerId,
        /// The probe's token.
        token: u64,
        /// From where.
        source: Locator,
        /// From sending the probe to its reply.
        rtt: Duration,
    },
}

/// Why the last session with a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// Nothing was sent or received for the configured time.
    Idle,
    /// Its keys grew too old, and the peer answered no new handshake.
    Expired,
    /// The peer closed it.
    Closed,
    /// The peer is no longer a member, or no longer allowed, or has another key.
    Removed,
}

/// Why an initiation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its key belongs to no endpoint.
    #[error("its key {0:?} belongs to no endpoint of this mesh")]
    UnknownKey(PublicKey),
    /// Policy keeps it from us.
    #[error("{0}")]
    Denied(Denial),
    /// Its timestamp is not newer than the last one.
    #[error("its handshake timestamp is not newer than its last one (a replay, or a clock set back)")]
    OldTimestamp,
    /// Nothing in common, or undecipherable.
    #[error("{0}")]
    Handshake(HandshakeError),
}
