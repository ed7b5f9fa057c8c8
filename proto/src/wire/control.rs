//! Control messages: the plaintext of [`MessageType::Control`](super::MessageType) datagrams.
//!
//! The first byte is the kind. A receiver ignores kinds and trailing bytes that it does not know, so that later versions
//! may add both. A probe may be padded to any length, which is how a path's MTU is measured.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::why::{WhyAnswer, WhyQuestion};
use crate::address::{self, ADDRESS_LEN};
use crate::id::PublicKey;
use crate::nat::Forecast;
use crate::path::{Channel, Origin};

/// Longest control plaintext in bytes: what a jumbo frame holds. What is longer is no control message.
pub const MAX_CONTROL: usize = 9000;

/// Most addresses in one [`Control::Candidates`].
pub const MAX_ADDRESSES: usize = 12;

/// Most prefixes in one [`Control::Reach`]: what fits the smallest path.
pub const MAX_UNREACHED: usize = 64;

/// One control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Empty plaintext: I am here, and this session works.
    Keepalive,
    /// Answer at once, to where this came from, with the same token.
    Probe {
        /// Chosen at random by the prober.
        token: u64,
    },
    /// The answer to a probe.
    ProbeReply {
        /// The probe's token.
        token: u64,
        /// From where the probe came; `None` where that was a relay.
        observed: Option<SocketAddr>,
    },
    /// The sender ends this session and forgets its keys.
    Close,
    /// Where the sender may be reached: at most [`MAX_ADDRESSES`], which replace those before. The receiver probes them at once.
    Candidates {
        /// Addresses, and how the sender knows them.
        addresses: Vec<(Origin, SocketAddr)>,
    },
    /// Which outer ports the sender's NAT gives out next: probe them now, for the sender does so with yours.
    NextMappings {
        /// Where they will be.
        forecast: Forecast,
    },
    /// Between a node before whose NAT nobody can foretell a port and one that keeps its port: about a spray.
    Spray {
        /// What is said of it.
        step: SprayStep,
        /// In an offer, where the sender is seen, of which only the IP address counts; in an answer, where it is reached.
        address: SocketAddr,
    },
    /// To a relay: open a channel to the holder of this key.
    RelayOpen {
        /// Whose.
        target: PublicKey,
    },
    /// From a relay, to both ends: what you send to me on this channel goes to the holder of this key, and what comes from it
    /// comes to you on the same channel.
    RelayOpened {
        /// The receiver's channel.
        channel: Channel,
        /// At the other end.
        target: PublicKey,
        /// Where the other end has answered the relay; `None` where it has not over IPv4.
        seen_at: Option<Ipv4Addr>,
    },
    /// Send a [`Control::ProbeReply`] with this token, but only after a while, to where this came from: does what is unasked still
    /// come in then?
    Echo {
        /// Chosen at random by the sender.
        token: u64,
        /// How long to wait, in whole milliseconds on the wire; a newer request replaces one that waits.
        after: Duration,
    },
    /// From a relay: there is no such channel, or no longer.
    RelayRefused {
        /// To whom.
        target: PublicKey,
        /// Why.
        reason: RelayRefusal,
    },
    /// To a neighbour on a LAN: I take packets as they are at these addresses of mine there, and send them so where you offer
    /// the same. Good for some seconds.
    DirectOffer {
        /// In which families a probe of mine was answered from an address that you offered.
        ready: Families,
        /// At most [`MAX_ADDRESSES`], which replace those before.
        addresses: Vec<IpAddr>,
    },
    /// No longer: send through this session.
    DirectWithdraw,
    /// Which of the prefixes that others announce too does the receiver not reach?
    ReachQuestion,
    /// The sender reaches all that it announces but these: at most [`MAX_UNREACHED`], which replace those before.
    Reach {
        /// Of those that others announce too.
        unreached: Vec<IpNet>,
    },
    /// How does the receiver see the way of such packets?
    WhyQuestion(WhyQuestion),
    /// So does the sender see it.
    WhyAnswer(WhyAnswer),
    /// Under the key of an invitation: let this key take its place.
    Enrol {
        /// The sender's own.
        key: PublicKey,
        /// Where it may be dialled: at most [`MAX_ADDRESSES`], best first.
        addresses: Vec<SocketAddr>,
    },
    /// The answer to [`Control::Enrol`].
    Enrolled {
        /// What became of it.
        answer: EnrolAnswer,
    },
}

/// What becomes of an enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrolAnswer {
    /// The key is a member's from now on.
    #[error("accepted")]
    Accepted = 0,
    /// The inviter leaves it to its operator.
    #[error("it does not take new members by itself")]
    NotByItself = 1,
    /// The invitation has expired.
    #[error("the invitation has expired")]
    Void = 2,
    /// Somebody has used it before, with another key.
    #[error("the invitation has been used already")]
    Used = 3,
    /// The key is another endpoint's.
    #[error("another endpoint has this public key")]
    KeyTaken = 4,
    /// The inviter could not write it down.
    #[error("it could not change its mesh file")]
    Failed = 5,
}

/// What two nodes say to each other before a spray.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SprayStep {
    /// I would send from many sockets to the one port that your NAT keeps, if you probed ports of mine.
    Offer = 1,
    /// I begin to probe yours: send now.
    Accept = 2,
}

/// Some of the two IP versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// Those of these addresses.
    #[must_use]
    pub fn of(addresses: &[SocketAddr]) -> Self {
        Self { v4: addresses.iter().any(SocketAddr::is_ipv4), v6: addresses.iter().any(SocketAddr::is_ipv6) }
    }

    /// Those in both.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self { v4: self.v4 && other.v4, v6: self.v6 && other.v6 }
    }

    const fn to_bits(self) -> u8 {
        self.v4 as u8 | (self.v6 as u8) << 1
    }

    const fn of_bits(bits: u8) -> Self {
        Self { v4: bits & 1 != 0, v6: bits & 2 != 0 }
    }
}

/// Why a relay does not carry datagrams to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayRefusal {
    /// It has no session with the relay now.
    #[error("it is not connected to the relay")]
    Absent = 1,
    /// The node is no relay.
    #[error("the node does not relay")]
    NoRelay = 2,
    /// The relay's limits are reached.
    #[error("the relay is full")]
    Full = 3,
}

const PROBE: u8 = 1;
const PROBE_REPLY: u8 = 2;
const CLOSE: u8 = 3;
const CANDIDATES: u8 = 4;
const RELAY_OPEN: u8 = 5;
const RELAY_OPENED: u8 = 6;
const RELAY_REFUSED: u8 = 7;
const DIRECT_OFFER: u8 = 8;
const DIRECT_WITHDRAW: u8 = 9;
const NEXT_MAPPINGS: u8 = 11;
const SPRAY: u8 = 12;
const REACH: u8 = 14;
const ECHO: u8 = 17;
const WHY_QUESTION: u8 = 18;
const WHY_ANSWER: u8 = 19;
const ENROL: u8 = 20;
const ENROLLED: u8 = 21;

/// The second byte of the two messages of kind [`REACH`].
const QUESTION: u8 = 0;
const STATEMENT: u8 = 1;

/// Bytes of a prefix: its length, and an address as elsewhere.
const PREFIX_LEN: usize = 17;

impl Control {
    /// Reads a plaintext; `None` for a kind that this version does not know or a message cut short.
    #[must_use]
    pub fn parse(plaintext: &[u8]) -> Option<Self> {
        let Some((kind, body)) = plaintext.split_first() else { return Some(Self::Keepalive) };
        match *kind {
            PROBE => Some(Self::Probe { token: token(body)? }),
            PROBE_REPLY => Some(Self::ProbeReply { token: token(body)?, observed: body.get(8..).and_then(address) }),
            CLOSE => Some(Self::Close),
            CANDIDATES => candidates(body),
            NEXT_MAPPINGS => {
                let step = i16::from_le_bytes(*body.first_chunk()?).try_into().ok()?;
                Some(Self::NextMappings { forecast: Forecast { first: address(body.get(2..)?)?, step } })
            }
            RELAY_OPEN => Some(Self::RelayOpen { target: key(body)? }),
            RELAY_OPENED => {
                let channel = Channel(u32::from_le_bytes(*body.first_chunk()?));
                let seen_at = body.get(36..).and_then(<[u8]>::first_chunk::<4>);
                let seen_at = seen_at.map(|bytes| Ipv4Addr::from(*bytes));
                let seen_at = seen_at.filter(|ip| address::is_of_one_machine(IpAddr::V4(*ip)));
                Some(Self::RelayOpened { channel, target: key(body.get(4..)?)?, seen_at })
            }
            SPRAY => {
                let (step, rest) = body.split_first()?;
                Some(Self::Spray { step: SprayStep::of(*step)?, address: address(rest)? })
            }
            RELAY_REFUSED => {
                let (reason, rest) = body.split_first()?;
                Some(Self::RelayRefused { target: key(rest)?, reason: RelayRefusal::of(*reason)? })
            }
            DIRECT_OFFER => {
                let (ready, rest) = body.split_first()?;
                let (chunks, _) = rest.as_chunks::<16>();
                let all = chunks.iter().take(MAX_ADDRESSES).map(|bytes| IpAddr::from(*bytes).to_canonical());
                let addresses = all.filter(|ip| address::is_of_one_machine(*ip)).collect();
                Some(Self::DirectOffer { ready: Families::of_bits(*ready), addresses })
            }
            DIRECT_WITHDRAW => Some(Self::DirectWithdraw),
            ECHO => {
                let after = u32::from_le_bytes(*body.get(8..)?.first_chunk()?);
                Some(Self::Echo { token: token(body)?, after: Duration::from_millis(after.into()) })
            }
            REACH => match body.split_first()? {
                (&QUESTION, _) => Some(Self::ReachQuestion),
                (&STATEMENT, prefixes) => {
                    let (chunks, _) = prefixes.as_chunks::<PREFIX_LEN>();
                    Some(Self::Reach { unreached: chunks.iter().take(MAX_UNREACHED).filter_map(prefix).collect() })
                }
                _ => None,
            },
            WHY_QUESTION => WhyQuestion::parse(body).map(Self::WhyQuestion),
            WHY_ANSWER => WhyAnswer::parse(body).map(Self::WhyAnswer),
            ENROL => {
                let chunks = body.get(32..)?.chunks_exact(ADDRESS_LEN).take(MAX_ADDRESSES);
                Some(Self::Enrol { key: key(body)?, addresses: chunks.filter_map(address).collect() })
            }
            ENROLLED => Some(Self::Enrolled { answer: EnrolAnswer::of(*body.first()?) }),
            _ => None,
        }
    }

    /// The message as a plaintext.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Keepalive => {}
            Self::Probe { token } => write(&mut out, PROBE, &[&token.to_le_bytes()]),
            Self::ProbeReply { token, observed } => {
                write(&mut out, PROBE_REPLY, &[&token.to_le_bytes()]);
                out.extend(observed.iter().flat_map(|address| address::to_bytes(*address)));
            }
            Self::Close => out.push(CLOSE),
            Self::Candidates { addresses } => {
                out.push(CANDIDATES);
                for (origin, address) in addresses.iter().take(MAX_ADDRESSES) {
                    out.push(*origin as u8);
                    out.extend(address::to_bytes(*address));
                }
            }
            Self::NextMappings { forecast: Forecast { first, step } } => {
                write(&mut out, NEXT_MAPPINGS, &[&step.get().to_le_bytes(), &address::to_bytes(*first)]);
            }
            Self::RelayOpen { target } => write(&mut out, RELAY_OPEN, &[&target.0]),
            Self::RelayOpened { channel, target, seen_at } => {
                write(&mut out, RELAY_OPENED, &[&channel.0.to_le_bytes(), &target.0]);
                out.extend(seen_at.iter().flat_map(Ipv4Addr::octets));
            }
            Self::Spray { step, address } => {
                write(&mut out, SPRAY, &[&[*step as u8], &address::to_bytes(*address)]);
            }
            Self::RelayRefused { target, reason } => {
                write(&mut out, RELAY_REFUSED, &[&[*reason as u8], &target.0]);
            }
            Self::DirectOffer { ready, addresses } => {
                write(&mut out, DIRECT_OFFER, &[&[ready.to_bits()]]);
                out.extend(addresses.iter().take(MAX_ADDRESSES).flat_map(|ip| address::ip_bytes(*ip)));
            }
            Self::DirectWithdraw => out.push(DIRECT_WITHDRAW),
            Self::Echo { token, after } => {
                let after = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
                write(&mut out, ECHO, &[&token.to_le_bytes(), &after.to_le_bytes()]);
            }
            Self::ReachQuestion => write(&mut out, REACH, &[&[QUESTION]]),
            Self::Reach { unreached } => {
                write(&mut out, REACH, &[&[STATEMENT]]);
                for net in unreached.iter().take(MAX_UNREACHED) {
                    write(&mut out, net.prefix_len(), &[&address::ip_bytes(net.addr())]);
                }
            }
            Self::WhyQuestion(question) => {
                out.push(WHY_QUESTION);
                question.write(&mut out);
            }
            Self::WhyAnswer(answer) => {
                out.push(WHY_ANSWER);
                answer.write(&mut out);
            }
            Self::Enrol { key, addresses } => {
                write(&mut out, ENROL, &[&key.0]);
                out.extend(addresses.iter().take(MAX_ADDRESSES).flat_map(|address| address::to_bytes(*address)));
            }
            Self::Enrolled { answer } => out.extend([ENROLLED, *answer as u8]),
        }
        out
    }
}

impl SprayStep {
    const fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Offer),
            2 => Some(Self::Accept),
            _ => None,
        }
    }
}

impl EnrolAnswer {
    /// One that this version does not know is a refusal all the same.
    const fn of(byte: u8) -> Self {
        match byte {
            0 => Self::Accepted,
            1 => Self::NotByItself,
            2 => Self::Void,
            3 => Self::Used,
            4 => Self::KeyTaken,
            _ => Self::Failed,
        }
    }
}

impl RelayRefusal {
    const fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Absent),
            2 => Some(Self::NoRelay),
            3 => Some(Self::Full),
            _ => None,
        }
    }
}

fn write(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    out.push(kind);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn token(body: &[u8]) -> Option<u64> {
    body.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn key(body: &[u8]) -> Option<PublicKey> {
    body.first_chunk().map(|bytes| PublicKey(*bytes))
}

/// `None` where it is longer than its family's addresses.
fn prefix(bytes: &[u8; PREFIX_LEN]) -> Option<IpNet> {
    let (len, address) = bytes.split_first()?;
    let address = IpAddr::from(*address.first_chunk::<16>()?).to_canonical();
    IpNet::new(address, *len).ok().map(|net| net.trunc())
}

/// An origin that this version does not know makes its address none; the others stand.
fn candidates(body: &[u8]) -> Option<Control> {
    let entries = body.chunks_exact(1 + ADDRESS_LEN).take(MAX_ADDRESSES);
    let read = |entry: &[u8]| Some((Origin::of(*entry.first()?)?, address(entry.get(1..)?)?));
    Some(Control::Candidates { addresses: entries.filter_map(read).collect() })
}

/// `None` where it is cut short, or no address that anything can be sent to.
fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let address = address::from_bytes(bytes.first_chunk()?);
    let ip = address.ip();
    (address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::super::why::tests as why;
    use super::*;

    use proptest::prelude::*;

    fn addresses() -> impl Strategy<Value = Vec<(Origin, SocketAddr)>> {
        let ip = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
        let usable = ip
            .prop_map(|ip| ip.to_canonical())
            .prop_filter("can be sent to", |ip| !ip.is_unspecified() && !ip.is_multicast());
        let origin = proptest::sample::select(Origin::ALL.to_vec());
        proptest::collection::vec((origin, (usable, 1u16..).prop_map(SocketAddr::from)), 0..=MAX_ADDRESSES)
    }

    fn message() -> impl Strategy<Value = Control> {
        let key = any::<[u8; 32]>().prop_map(PublicKey);
        let reason = proptest::sample::select(vec![RelayRefusal::Absent, RelayRefusal::NoRelay, RelayRefusal::Full]);
        prop_oneof![
            Just(Control::Keepalive),
            Just(Control::Close),
            any::<u64>().prop_map(|token| Control::Probe { token }),
            (any::<u64>(), addresses()).prop_map(|(token, known)| Control::ProbeReply {
                token,
                observed: known.first().map(|(_, address)| *address)
            }),
            addresses().prop_map(|addresses| Control::Candidates { addresses }),
            (any::<std::num::NonZeroI16>(), addresses()).prop_filter_map("an address", |(step, known)| {
                let forecast = Forecast { first: known.first()?.1, step };
                Some(Control::NextMappings { forecast })
            }),
            key.clone().prop_map(|target| Control::RelayOpen { target }),
            (any::<u32>(), key.clone(), any::<Option<Ipv4Addr>>()).prop_map(|(channel, target, seen_at)| {
                let seen_at = seen_at.filter(|ip| address::is_of_one_machine(IpAddr::V4(*ip)));
                Control::RelayOpened { channel: Channel(channel), target, seen_at }
            }),
            (proptest::sample::select(vec![SprayStep::Offer, SprayStep::Accept]), addresses()).prop_filter_map(
                "an address",
                |(step, known)| Some(Control::Spray { step, address: known.first()?.1 })
            ),
            (any::<u64>(), any::<u32>())
                .prop_map(|(token, after)| Control::Echo { token, after: Duration::from_millis(after.into()) }),
            (key, reason).prop_map(|(target, reason)| Control::RelayRefused { target, reason }),
            (any::<[bool; 2]>(), addresses()).prop_map(|([v4, v6], addresses)| Control::DirectOffer {
                ready: Families { v4, v6 },
                addresses: addresses
                    .into_iter()
                    .map(|(_, address)| address.ip())
                    .filter(|ip| address::is_of_one_machine(*ip))
                    .collect()
            }),
            Just(Control::DirectWithdraw),
            (any::<[u8; 32]>(), addresses()).prop_map(|(key, known)| Control::Enrol {
                key: PublicKey(key),
                addresses: known.into_iter().map(|(_, address)| address).collect()
            }),
            (0u8..=5).prop_map(|byte| Control::Enrolled { answer: EnrolAnswer::of(byte) }),
            Just(Control::ReachQuestion),
            proptest::collection::vec((any::<IpAddr>(), 0u8..=32), 0..=MAX_UNREACHED).prop_map(|nets| {
                let net = |(ip, len): (IpAddr, u8)| IpNet::new(ip.to_canonical(), len).unwrap().trunc();
                Control::Reach { unreached: nets.into_iter().map(net).collect() }
            }),
            why::question().prop_map(Control::WhyQuestion),
            why::answer().prop_map(Control::WhyAnswer),
        ]
    }

    proptest! {
        #[test]
        fn every_message_survives_its_encoding(message in message()) {
            prop_assert_eq!(Control::parse(&message.to_bytes()), Some(message));
        }

        #[test]
        fn any_bytes_are_read_without_panic_and_what_is_read_is_written_alike(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(message) = Control::parse(&bytes) {
                prop_assert_eq!(Control::parse(&message.to_bytes()), Some(message));
            }
        }
    }

    #[test]
    fn unknown_kinds_and_short_messages_are_none_and_trailing_bytes_are_ignored() {
        assert_eq!(Control::parse(&[99]), None);
        assert_eq!(Control::parse(&[1, 0, 0]), None);
        assert_eq!(Control::parse(&[3, 1, 2, 3]), Some(Control::Close));
        let padded = [Control::Probe { token: 7 }.to_bytes(), vec![0; 1300]].concat();
        assert_eq!(Control::parse(&padded), Some(Control::Probe { token: 7 }));
    }

    #[test]
    fn addresses_that_nothing_can_be_sent_to_are_left_out() {
        let odd = ["0.0.0.0:1", "239.1.2.3:5", "192.0.2.1:0", "[ff02::1]:9"].map(|text| text.parse().unwrap());
        let good: SocketAddr = "192.0.2.1:9".parse().unwrap();
        let addresses = odd.into_iter().chain([good]).map(|address| (Origin::Interface, address)).collect();
        let read = Control::parse(&Control::Candidates { addresses }.to_bytes());
        assert_eq!(read, Some(Control::Candidates { addresses: vec![(Origin::Interface, good)] }));
    }
}
