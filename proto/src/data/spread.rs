//! Several ways to one peer at once: which of them a flow takes.
//!
//! Highest random weight (Thaler and Ravishankar 1998): a flow keeps its way while that is among them, so the loss of one moves its
//! own flows only, and each has its share. Each way has lanes of its own, so that a slow one does not fall out of the
//! replay window of a fast one: that holds 2,048 datagrams, which at a gigabit are 24 ms.

use crate::packet::flow::mix;
use crate::path::{Locator, MAX_WAYS};
use crate::wire::MAX_LANES;

/// One of several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Where its datagrams go.
    pub remote: Locator,
    /// How far its lanes are from the workers' first ones.
    pub lanes: u8,
    seed: u64,
}

/// The ways to one peer: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread(Box<[Way]>);

impl Spread {
    /// Ways to these places, for so many workers; `None` without any. Where lanes do not suffice ways share them.
    #[must_use]
    pub fn new(remotes: &[Locator], workers: u8) -> Option<Self> {
        let sets = (MAX_LANES / workers.max(1)).max(1);
        let way = |(number, remote): (u8, &Locator)| Way {
            remote: *remote,
            lanes: number % sets * workers,
            seed: seed(*remote),
        };
        (!remotes.is_empty()).then(|| Self((0..).zip(remotes.iter().take(MAX_WAYS)).map(way).collect()))
    }

    /// How many lanes so many workers need.
    #[must_use]
    pub fn lanes(workers: u8) -> u8 {
        let sets = (MAX_LANES / workers.max(1)).clamp(1, MAX_WAYS as u8);
        workers.saturating_mul(sets)
    }

    /// The way of a flow.
    #[inline]
    #[must_use]
    pub fn of(&self, flow: u64) -> Option<&Way> {
        self.0.iter().max_by_key(|way| mix(flow ^ way.seed))
    }

    /// Whether one of them goes there.
    #[must_use]
    pub fn has(&self, remote: Locator) -> bool {
        self.0.iter().any(|way| way.remote == remote)
    }
}

fn seed(remote: Locator) -> u64 {
    let ip = crate::address::ip_bytes(remote.address.ip());
    let (words, _) = ip.as_chunks::<8>();
    let address = words.iter().fold(0, |seed, word| mix(seed ^ u64::from_be_bytes(*word)));
    let channel = remote.channel.map_or(0, |channel| u64::from(channel.0) + 1);
    mix(address ^ u64::from(remote.address.port()) ^ channel << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn places(hosts: &[u8]) -> Vec<Locator> {
        hosts.iter().map(|host| SocketAddr::from(([192, 0, 2, *host], 6374)).into()).collect()
    }

    #[test]
    fn every_way_has_its_share_and_a_lost_one_moves_its_own_flows_only() {
        let (all, left) = (Spread::new(&places(&[1, 2, 3]), 1).unwrap(), Spread::new(&places(&[1, 3]), 1).unwrap());
        let mut shares = [0; 3];
        for flow in (0..3000).map(mix) {
            let (before, after) = (all.of(flow).unwrap(), left.of(flow).unwrap());
            shares[usize::from(before.lanes)] += 1;
            assert!(before.remote == after.remote || before.lanes == 1);
        }
        assert!(shares.iter().all(|share| (900..1100).contains(share)), "{shares:?}");
    }

    #[test]
    fn ways_have_lanes_of_their_own_as_far_as_these_go() {
        let lanes = |workers| {
            Spread::new(&places(&[1, 2, 3, 4, 5]), workers).unwrap().0.iter().map(|w| w.lanes).collect::<Vec<_>>()
        };
        assert_eq!((lanes(1), Spread::lanes(1)), (vec![0, 1, 2, 3], 4));
        assert_eq!((lanes(3), Spread::lanes(3)), (vec![0, 3, 6, 9], 12));
        assert_eq!((lanes(32), Spread::lanes(32)), (vec![0, 32, 0, 32], 64));
        assert_eq!((lanes(64), Spread::lanes(64)), (vec![0, 0, 0, 0], 64));
        assert_eq!(Spread::new(&[], 1), None);
    }
}
