//! How many connections a relay takes: in all, and from one source.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections in all. Each has some 200 KB of buffers while it is busy, so this is 100 MB.
pub(super) const MAX_CONNECTIONS: usize = 512;

/// Connections from one source: a site of edges behind one address.
pub(super) const MAX_OF_SOURCE: usize = 64;

/// One machine as far as addresses tell: an IPv4 address, or 64 bits of an IPv6 one, which a site has at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Source(u64, bool);

impl From<IpAddr> for Source {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self(v4.to_bits().into(), false),
            IpAddr::V6(v6) => {
                Self(v6.to_bits().to_be_bytes().first_chunk().map_or(0, |b| u64::from_be_bytes(*b)), true)
            }
        }
    }
}

/// The connections that there are.
#[derive(Clone, Default)]
pub(super) struct Limit {
    counts: Arc<Mutex<BTreeMap<Source, usize>>>,
    hasher: RandomState,
}

/// A place among the connections; free again when it is dropped.
pub(super) struct Place {
    counts: Arc<Mutex<BTreeMap<Source, usize>>>,
    source: Source,
    /// An address of this machine that stands for the source, so that whoever limits by address (handshakes) sees one for each.
    pub(super) stand_in: Ipv4Addr,
}

impl Limit {
    /// A place for one more connection of a source, unless it, or all together, have enough.
    pub(super) fn admit(&self, source: Source) -> Option<Place> {
        let mut counts = lock(&self.counts);
        let all: usize = counts.values().sum();
        let of_source = counts.get(&source).copied().unwrap_or_default();
        if all >= MAX_CONNECTIONS || of_source >= MAX_OF_SOURCE {
            return None;
        }
        counts.insert(source, of_source + 1);
        drop(counts);
        Some(Place { counts: Arc::clone(&self.counts), source, stand_in: self.stand_in(source) })
    }

    /// One of the 16 million addresses of 127/8 other than 127.0.x.x, where other programs may listen. Drawn by a secret, so that
    /// nobody can choose to stand where another does.
    fn stand_in(&self, source: Source) -> Ipv4Addr {
        let [a, b, c, ..] = self.hasher.hash_one(source).to_be_bytes();
        Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        match counts.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.source)),
        }
    }
}

fn lock(counts: &Mutex<BTreeMap<Source, usize>>) -> MutexGuard<'_, BTreeMap<Source, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> Source {
        Source::from(IpAddr::from(Ipv4Addr::from_bits(number)))
    }

    #[test]
    fn one_source_does_not_take_the_places_of_others_and_all_have_an_end() {
        let limit = Limit::default();
        let many: Vec<Place> = (0..1000).filter_map(|_| limit.admit(source(1))).collect();
        assert_eq!(many.len(), MAX_OF_SOURCE);
        let others: Vec<Place> = (2..2000).filter_map(|number| limit.admit(source(number))).collect();
        assert_eq!(others.len(), MAX_CONNECTIONS - MAX_OF_SOURCE);
        drop(many);
        assert!(limit.admit(source(1)).is_some());
        drop(others);
        assert!(lock(&limit.counts).is_empty(), "nothing is kept of who has left");
    }

    #[test]
    fn a_source_always_has_the_same_stand_in_and_others_have_others() {
        let limit = Limit::default();
        let stand_ins: std::collections::BTreeSet<_> = (0..200).map(|n| limit.stand_in(source(n))).collect();
        assert!(stand_ins.len() > 195 && stand_ins.iter().all(|ip| ip.is_loopback() && ip.octets()[1] > 0));
        assert_eq!(limit.stand_in(source(7)), limit.stand_in(source(7)));
        let site = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(site("2001:db8::1"), site("2001:db8::ffff"));
        assert_ne!(site("2001:db8::1"), site("2001:db8:0:1::1"));
        assert_eq!(site("::ffff:192.0.2.1"), site("192.0.2.1"));
    }
}
