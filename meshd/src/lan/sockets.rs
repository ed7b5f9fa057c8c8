//! The sockets of LAN discovery: for each interface and family one that is bound to interface and group.
//!
//! So it receives what was sent to the group and came in there, and nothing else: no unicast, nothing of other interfaces, nothing
//! of groups that another program of this machine joined.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::task::{Context, Poll};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use super::InterfacePicture;
use crate::host::LanLink;

/// Interfaces that are used at most; a machine with more is a host of containers, whose bridges are no LANs.
const MAX_INTERFACES: usize = 32;

/// Bytes that may wait to be read at one socket: some hundred beacons, as many as are read within a quarter of a second.
const RECEIVE_BUFFER: usize = 128 << 10;

/// The groups of both families.
#[derive(Clone, Copy, Debug)]
pub(super) struct Groups {
    pub(super) v4: SocketAddrV4,
    pub(super) v6: SocketAddrV6,
}

/// Every socket.
pub(super) struct Sockets {
    groups: Groups,
    links: Vec<LanLink>,
    open: Vec<Outlet>,
    /// Why a socket could not be opened, by index of its interface.
    failed: Vec<(u32, String)>,
    /// Which one was read last, so that none is read twice before the others had their turn.
    turn: usize,
}

struct Outlet {
    link: u32,
    name: String,
    group: SocketAddr,
    socket: UdpSocket,
}

/// What was read.
pub(super) struct Received {
    pub(super) len: usize,
    pub(super) source: SocketAddr,
    pub(super) interface: u32,
}

impl Sockets {
    pub(super) const fn new(groups: Groups) -> Self {
        Self { groups, links: Vec::new(), open: Vec::new(), failed: Vec::new(), turn: 0 }
    }

    /// Leaves interfaces that are not among these, and joins those that are new.
    pub(super) fn set_links(&mut self, links: &[LanLink]) {
        self.links = links.iter().take(MAX_INTERFACES).cloned().collect();
        let wanted: Vec<(u32, &str, SocketAddr)> = self.links.iter().flat_map(|link| self.wanted(link)).collect();
        self.open.retain(|outlet| wanted.contains(&(outlet.link, &outlet.name, outlet.group)));
        self.join();
    }

    /// Opens what is missing: at first, and now and then what failed before.
    pub(super) fn join(&mut self) {
        self.failed.clear();
        let mut missing = Vec::new();
        for (link, name, group) in self.links.iter().flat_map(|link| self.wanted(link)) {
            if !self.open.iter().any(|outlet| (outlet.link, outlet.group) == (link, group)) {
                missing.push((link, name.to_owned(), group));
            }
        }
        for (link, name, group) in missing {
            match open(link, &name, group) {
                Ok(socket) => {
                    tracing::info!(interface = name, %group, "looking for neighbours");
                    self.open.push(Outlet { link, name, group, socket });
                }
                Err(error) => {
                    tracing::debug!(interface = name, %group, %error, "cannot look for neighbours");
                    self.failed.push((link, format!("{group}: {error}")));
                }
            }
        }
    }

    /// Waits for a datagram. Safe to cancel.
    pub(super) async fn receive(&mut self, buffer: &mut [u8]) -> Received {
        poll_fn(|context| self.poll_receive(context, buffer)).await
    }

    /// Sends a datagram of its own by each socket. One that is not sent is like one that the LAN loses.
    pub(super) fn send_each(&self, mut datagram: impl FnMut() -> Option<Vec<u8>>) {
        for outlet in &self.open {
            let Some(bytes) = datagram() else { continue };
            // Past the runtime, which knows of a new socket only after a while that it can be written to.
            let socket = SockRef::from(&outlet.socket);
            if let Err(error) = socket.send_to(&bytes, &SockAddr::from(outlet.group)) {
                tracing::debug!(interface = outlet.name, group = %outlet.group, %error, "beacon not sent");
            }
        }
    }

    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        self.open.len()
    }

    pub(super) fn picture(&self) -> Vec<InterfacePicture> {
        let joined = |link: &LanLink, v6| {
            self.open.iter().any(|outlet| outlet.link == link.index && outlet.group.is_ipv6() == v6)
        };
        let error = |link: &LanLink| self.failed.iter().find(|(index, _)| *index == link.index);
        let line = |link: &LanLink| InterfacePicture {
            name: link.name.clone(),
            v4: joined(link, false),
            v6: joined(link, true),
            error: error(link).map(|(_, error)| error.clone()),
        };
        self.links.iter().map(line).collect()
    }

    /// A family without an address is left out: its datagrams would come from an address of another interface.
    fn wanted<'a>(&self, link: &'a LanLink) -> impl Iterator<Item = (u32, &'a str, SocketAddr)> + use<'a> {
        let v6 = SocketAddrV6::new(*self.groups.v6.ip(), self.groups.v6.port(), 0, link.index);
        let groups = [SocketAddr::V4(self.groups.v4), SocketAddr::V6(v6)];
        let has = |group: &SocketAddr| link.addresses.iter().any(|address| address.is_ipv6() == group.is_ipv6());
        groups.into_iter().filter(has).map(|group| (link.index, link.name.as_str(), group))
    }

    fn poll_receive(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Received> {
        let count = self.open.len();
        for step in 1..=count {
            let place = (self.turn + step) % count;
            let Some(outlet) = self.open.get(place) else { continue };
            let mut read = ReadBuf::new(buffer);
            // An error is told once, such as that the interface went down; the next look goes on.
            if let Poll::Ready(Ok(source)) = outlet.socket.poll_recv_from(context, &mut read) {
                self.turn = place;
                return Poll::Ready(Received { len: read.filled().len(), source, interface: outlet.link });
            }
        }
        Poll::Pending
    }
}

fn open(index: u32, name: &str, group: SocketAddr) -> io::Result<UdpSocket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(group), kind, Some(Protocol::UDP))?;
    // Others on this machine may listen to the group too.
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(name.as_bytes()))?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    match group {
        SocketAddr::V4(v4) => {
            socket.set_multicast_ttl_v4(1)?;
            socket.set_multicast_loop_v4(false)?;
            socket.set_multicast_all_v4(false)?;
            socket.join_multicast_v4_n(v4.ip(), &InterfaceIndexOrAddress::Index(index))?;
        }
        SocketAddr::V6(v6) => {
            socket.set_only_v6(true)?;
            socket.set_multicast_hops_v6(1)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_if_v6(index)?;
            socket.join_multicast_v6(v6.ip(), index)?;
        }
    }
    socket.bind(&SockAddr::from(group))?;
    UdpSocket::from_std(socket.into())
}
