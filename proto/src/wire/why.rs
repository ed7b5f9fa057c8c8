//! The two messages by which a node asks another why packets do, or do not, get through: the plaintext behind their kinds.
//!
//! What is told is a [`View`]: sixteen bytes of codes, so that an answer is never longer than its question.

use std::net::IpAddr;

use crate::address;
use crate::id::PublicKey;

/// Bytes of a [`View`].
const VIEW_LEN: usize = 16;

/// Why does, or does not, a packet get from one place to another, as the receiver sees it?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WhyQuestion {
    /// Chosen at random by the asker, and put into the answer.
    pub token: u64,
    /// Whether the receiver is to ask the owner of `destination` in turn.
    pub reach: Reach,
    /// A mesh address of the member whose packets are meant; `None`: the asker's, or where the destination is not the receiver's,
    /// the receiver's own.
    pub source: Option<IpAddr>,
    /// Where to.
    pub destination: IpAddr,
    /// The public key that the asker knows of the other party: of the destination's owner, or where the destination is the
    /// receiver's own, of the source's.
    pub key: Option<PublicKey>,
}

/// How far a question goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To its receiver only.
    Receiver,
    /// The receiver asks the destination's owner, which asks nobody.
    Onward,
}

/// The answer to a [`WhyQuestion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WhyAnswer {
    /// The question's.
    pub token: u64,
    /// How the receiver of the question sees it.
    pub near: View,
    /// How the destination's owner does, where that was asked in turn and has answered.
    pub far: Option<View>,
}

/// How one node sees the way between it and another member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Where the destination lies.
    pub route: RouteView,
    /// Whether its record of the other party has the key that was named.
    pub key: KeyView,
    /// Whether it lets the other party in.
    pub policy: PolicyView,
    /// How its session with the other party does.
    pub session: SessionView,
    /// Why the last handshake between the two came to nothing.
    pub trouble: TroubleView,
    /// How it sends to the other party.
    pub path: PathView,
    /// Whether its machine carries such packets.
    pub machine: MachineView,
    /// Whether it knows all members of the mesh file.
    pub selection: SelectionView,
    /// Round trip time of that path in microseconds; 0: not known.
    pub rtt: u32,
    /// The largest inner packet in bytes that this path is known to carry; 0: not known.
    pub mtu: u16,
}

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            /// Not told, or told in words of a later version.
            #[default]
            Untold = 0,
            $($(#[$of])* $variant = $number,)*
        }

        impl $name {
            /// Every code.
            pub const ALL: &'static [Self] = &[Self::Untold, $(Self::$variant,)*];

            const fn of(byte: u8) -> Self {
                match byte {
                    $($number => Self::$variant,)*
                    _ => Self::Untold,
                }
            }
        }
    };
}

codes! {
    /// Where a destination lies, as a node sees it.
    RouteView {
        /// It is a mesh address of the node itself.
        Own = 1,
        /// In a prefix that the node announces.
        Behind = 2,
        /// At another member, or behind it.
        Peer = 3,
        /// Nobody announces it.
        Nobody = 4,
        /// That is not the asker's business.
        Withheld = 5,
    }
}

codes! {
    /// What became of comparing a public key with a record.
    KeyView {
        /// They are equal.
        Same = 1,
        /// The record has another.
        Differs = 2,
        /// There is no such record.
        NoRecord = 3,
    }
}

codes! {
    /// Whether policy lets two members talk.
    PolicyView {
        /// They share a community.
        Community = 1,
        /// One is the other's connector.
        OwnConnector = 2,
        /// They hear each other on a LAN whose token counts as a community.
        Neighbour = 3,
        /// No community has both.
        NoCommunity = 4,
    }
}

codes! {
    /// How a session does.
    SessionView {
        /// There is none, and none was wanted.
        Idle = 1,
        /// A handshake is under way.
        Connecting = 2,
        /// It is up, and a path answers.
        Up = 3,
        /// Handshakes are not answered.
        Unanswered = 4,
        /// It was up, and no path answers any more.
        Lost = 5,
    }
}

codes! {
    /// Why a handshake came to nothing, as far as one node can tell.
    TroubleView {
        /// There is nothing to tell.
        None = 1,
        /// The node refuses the other: policy.
        Denied = 2,
        /// The node refuses the other: its timestamp is not newer than one before.
        OldTimestamp = 3,
        /// They offer no common cipher.
        NoCipher = 4,
        /// The other's responses cannot be read, though its initiations can: another pre-shared key.
        Psk = 5,
        /// Initiations from where the other is cannot be read: another mesh name.
        Unreadable = 6,
        /// The node refuses the key that was named: it is nobody's.
        Stranger = 7,
        /// From where the other is comes somebody with another key than its record has.
        OtherKey = 8,
        /// The node knows no place to dial, and no relay.
        NoPlace = 9,
        /// A public address of the other is a name that does not resolve.
        Unresolved = 10,
    }
}

codes! {
    /// Where the data of a session goes.
    PathView {
        /// To an address on the same LAN.
        Lan = 1,
        /// To an address.
        Direct = 2,
        /// Through a relay.
        Relay = 3,
        /// Through a relay that is reached over TLS.
        Tls = 4,
    }
}

codes! {
    /// Whether a machine carries packets between the mesh and a destination.
    MachineView {
        /// Nothing speaks against it.
        Good = 1,
        /// The destination is behind it, and it does not forward.
        ForwardingOff = 2,
        /// It has no route to what it announces.
        NoWay = 3,
        /// Its routes lead elsewhere than into the mesh.
        Shadowed = 4,
        /// It has no route into the mesh for it.
        RouteMissing = 5,
        /// It drops what comes in for want of a symmetric route (`rp_filter`).
        ReversePath = 6,
    }
}

codes! {
    /// Whether a node has all of the mesh file's members in mind.
    SelectionView {
        /// It has.
        All = 1,
        /// It leaves some out.
        Some = 2,
    }
}

impl View {
    fn parse(bytes: &[u8; VIEW_LEN]) -> Self {
        let [route, key, policy, session, trouble, path, machine, selection, r0, r1, r2, r3, m0, m1, _, _] = *bytes;
        Self {
            route: RouteView::of(route),
            key: KeyView::of(key),
            policy: PolicyView::of(policy),
            session: SessionView::of(session),
            trouble: TroubleView::of(trouble),
            path: PathView::of(path),
            machine: MachineView::of(machine),
            selection: SelectionView::of(selection),
            rtt: u32::from_le_bytes([r0, r1, r2, r3]),
            mtu: u16::from_le_bytes([m0, m1]),
        }
    }

    fn to_bytes(self) -> [u8; VIEW_LEN] {
        let ([r0, r1, r2, r3], [m0, m1]) = (self.rtt.to_le_bytes(), self.mtu.to_le_bytes());
        let (route, key, policy, session) = (self.route as u8, self.key as u8, self.policy as u8, self.session as u8);
        let (trouble, path, machine, selection) =
            (self.trouble as u8, self.path as u8, self.machine as u8, self.selection as u8);
        [route, key, policy, session, trouble, path, machine, selection, r0, r1, r2, r3, m0, m1, 0, 0]
    }
}

impl WhyQuestion {
    /// Reads what follows the kind.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (token, rest) = body.split_first_chunk()?;
        let (reach, rest) = rest.split_first()?;
        let (source, rest) = rest.split_first_chunk::<16>()?;
        let (destination, rest) = rest.split_first_chunk::<16>()?;
        let key = PublicKey(*rest.first_chunk()?);
        Some(Self {
            token: u64::from_le_bytes(*token),
            reach: if reach & 1 == 0 { Reach::Receiver } else { Reach::Onward },
            source: Some(ip(*source)).filter(|source| !source.is_unspecified()),
            destination: Some(ip(*destination)).filter(|to| address::is_of_one_machine(*to))?,
            key: Some(key).filter(|key| key.0 != [0; 32]),
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.token.to_le_bytes());
        out.push(u8::from(self.reach == Reach::Onward));
        out.extend(self.source.map_or([0; 16], address::ip_bytes));
        out.extend(address::ip_bytes(self.destination));
        out.extend(self.key.map_or([0; 32], |key| key.0));
    }
}

impl WhyAnswer {
    /// Reads what follows the kind.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (token, rest) = body.split_first_chunk()?;
        let (near, rest) = rest.split_first_chunk()?;
        let far = rest.first_chunk().map(View::parse);
        Some(Self { token: u64::from_le_bytes(*token), near: View::parse(near), far })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.token.to_le_bytes());
        out.extend(self.near.to_bytes());
        out.extend(self.far.iter().flat_map(|view| view.to_bytes()));
    }
}

fn ip(bytes: [u8; 16]) -> IpAddr {
    IpAddr::from(bytes).to_canonical()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn view() -> impl Strategy<Value = View> {
        let first = (select(RouteView::ALL), select(KeyView::ALL), select(PolicyView::ALL), select(SessionView::ALL));
        let second =
            (select(TroubleView::ALL), select(PathView::ALL), select(MachineView::ALL), select(SelectionView::ALL));
        (first, second, any::<u32>(), any::<u16>()).prop_map(
            |((route, key, policy, session), (trouble, path, machine, selection), rtt, mtu)| View {
                route,
                key,
                policy,
                session,
                trouble,
                path,
                machine,
                selection,
                rtt,
                mtu,
            },
        )
    }

    pub(in crate::wire) fn question() -> impl Strategy<Value = WhyQuestion> {
        let ip = || any::<IpAddr>().prop_map(|ip| ip.to_canonical());
        let destination = ip().prop_filter("a machine's", |ip| address::is_of_one_machine(*ip));
        let key = any::<[u8; 32]>().prop_map(|key| Some(PublicKey(key)).filter(|_| key != [0; 32]));
        let reach = select(vec![Reach::Receiver, Reach::Onward]);
        (any::<u64>(), reach, proptest::option::of(ip()), destination, key).prop_map(
            |(token, reach, source, destination, key)| {
                let source = source.filter(|ip| !ip.is_unspecified());
                WhyQuestion { token, reach, source, destination, key }
            },
        )
    }

    pub(in crate::wire) fn answer() -> impl Strategy<Value = WhyAnswer> {
        (any::<u64>(), view(), proptest::option::of(view())).prop_map(|(token, near, far)| WhyAnswer {
            token,
            near,
            far,
        })
    }

    proptest! {
        #[test]
        fn an_answer_is_never_longer_than_its_question(question in question(), answer in answer()) {
            let (mut asked, mut told) = (Vec::new(), Vec::new());
            question.write(&mut asked);
            answer.write(&mut told);
            prop_assert!(told.len() < asked.len());
        }
    }

    #[test]
    fn a_code_of_a_later_version_is_not_told_and_the_rest_stands() {
        let mut bytes = View { route: RouteView::Peer, rtt: 7, ..View::default() }.to_bytes();
        bytes[3] = 200;
        assert_eq!(View::parse(&bytes), View { route: RouteView::Peer, rtt: 7, ..View::default() });
    }
}
