//! The only file that knows the `rtnetlink` crates: plain requests and answers in this module's own types.
//!
//! Requests go through `netlink-proto` rather than rtnetlink's handles, because only that can send many messages at once.
// The kernel's enumerations are open: a newer one may say what these crates do not know.
#![allow(clippy::wildcard_enum_match_arm)]

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::proto::ConnectionHandle;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use rtnetlink::{MulticastGroup, proto};
use tokio::task::JoinHandle;

use super::neighbours::is_direct;

/// Requests in one send. Their acknowledgements queue in the socket's receive buffer (212,992 bytes by default, under 1 KiB each).
const BATCH: usize = 64;

/// The kernel answers at once unless the routing lock is held; after this long meshd must not hang.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The kernel marks a dump that raced with a change; so many are tried for a clean one before the last is taken as it is.
const DUMP_TRIES: usize = 4;

/// Larger than any datagram that the kernel sends here (32 KiB since Linux 4.9).
const EVENT_BUFFER: usize = 64 * 1024;

/// Length of a message's header (RFC 3549 §2.3.2).
const HEADER: usize = 16;

/// The table in which the kernel keeps the addresses of this machine.
pub(super) const LOCAL_TABLE: u32 = 255;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) is_up: bool,
    pub(super) has_carrier: bool,
    /// Whether it reaches others by multicast: loopback does not.
    pub(super) is_multicast: bool,
    /// Whether it is a TUN or TAP device.
    pub(super) is_tun: bool,
    pub(super) settings: LinkSettings,
}

/// What of an interface can be set; `None` is left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct LinkSettings {
    pub(super) mtu: Option<u32>,
    pub(super) txqueuelen: Option<u32>,
    pub(super) gso_max_segs: Option<u32>,
    /// 1 is "none"; see `IN6_ADDR_GEN_MODE_*`.
    pub(super) address_mode: Option<u8>,
}

/// `IN6_ADDR_GEN_MODE_NONE`: the kernel makes no link-local address, so it sends no router solicitations.
pub(super) const ADDRESS_MODE_NONE: u8 = 1;

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) index: u32,
    pub(super) address: IpNet,
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteKind {
    Unicast,
    Throw,
    /// Blackhole, unreachable, prohibit.
    Refuse,
    /// Local, broadcast, multicast and the like.
    Other,
}

/// A route as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) prefix: IpNet,
    pub(super) table: u32,
    pub(super) protocol: u8,
    pub(super) kind: RouteKind,
    /// Live next hops' interfaces.
    pub(super) interfaces: Vec<u32>,
    /// Whether some next hop is reached through a gateway.
    pub(super) has_gateway: bool,
    /// The gateways that have an IP address of the route's family, each behind its interface.
    pub(super) gateways: Vec<(u32, IpAddr)>,
    /// Its rank among routes of one prefix, the least first.
    pub(super) metric: u32,
    pub(super) source: Option<IpAddr>,
}

/// A route to add, replace or remove.
#[derive(Clone, Debug)]
pub(super) struct RouteSpec {
    pub(super) prefix: IpNet,
    pub(super) table: u32,
    pub(super) protocol: u8,
    /// Its rank among routes of one prefix, the least first; `None` is the kernel's default.
    pub(super) metric: Option<u32>,
    /// `None` is a throw route.
    pub(super) interface: Option<u32>,
    /// `None`: destinations are neighbours.
    pub(super) gateway: Option<IpAddr>,
    pub(super) source: Option<IpAddr>,
}

/// A request about one route.
#[derive(Clone, Debug)]
pub(super) enum RouteRequest {
    /// `EEXIST` where anyone has this prefix and metric in this table.
    Add(RouteSpec),
    /// Takes the place of an entry with the same prefix and metric in the same table.
    Replace(RouteSpec),
    /// Removes an entry of exactly this prefix, table, protocol and metric, if that is given.
    Remove { prefix: IpNet, table: u32, protocol: u8, metric: Option<u32> },
    /// Removes an entry of exactly this kind, interface and gateway.
    RemoveVia(RouteSpec),
}

/// `not from all fwmark MARK lookup TABLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RuleSpec {
    pub(super) v6: bool,
    pub(super) priority: u32,
    pub(super) mark: u32,
    pub(super) table: u32,
    pub(super) protocol: u8,
}

/// A rule as the kernel has it.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// What it would be as one of ours.
    pub(super) spec: RuleSpec,
    message: RuleMessage,
}

impl Rule {
    /// Whether it is for some packets only: by mark, source, destination, interface or the like.
    pub(super) fn is_selective(&self) -> bool {
        let header = &self.message.header;
        let has_prefix = header.src_len > 0 || header.dst_len > 0;
        let is_plain = |attribute: &RuleAttribute| {
            matches!(
                attribute,
                RuleAttribute::Priority(_)
                    | RuleAttribute::Table(_)
                    | RuleAttribute::Protocol(_)
                    | RuleAttribute::SuppressPrefixLen(_)
                    | RuleAttribute::SuppressIfGroup(_)
            )
        };
        has_prefix || !self.message.attributes.iter().all(is_plain)
    }
}

/// A netlink socket for requests. Its task ends with it.
pub(super) struct Netlink {
    handle: ConnectionHandle<RouteNetlinkMessage>,
    task: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Netlink {
    /// Opens a socket and spawns its task on the current runtime.
    pub(super) fn open() -> io::Result<Self> {
        let (mut connection, handle, _unsolicited) = proto::new_connection::<RouteNetlinkMessage>(NETLINK_ROUTE)?;
        // Acknowledgements come in the order of requests, which is how a batch learns which of it failed.
        connection.set_forward_ack(true);
        // Lets the kernel filter dumps by table; older ones than 4.20 send all, and the filter here does it.
        let _ = connection.socket_mut().socket_mut().set_netlink_get_strict_chk(true);
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    /// Every interface.
    pub(super) async fn links(&self) -> io::Result<Vec<Link>> {
        let answers = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default())).await?;
        Ok(answers
            .into_iter()
            .filter_map(|m| if let RouteNetlinkMessage::NewLink(m) = m { link(m) } else { None })
            .collect())
    }

    /// Every address of every interface.
    pub(super) async fn addresses(&self) -> io::Result<Vec<Address>> {
        let answers = self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default())).await?;
        let parse = |m| if let RouteNetlinkMessage::NewAddress(m) = m { address(&m) } else { None };
        Ok(answers.into_iter().filter_map(parse).collect())
    }

    /// Every route of a table, of both families.
    pub(super) async fn routes(&self, table: u32) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.attributes.push(RouteAttribute::Table(table));
            let answers = without_family(self.dump(RouteNetlinkMessage::GetRoute(message)).await)?;
            let parse = |m| if let RouteNetlinkMessage::NewRoute(m) = m { route(&m) } else { None };
            routes.extend(answers.into_iter().filter_map(parse).filter(|route| route.table == table));
        }
        Ok(routes)
    }

    /// Every rule that looks up a table, of both families.
    pub(super) async fn rules(&self) -> io::Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RuleMessage::default();
            message.header.family = family;
            let answers = without_family(self.dump(RouteNetlinkMessage::GetRule(message)).await)?;
            let parse = |m| if let RouteNetlinkMessage::NewRule(m) = m { rule(m) } else { None };
            rules.extend(answers.into_iter().filter_map(parse));
        }
        Ok(rules)
    }

    /// Sets what is `Some`, in one request.
    pub(super) async fn set_link(&self, index: u32, settings: &LinkSettings) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.extend(settings.mtu.map(LinkAttribute::Mtu));
        message.attributes.extend(settings.txqueuelen.map(LinkAttribute::TxQueueLen));
        message.attributes.extend(settings.gso_max_segs.map(LinkAttribute::GsoMaxSegs));
        let mode = settings.address_mode.map(|mode| AfSpecInet6::AddrGenMode(In6AddrGenMode::from(mode)));
        message.attributes.extend(mode.map(|mode| LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])])));
        self.change(RouteNetlinkMessage::SetLink(message), 0).await
    }

    /// Sets an interface up or down.
    pub(super) async fn set_up(&self, index: u32, is_up: bool) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = if is_up { LinkFlags::Up } else { LinkFlags::empty() };
        message.header.change_mask = LinkFlags::Up;
        self.change(RouteNetlinkMessage::SetLink(message), 0).await
    }

    /// Adds an address without duplicate address detection and without a route for its prefix.
    pub(super) async fn add_address(&self, address: &Address) -> io::Result<()> {
        let mut message = address_message(address);
        // Until detection is done an IPv6 address cannot be a preferred source; a mesh address belongs to one key anyway.
        if address.address.addr().is_ipv6() {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute));
        }
        self.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL).await
    }

    /// Removes an address.
    pub(super) async fn remove_address(&self, address: &Address) -> io::Result<()> {
        self.change(RouteNetlinkMessage::DelAddress(address_message(address)), 0).await
    }

    /// Adds a rule; `EEXIST` if there is the same one.
    pub(super) async fn add_rule(&self, spec: &RuleSpec) -> io::Result<()> {
        let mut message = RuleMessage::default();
        message.header.family = family(spec.v6);
        message.header.action = RuleAction::ToTable;
        message.header.flags = RuleFlags::Invert;
        message.attributes = vec![
            RuleAttribute::Priority(spec.priority),
            RuleAttribute::FwMark(spec.mark),
            RuleAttribute::FwMask(u32::MAX),
            RuleAttribute::Table(spec.table),
            RuleAttribute::Protocol(RouteProtocol::from(spec.protocol)),
        ];
        self.change(RouteNetlinkMessage::NewRule(message), NLM_F_CREATE | NLM_F_EXCL).await
    }

    /// Removes a rule.
    pub(super) async fn remove_rule(&self, rule: &Rule) -> io::Result<()> {
        self.change(RouteNetlinkMessage::DelRule(rule.message.clone()), 0).await
    }

    /// Sends route requests in batches, in order; one answer for each.
    pub(super) async fn change_routes(&self, requests: &[RouteRequest]) -> io::Result<Vec<io::Result<()>>> {
        let mut results = Vec::with_capacity(requests.len());
        for batch in requests.chunks(BATCH) {
            let messages = batch.iter().map(route_request).collect();
            let answers = self.exchange(messages).await?;
            let before = results.len();
            results.extend(answers.into_iter().filter_map(acknowledgement));
            if results.len() != before + batch.len() {
                return Err(closed());
            }
        }
        Ok(results)
    }

    async fn change(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let answers = self.exchange(vec![message]).await?;
        answers.into_iter().find_map(acknowledgement).unwrap_or_else(|| Err(closed()))
    }

    async fn dump(&self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut request = NetlinkMessage::from(message.clone());
            request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
            let answers = self.exchange(vec![request]).await?;
            let is_torn = answers.iter().any(|answer| answer.header.flags & NLM_F_DUMP_INTR != 0);
            if is_torn && tries < DUMP_TRIES {
                continue;
            }
            let mut records = Vec::with_capacity(answers.len());
            for answer in answers {
                match answer.payload {
                    NetlinkPayload::InnerMessage(record) => records.push(record),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    _ => {}
                }
            }
            return Ok(records);
        }
    }

    async fn exchange(
        &self,
        messages: Vec<NetlinkMessage<RouteNetlinkMessage>>,
    ) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
        let answers = self.handle.request_batch(messages, SocketAddr::new(0, 0)).map_err(|_| closed())?;
        let answers = tokio::time::timeout(TIMEOUT, answers.collect()).await;
        answers.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer within 10 s"))
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the netlink connection was closed")
}

/// A kernel without IPv6 has no IPv6 routes.
fn without_family<T>(answers: io::Result<Vec<T>>) -> io::Result<Vec<T>> {
    match answers {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::ENOENT)) => {
            Ok(Vec::new())
        }
        other => other,
    }
}

fn acknowledgement(answer: NetlinkMessage<RouteNetlinkMessage>) -> Option<io::Result<()>> {
    let NetlinkPayload::Error(error) = answer.payload else { return None };
    Some(if error.code.is_some() { Err(error.to_io()) } else { Ok(()) })
}

const fn family(v6: bool) -> AddressFamily {
    if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet }
}

fn link(message: LinkMessage) -> Option<Link> {
    let flags = message.header.flags;
    let (mut name, mut is_tun, mut settings) = (None, false, LinkSettings::default());
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::LinkInfo(infos) => is_tun = infos.contains(&LinkInfo::Kind(InfoKind::Tun)),
            LinkAttribute::Mtu(value) => settings.mtu = Some(value),
            LinkAttribute::TxQueueLen(value) => settings.txqueuelen = Some(value),
            LinkAttribute::GsoMaxSegs(value) => settings.gso_max_segs = Some(value),
            LinkAttribute::AfSpecUnspec(families) => {
                for family in families {
                    let AfSpecUnspec::Inet6(values) = family else { continue };
                    let mode =
                        values.iter().find_map(|v| if let AfSpecInet6::AddrGenMode(m) = v { Some(m) } else { None });
                    settings.address_mode = mode.map(u8::from);
                }
            }
            _ => {}
        }
    }
    let (is_up, has_carrier) = (flags.contains(LinkFlags::Up), flags.contains(LinkFlags::LowerUp));
    let is_multicast = flags.contains(LinkFlags::Multicast) && !flags.contains(LinkFlags::Loopback);
    Some(Link { index: message.header.index, name: name?, is_up, has_carrier, is_multicast, is_tun, settings })
}

fn address(message: &AddressMessage) -> Option<Address> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point interface `Address` is the other side's.
            AddressAttribute::Local(address) => found = Some(*address),
            AddressAttribute::Address(address) => found = found.or(Some(*address)),
            _ => {}
        }
    }
    let address = IpNet::new(found?, message.header.prefix_len).ok()?;
    Some(Address { index: message.header.index, address })
}

fn address_message(address: &Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.address.addr().is_ipv6());
    message.header.prefix_len = address.address.prefix_len();
    message.header.index = address.index;
    let ip = address.address.addr();
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut destination, mut table, mut source) = (unspecified, u32::from(header.table), None);
    let (mut interfaces, mut has_gateway) = (Vec::new(), false);
    // On a route with one next hop the interface may stand after the gateway.
    let (mut metric, mut gateway, mut gateways) = (0, None, Vec::new());
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Oif(index) => interfaces.push(*index),
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => {
                has_gateway = true;
                gateway = gateway.or_else(|| gateway_of(attribute));
            }
            RouteAttribute::MultiPath(hops) => {
                let is_gateway = |a: &RouteAttribute| matches!(a, RouteAttribute::Gateway(_) | RouteAttribute::Via(_));
                has_gateway |= hops.iter().any(|hop| hop.attributes.iter().any(is_gateway));
                for hop in hops.iter().filter(|hop| !hop.flags.contains(RouteNextHopFlags::Dead)) {
                    interfaces.push(hop.interface_index);
                    gateways.extend(hop.attributes.iter().find_map(gateway_of).map(|ip| (hop.interface_index, ip)));
                }
            }
            _ => {}
        }
    }
    gateways.extend(interfaces.first().copied().zip(gateway));
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Throw => RouteKind::Throw,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => RouteKind::Refuse,
        _ => RouteKind::Other,
    };
    let prefix = IpNet::new(destination, header.destination_prefix_length).ok()?;
    let protocol = header.protocol.into();
    Some(Route { prefix, table, protocol, kind, interfaces, has_gateway, gateways, metric, source })
}

/// A gateway of the route's own family; one of the other (RFC 5549) is none that could be asked about this one.
fn gateway_of(attribute: &RouteAttribute) -> Option<IpAddr> {
    if let RouteAttribute::Gateway(address) = attribute { ip(address) } else { None }
}

fn route_request(request: &RouteRequest) -> NetlinkMessage<RouteNetlinkMessage> {
    let (message, flags) = match request {
        RouteRequest::Add(spec) => (RouteNetlinkMessage::NewRoute(new_route(spec)), NLM_F_CREATE | NLM_F_EXCL),
        RouteRequest::Replace(spec) => (RouteNetlinkMessage::NewRoute(new_route(spec)), NLM_F_CREATE | NLM_F_REPLACE),
        RouteRequest::Remove { prefix, table, protocol, metric } => {
            let mut message = route_message(*prefix, *table, *protocol, *metric);
            message.header.scope = RouteScope::NoWhere;
            (RouteNetlinkMessage::DelRoute(message), 0)
        }
        RouteRequest::RemoveVia(spec) => {
            let mut message = new_route(spec);
            message.header.scope = RouteScope::NoWhere;
            (RouteNetlinkMessage::DelRoute(message), 0)
        }
    };
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    message
}

fn new_route(spec: &RouteSpec) -> RouteMessage {
    let mut message = route_message(spec.prefix, spec.table, spec.protocol, spec.metric);
    let Some(index) = spec.interface else {
        message.header.kind = RouteType::Throw;
        return message;
    };
    message.header.kind = RouteType::Unicast;
    if spec.prefix.addr().is_ipv4() && spec.gateway.is_none() {
        message.header.scope = RouteScope::Link;
    }
    message.attributes.push(RouteAttribute::Oif(index));
    message.attributes.extend(spec.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    message.attributes.extend(spec.source.map(|source| RouteAttribute::PrefSource(source.into())));
    message
}

fn route_message(prefix: IpNet, table: u32, protocol: u8, metric: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(prefix.addr().is_ipv6());
    message.header.destination_prefix_length = prefix.prefix_len();
    message.header.protocol = RouteProtocol::from(protocol);
    message.attributes = vec![RouteAttribute::Destination(prefix.addr().into()), RouteAttribute::Table(table)];
    message.attributes.extend(metric.map(RouteAttribute::Priority));
    message
}

fn rule(message: RuleMessage) -> Option<Rule> {
    if message.header.action != RuleAction::ToTable {
        return None;
    }
    let v6 = message.header.family == AddressFamily::Inet6;
    let table = u32::from(message.header.table);
    let mut spec = RuleSpec { v6, priority: 0, mark: 0, table, protocol: 0 };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(value) => spec.priority = *value,
            RuleAttribute::FwMark(value) => spec.mark = *value,
            RuleAttribute::Table(value) => spec.table = *value,
            RuleAttribute::Protocol(value) => spec.protocol = u8::from(*value),
            _ => {}
        }
    }
    Some(Rule { spec, message })
}

/// Something that changed in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// An interface appeared, disappeared or changed.
    Link { index: u32, name: String, is_up: bool },
    /// An address came or went.
    Address { index: u32, is_gone: bool },
    /// A route came or went.
    Route { table: u32, interfaces: Vec<u32>, is_direct: bool, is_gone: bool },
    /// A routing rule was removed.
    RuleGone { table: u32 },
    /// Events were lost: anything may have changed.
    Lost,
}

/// A socket that receives events. The kernel's receive buffer is its only queue.
pub(super) struct EventSocket {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl EventSocket {
    /// Subscribes to links, addresses, routes and rules of both families.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Rule,
        ];
        let mask = groups.iter().fold(0, |mask, group| mask | 1 << (*group as u32 - 1));
        socket.socket_mut().bind(&SocketAddr::new(0, mask))?;
        Ok(Self { socket, buffer: Vec::with_capacity(EVENT_BUFFER) })
    }

    /// Waits for the next datagram and says what it told. Safe to cancel.
    pub(super) async fn receive(&mut self) -> io::Result<Vec<Event>> {
        self.buffer.clear();
        match self.socket.recv_from(&mut self.buffer).await {
            // Whoever may send to this socket is decided by the kernel: only it has port 0.
            Ok(from) if from.port_number() != 0 => Ok(Vec::new()),
            Ok(_) => Ok(events(&self.buffer)),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(vec![Event::Lost]),
            Err(error) => Err(error),
        }
    }
}

fn events(mut datagram: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(length) = datagram.first_chunk().copied().map(u32::from_ne_bytes) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length < HEADER || length > datagram.len() {
            events.push(Event::Lost);
            break;
        }
        let padded = length.next_multiple_of(4).min(datagram.len());
        let Some((message, rest)) = datagram.split_at_checked(padded) else { break };
        datagram = rest;
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).map(|message| message.payload) {
            Ok(NetlinkPayload::InnerMessage(message)) => events.extend(event(message)),
            Ok(_) => {}
            // What cannot be read may be about anything.
            Err(_) => events.push(Event::Lost),
        }
    }
    events
}

fn event(message: RouteNetlinkMessage) -> Option<Event> {
    match message {
        RouteNetlinkMessage::NewLink(message) => {
            link(message).map(|link| Event::Link { index: link.index, name: link.name, is_up: link.is_up })
        }
        RouteNetlinkMessage::DelLink(message) => {
            link(message).map(|link| Event::Link { index: link.index, name: link.name, is_up: false })
        }
        RouteNetlinkMessage::NewAddress(message) => {
            Some(Event::Address { index: message.header.index, is_gone: false })
        }
        RouteNetlinkMessage::DelAddress(message) => Some(Event::Address { index: message.header.index, is_gone: true }),
        RouteNetlinkMessage::NewRoute(message) => route(&message).map(|route| route_event(route, false)),
        RouteNetlinkMessage::DelRoute(message) => route(&message).map(|route| route_event(route, true)),
        RouteNetlinkMessage::DelRule(message) => rule(message).map(|rule| Event::RuleGone { table: rule.spec.table }),
        _ => None,
    }
}

fn route_event(route: Route, is_gone: bool) -> Event {
    Event::Route { table: route.table, is_direct: is_direct(&route), interfaces: route.interfaces, is_gone }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_or_unreadable_event_counts_as_loss_and_never_panics() {
        assert_eq!(events(&[]), []);
        assert_eq!(events(&[0, 0, 0, 0]), [Event::Lost]);
        let mut huge = vec![0xff; 20];
        assert_eq!(events(&huge), [Event::Lost]);
        huge[..4].copy_from_slice(&20u32.to_ne_bytes());
        assert_eq!(events(&huge), [Event::Lost]);
    }
}
