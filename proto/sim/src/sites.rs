//! What a scenario does to places: sites behind NATs, sockets without a node, moves, cuts and sleep.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::id::EndpointName;

use crate::nat::NatPlan;
use crate::network::{Interface, Owner, SiteId, SitePlan};
use crate::world::World;

/// A UDP socket without a node behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId(usize);

/// A bare socket, and what arrived there: from whom, as seen there, and what.
pub(crate) struct Socket {
    interface: Interface,
    heard: Vec<(SocketAddr, Vec<u8>)>,
}

impl World {
    /// Adds a site behind a NAT; its router gets an address of its own at the uplink.
    pub fn add_site(&mut self, plan: SitePlan) -> SiteId {
        self.network.add_site(plan, &mut self.rng)
    }

    /// The address of a site's router at its uplink; the internet has none.
    #[must_use]
    pub fn external(&self, site: SiteId) -> IpAddr {
        self.network.external(site)
    }

    /// Some NAT that carries UDP, any behaviour as likely as another.
    pub fn any_nat(&mut self) -> NatPlan {
        NatPlan::any(&mut self.rng)
    }

    /// Live entries in the table of a site's NAT.
    pub fn nat_entries(&mut self, site: SiteId) -> usize {
        self.network.nat(site).entries(self.now)
    }

    /// Empties the table of a site's NAT, as a restart of its router would.
    pub fn flush_nat(&mut self, site: SiteId) {
        self.network.nat(site).flush(&mut self.rng);
    }

    /// Cuts the cable between a site and its uplink, or mends it. Inside everything goes on.
    pub fn set_site_cut(&mut self, site: SiteId, is_cut: bool) {
        self.network.set_site_cut(site, is_cut);
    }

    /// Cuts a machine off, or connects it again. What is on its way through the network already arrives.
    pub fn set_cut(&mut self, name: &EndpointName, is_cut: bool) {
        self.network.set_cut(self.owner(name), is_cut);
    }

    /// Gives a machine another address in the place of its first; what is sent to the old one is lost.
    pub fn roam(&mut self, name: &EndpointName, address: SocketAddr) {
        let mut interfaces = self.host(name).interfaces.clone();
        interfaces.iter_mut().take(1).for_each(|first| first.address = address);
        self.replug(name, interfaces);
    }

    /// Plugs a machine in elsewhere, and tells its node that something changed.
    pub fn replug(&mut self, name: &EndpointName, interfaces: Vec<Interface>) {
        let now = self.now;
        let host = self.host(name);
        let addresses: Vec<_> = interfaces.iter().map(|interface| interface.address.ip()).collect();
        host.interfaces = interfaces;
        host.node.handle_links(&addresses, now);
        self.step(name);
    }

    /// Sends a running machine to sleep: until it wakes nothing is received and no timer runs; then its clock has
    /// jumped.
    pub fn suspend(&mut self, name: &EndpointName, duration: Duration) {
        let (number, until) = (self.number(name), self.now + duration);
        self.machine(number).asleep = Some(until);
        self.touched.push(number);
    }

    /// Adds a socket without a node.
    pub fn add_socket(&mut self, interface: Interface) -> SocketId {
        let id = SocketId(self.sockets.len());
        self.sockets.push(Socket { interface, heard: Vec::new() });
        self.network.attach(Owner::Socket(id.0), interface);
        id
    }

    /// Sends a datagram from a bare socket.
    pub fn say(&mut self, socket: SocketId, destination: SocketAddr, datagram: Vec<u8>) {
        self.refresh();
        let from = self.socket(socket.0).interface;
        let course = self.network.depart(Owner::Socket(socket.0), from, destination, self.now, &mut self.rng);
        self.launch(course, destination, datagram);
    }

    /// Takes what a bare socket has received since the last time: source as seen there, and bytes.
    pub fn take_heard(&mut self, socket: SocketId) -> Vec<(SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.socket(socket.0).heard)
    }

    pub(crate) fn hear(&mut self, socket: usize, source: SocketAddr, datagram: Vec<u8>) {
        self.socket(socket).heard.push((source, datagram));
    }

    fn socket(&mut self, number: usize) -> &mut Socket {
        self.sockets.get_mut(number).expect("sockets are not removed")
    }
}
