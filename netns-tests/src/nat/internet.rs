//! The internet in small: a router with a link to each premises and each public host.

use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use super::Class;
use super::addresses::{Addresses, Net, as_strs};
use super::premises::{Premises, Station};
use crate::host::Host;
use crate::lab::Lab;
use crate::link::Link;

/// Drops UDP between interfaces that are named to it.
const BLOCKS: &str = "table inet blocks {\nset ways { type ifname . ifname; }\nchain forward {\n\
                      type filter hook forward priority 0;\nmeta l4proto udp iifname . oifname @ways drop\n}\n}\n";

/// A router that everything public is linked to.
#[derive(Debug)]
pub struct Internet<'a> {
    pub(super) lab: &'a Lab,
    /// The router.
    pub router: Host,
    count: AtomicU16,
}

impl<'a> Internet<'a> {
    /// An internet without anybody.
    #[must_use]
    pub fn new(lab: &'a Lab) -> Self {
        let router = lab.router("internet");
        let _ = router.output(Command::new("nft").arg(BLOCKS)).text();
        Self { lab, router, count: AtomicU16::new(0) }
    }

    /// A host with so many public addresses of each family, at most 99, and nothing before it; and its link.
    ///
    /// # Panics
    /// When there are 200 hosts and premises already.
    #[must_use]
    pub fn host(&self, name: &str, addresses: u16) -> (Station, Link) {
        let (host, net) = (self.lab.host(name), Net::transit(self.next_number()));
        let addresses: Vec<Addresses> = (1..=addresses).map(|last| net.at(last)).collect();
        let given: Vec<String> = addresses.iter().flat_map(|addresses| addresses.with_lengths()).collect();
        let link = self.link(name, net, &host, &given);
        net.router().route_default(&host);
        let v4 = addresses.iter().filter_map(|addresses| addresses.v4).collect();
        (Station { host, v4, v6: addresses.iter().filter_map(|addresses| addresses.v6).collect() }, link)
    }

    /// A LAN behind what `class` says, without a host. Namespaces get names that begin with `name`.
    ///
    /// # Panics
    /// When there are 200 hosts and premises already.
    #[must_use]
    pub fn premises(&self, name: &str, class: Class) -> Premises<'a> {
        Premises::build(self, name, self.next_number(), class)
    }

    /// Drops UDP between what two links lead to, both ways, without a word: each still reaches everybody else.
    pub fn block_udp(&self, one: &Link, other: &Link) {
        self.change_blocks("add", one, other);
    }

    /// Undoes [`block_udp`](Self::block_udp).
    pub fn pass_udp(&self, one: &Link, other: &Link) {
        self.change_blocks("delete", one, other);
    }

    /// The link of `host`, which has the addresses `given` in `net`.
    pub(super) fn link(&self, name: &str, net: Net, host: &Host, given: &[String]) -> Link {
        let (given, router) = (as_strs(given), net.router().with_lengths());
        let ends: [(&Host, &[&str]); 2] = [(host, &given), (&self.router, &as_strs(&router))];
        Link::between(self.lab, &format!("{name}-uplink"), ends)
    }

    fn change_blocks(&self, verb: &str, one: &Link, other: &Link) {
        let [one, other] = [one, other].map(|link| &link.ends()[1].interface);
        let elements = format!("{{ \"{one}\" . \"{other}\", \"{other}\" . \"{one}\" }}");
        let change = format!("{verb} element inet blocks ways {elements}");
        let _ = self.router.output(Command::new("nft").arg(change)).text();
    }

    fn next_number(&self) -> u16 {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(number <= 200, "an internet of 200 is full");
        number
    }
}
