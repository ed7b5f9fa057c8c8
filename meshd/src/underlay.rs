//! How meshd's own datagrams stay out of the mesh.
//!
//! The routes of the mesh stand in the machine's table main, where they cost nobody else anything. A peer whose outer address
//! lies in a mesh prefix would so be reached through the tunnel that its datagrams carry. A send to such an address names the
//! interface that it leaves by, which makes the kernel skip routes of other interfaces (`IP_PKTINFO`, `ip(7)`; `IPV6_PKTINFO`,
//! RFC 3542 §6.7).

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use ipnet::IpNet;

/// By which interface a datagram leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The one that the kernel finds: no route of the mesh is concerned.
    Kernel,
    /// This one, because the kernel would find the mesh.
    By(NonZeroU32),
    /// None: the machine has no route to it but the mesh's.
    Nowhere,
}

/// What is known of the machine's routes, as far as it matters to datagrams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ways {
    /// What is routed into the mesh; disjoint and in order.
    mesh: Vec<IpNet>,
    /// The machine's own routes that have to do with any of it, longest prefix first, and their interfaces.
    own: Vec<(IpNet, Option<NonZeroU32>)>,
}

impl Ways {
    /// The ways of a machine with these routes into the mesh, and these of its own: of several for one prefix, the first counts.
    #[must_use]
    pub(crate) fn new(mesh: &Vec<IpNet>, own: impl IntoIterator<Item = (IpNet, Option<NonZeroU32>)>) -> Self {
        let mut ways = Self { mesh: IpNet::aggregate(mesh), own: Vec::new() };
        ways.own = own.into_iter().filter(|(prefix, _)| ways.concerns(*prefix)).collect();
        ways.own.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.prefix_len()));
        ways
    }

    /// The way to an address.
    #[must_use]
    pub(crate) fn to(&self, address: IpAddr) -> Way {
        if !self.concerns(IpNet::from(address)) {
            return Way::Kernel;
        }
        let own = self.own.iter().find(|(prefix, _)| prefix.contains(&address));
        own.and_then(|(_, interface)| *interface).map_or(Way::Nowhere, Way::By)
    }

    /// Whether any address of a prefix is routed into the mesh.
    fn concerns(&self, prefix: IpNet) -> bool {
        // Prefixes are nested or disjoint, so if any has to do with this one, the last that does not begin behind it has.
        let behind = self.mesh.partition_point(|net| net.network() <= prefix.broadcast());
        let last = behind.checked_sub(1).and_then(|last| self.mesh.get(last));
        last.is_some_and(|net| net.contains(&prefix) || prefix.contains(net))
    }
}

/// The ways as they are now: one writer, the host's side; and its readers, the sockets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Underlay(Arc<ArcSwap<Ways>>);

impl Underlay {
    /// Makes these the ways from now on.
    pub(crate) fn publish(&self, ways: Ways) {
        self.0.store(Arc::new(ways));
    }

    /// The way to an address.
    #[must_use]
    pub(crate) fn to(&self, address: IpAddr) -> Way {
        self.0.load().to(address)
    }

    /// For a thread that asks often.
    #[must_use]
    pub(crate) fn reader(&self) -> Reader {
        let mut ways = Cache::new(Arc::clone(&self.0));
        let known = Arc::clone(ways.load());
        Reader { ways, known, last: None }
    }
}

/// Remembers what it was asked last.
pub(crate) struct Reader {
    ways: Cache<Arc<ArcSwap<Ways>>, Arc<Ways>>,
    /// What `last` was looked up in.
    known: Arc<Ways>,
    last: Option<(IpAddr, Way)>,
}

impl Reader {
    /// The way to an address.
    #[inline]
    pub(crate) fn to(&mut self, address: IpAddr) -> Way {
        let ways = self.ways.load();
        if !Arc::ptr_eq(ways, &self.known) {
            self.known = Arc::clone(ways);
            self.last = None;
        }
        match self.last {
            Some((last, way)) if last == address => way,
            _ => {
                let way = self.known.to(address);
                self.last = Some((address, way));
                way
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn by(index: u32) -> Option<NonZeroU32> {
        NonZeroU32::new(index)
    }

    fn way(ways: &Ways, address: &str) -> Way {
        ways.to(address.parse().unwrap())
    }

    #[test]
    fn what_the_kernel_would_send_into_the_mesh_goes_by_the_machines_own_longest_route() {
        let mesh = vec![net("10.1.0.0/16"), net("10.2.0.0/16"), net("fd01::/16")];
        let own = [
            (net("0.0.0.0/0"), by(2)),
            (net("10.1.5.0/24"), by(3)),
            (net("10.1.5.0/24"), by(9)),
            (net("10.1.6.0/24"), None),
            (net("172.16.0.0/12"), by(4)),
            (net("fd01:5::/32"), by(5)),
        ];
        let ways = Ways::new(&mesh, own);
        for (address, expected) in [
            ("10.1.2.3", Way::By(by(2).unwrap())),
            ("10.2.2.3", Way::By(by(2).unwrap())),
            ("10.1.5.1", Way::By(by(3).unwrap())),
            ("10.1.6.1", Way::Nowhere),
            ("10.3.0.1", Way::Kernel),
            ("10.0.255.255", Way::Kernel),
            ("172.16.0.1", Way::Kernel),
            ("fd01:5::1", Way::By(by(5).unwrap())),
            ("fd01:6::1", Way::Nowhere),
            ("fd02::1", Way::Kernel),
        ] {
            assert_eq!(way(&ways, address), expected, "{address}");
        }
        assert_eq!(ways.own.len(), 4 + 1, "what has nothing to do with the mesh is not kept");
        assert_eq!(way(&Ways::default(), "10.1.2.3"), Way::Kernel);
    }

    #[test]
    fn a_reader_sees_what_was_published_last() {
        let underlay = Underlay::default();
        let mut reader = underlay.reader();
        let address = "10.1.2.3".parse().unwrap();
        for _ in 0..2 {
            assert_eq!((reader.to(address), underlay.to(address)), (Way::Kernel, Way::Kernel));
        }
        for index in [2, 3] {
            underlay.publish(Ways::new(&vec![net("10.0.0.0/8")], [(net("0.0.0.0/0"), by(index))]));
            let expected = Way::By(by(index).unwrap());
            assert_eq!((reader.to(address), underlay.to(address)), (expected, expected));
        }
    }

    fn prefix() -> impl Strategy<Value = IpNet> {
        // Few distinct bits, so that prefixes nest.
        let v4 = (0u32..64, 0u8..=32).prop_map(|(bits, len)| (bits << 26 | bits, len));
        v4.prop_map(|(bits, len)| IpNet::new(std::net::Ipv4Addr::from(bits).into(), len).unwrap().trunc())
    }

    proptest! {
        #[test]
        fn ways_agree_with_a_linear_scan(
            mesh in proptest::collection::vec(prefix(), 0..12),
            own in proptest::collection::vec((prefix(), 0u32..4), 0..12),
            addresses in proptest::collection::vec(prefix(), 1..40),
        ) {
            let own: Vec<_> = own.into_iter().map(|(prefix, index)| (prefix, by(index))).collect();
            let ways = Ways::new(&mesh, own.clone());
            for address in addresses.iter().map(IpNet::addr) {
                let is_mesh = mesh.iter().any(|net| net.contains(&address));
                let covering = own.iter().filter(|(net, _)| net.contains(&address));
                let longest = covering.rev().max_by_key(|(net, _)| net.prefix_len()).and_then(|(_, index)| *index);
                let expected = if is_mesh { longest.map_or(Way::Nowhere, Way::By) } else { Way::Kernel };
                prop_assert_eq!(ways.to(address), expected);
            }
        }
    }
}
