//! Why packets get from one member to another, or do not: what was found out, and the one thing that follows from it.
//!
//! [`Node::explain`](crate::node::Node::explain) gathers [`View`]s: that of the sender, that of the receiver, and where these two have
//! no session that of a member who may have one with either. [`Explanation::cause`] judges them by no more than their codes.

mod cause;

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

pub use cause::{Cause, Side};

use crate::id::PeerId;
use crate::owner::SharedStatus;
use crate::wire::View;

/// What is known of the way to an address.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Where to.
    pub address: IpAddr,
    /// Whose packets are meant; `None`: this node's.
    pub from: Option<PeerId>,
    /// Who has the address, as this node's records say.
    pub target: Option<PeerId>,
    /// The longest prefix that covers the address.
    pub prefix: Option<IpNet>,
    /// Where nobody has it: the prefix next to it, and whose it is; `None` for this node's own.
    pub nearest: Option<(IpNet, Option<PeerId>)>,
    /// Where several announce the prefix: who has it, and how the others do.
    pub shared: Option<SharedStatus>,
    /// How the sender sees it.
    pub near: Heard,
    /// How the receiver does.
    pub far: Heard,
    /// What another member says where sender and receiver have no session.
    pub helper: Option<Helper>,
    /// The device's MTU in bytes: packets up to this leave the kernel for the mesh.
    pub mtu: u16,
    /// Whether nothing more is to be expected; otherwise to be asked for again in a while.
    pub is_final: bool,
}

/// What one side says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It need not be asked.
    NotAsked,
    /// It has been asked, or will be once there is a session.
    Awaited,
    /// It cannot be asked: there is no session with it.
    Unreached,
    /// It cannot be asked: policy keeps it from this node.
    Denied,
    /// It was not asked: too many questions of this node wait for answers.
    Crowded,
    /// It has a session and does not answer such questions: it is of an earlier version, or is asked too often.
    Silent,
    /// This.
    Says(View),
}

/// A member that was asked about two others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Helper {
    /// Who.
    pub peer: PeerId,
    /// How it sees the way from itself to the receiver.
    pub near: Heard,
    /// How the receiver sees the way from the sender, as it told the helper.
    pub far: Option<View>,
}

impl Heard {
    /// What it says, if it does.
    #[must_use]
    pub const fn view(&self) -> Option<View> {
        match self {
            Self::Says(view) => Some(*view),
            Self::NotAsked | Self::Awaited | Self::Unreached | Self::Denied | Self::Crowded | Self::Silent => None,
        }
    }
}

impl Explanation {
    /// Whether packets are cut or refused that the device would take.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        self.near.view().is_some_and(|view| view.mtu != 0 && view.mtu < self.mtu)
    }

    /// Round trip time between sender and receiver, where it is known.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        let micros = self.near.view().map(|view| view.rtt).filter(|rtt| *rtt != 0)?;
        Some(Duration::from_micros(micros.into()))
    }
}
