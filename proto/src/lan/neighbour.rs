//! Who is believed to be on the LAN, and what of each was heard already.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::FRESHNESS;
use crate::id::PublicKey;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::Beacon;

/// Neighbours that are remembered, believed or not: a /24's worth, some 200 KB. Silent ones give way to new ones, believed
/// ones do not: who holds the token and makes up keys cannot push the others out.
pub const MAX_NEIGHBOURS: usize = 256;

/// Sightings of one neighbour: two families on two interfaces. The oldest gives way.
pub const MAX_SIGHTINGS: usize = 4;

/// How long a silent neighbour's marks are kept: longer than a beacon that it ever sent may pass for fresh, which is twice
/// the window where its clock was ahead by all of it. The minute more is for a clock of ours that is being adjusted.
const MEMORY: Duration = Duration::from_millis(2 * FRESHNESS + 60_000);

/// Milliseconds by which a beacon may be older than the newest: one round goes out by several interfaces and families, and
/// its beacons come in by several sockets, in any order.
const REORDER: u64 = 2_000;

/// Marks remembered of each neighbour: two rounds by four interfaces and both families. With more than that, reordered ones
/// are dropped, which does no harm.
const MAX_MARKS: usize = 16;

/// Where a neighbour was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The source of its beacon with the port that it announced; a link-local one has the interface as its scope.
    pub address: SocketAddr,
    /// Index of the interface by which it came.
    pub interface: u32,
    /// When it came last.
    pub heard: Instant,
}

/// A neighbour that is believed.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour<'a> {
    /// The static public key that it announced, which nothing proves yet.
    pub key: PublicKey,
    /// Where it was heard; at least one, at most [`MAX_SIGHTINGS`].
    pub sightings: &'a [Sighting],
    /// Where it says it is reached besides.
    pub further: &'a [SocketAddr],
}

/// What a beacon changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing but the time at which it was heard.
    None,
    /// Where it is reached.
    Address,
    /// It has begun anew, and knows nobody.
    Restart,
    /// There is a neighbour more.
    Neighbour,
}

/// All neighbours.
#[derive(Debug)]
pub(super) struct Neighbours {
    ttl: Duration,
    entries: BTreeMap<PublicKey, Entry>,
}

/// What is known of one sender. Without sightings it is not believed, and only its marks are kept.
#[derive(Debug, Default)]
struct Entry {
    sightings: Vec<Sighting>,
    further: Vec<SocketAddr>,
    heard: Instant,
    marks: Marks,
}

/// The newest (timestamp, sequence) pairs that were accepted.
#[derive(Debug, Default)]
struct Marks(BTreeSet<(u64, u64)>);

impl Neighbours {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, entries: BTreeMap::new() }
    }

    /// Those that are believed, by key.
    pub(super) fn iter(&self) -> impl Iterator<Item = Neighbour<'_>> {
        self.entries.iter().filter(|(_, entry)| !entry.sightings.is_empty()).map(|(key, entry)| Neighbour {
            key: *key,
            sightings: &entry.sightings,
            further: &entry.further,
        })
    }

    /// Believes a beacon that came from `address` by `interface`. `further` are those of its addresses that are of use.
    pub(super) fn hear(
        &mut self,
        beacon: &Beacon,
        address: SocketAddr,
        interface: u32,
        further: Vec<SocketAddr>,
        now: Instant,
    ) -> Result<News, DropReason> {
        if !self.entries.contains_key(&beacon.sender) {
            self.make_room()?;
        }
        let entry = self.entries.entry(beacon.sender).or_default();
        let is_restart = entry.marks.is_restart((beacon.timestamp, beacon.sequence));
        if !entry.marks.accept((beacon.timestamp, beacon.sequence)) {
            return Err(DropReason::BeaconReplayed);
        }
        entry.heard = now;
        let was_silent = entry.sightings.is_empty();
        let is_new = entry.see(Sighting { address, interface, heard: now });
        let is_changed = entry.further != further;
        entry.further = further;
        Ok(match (was_silent, is_restart, is_new || is_changed) {
            (true, _, _) => News::Neighbour,
            (false, true, _) => News::Restart,
            (false, false, true) => News::Address,
            (false, false, false) => News::None,
        })
    }

    /// Forgets what is too old. Returns the neighbours of which no sighting is left.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<PublicKey> {
        let (ttl, mut lost) = (self.ttl, Vec::new());
        self.entries.retain(|key, entry| {
            let was_silent = entry.sightings.is_empty();
            entry.sightings.retain(|sighting| now < sighting.heard + ttl);
            if entry.sightings.is_empty() && !was_silent {
                entry.further = Vec::new();
                lost.push(*key);
            }
            !entry.sightings.is_empty() || now < entry.heard + MEMORY
        });
        lost
    }

    /// When the next sighting is too old.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let sightings = self.entries.values().flat_map(|entry| &entry.sightings);
        sightings.map(|sighting| sighting.heard + self.ttl).min()
    }

    fn make_room(&mut self) -> Result<(), DropReason> {
        if self.entries.len() < MAX_NEIGHBOURS {
            return Ok(());
        }
        let silent = self.entries.iter().filter(|(_, entry)| entry.sightings.is_empty());
        let oldest = silent.min_by_key(|(_, entry)| entry.heard).map(|(key, _)| *key);
        self.entries.remove(&oldest.ok_or(DropReason::BeaconNeighboursFull)?);
        Ok(())
    }
}

impl Entry {
    /// Records a sighting; true where it is of a new place.
    fn see(&mut self, seen: Sighting) -> bool {
        let is_same = |old: &&mut Sighting| (old.address, old.interface) == (seen.address, seen.interface);
        if let Some(known) = self.sightings.iter_mut().find(is_same) {
            *known = seen;
            return false;
        }
        if self.sightings.len() < MAX_SIGHTINGS {
            self.sightings.push(seen);
        } else if let Some(oldest) = self.sightings.iter_mut().min_by_key(|old| old.heard) {
            *oldest = seen;
        }
        true
    }
}

impl Marks {
    /// Whether a sender counts from the beginning again.
    fn is_restart(&self, (timestamp, sequence): (u64, u64)) -> bool {
        self.0.last().is_some_and(|newest| timestamp > newest.0 && sequence < newest.1)
    }

    /// Whether a beacon of this mark was not seen yet and is not older than what its sender said since. Records it then.
    fn accept(&mut self, mark: (u64, u64)) -> bool {
        let is_late = self.0.last().is_some_and(|newest| mark.0.saturating_add(REORDER) < newest.0);
        let is_full = self.0.len() >= MAX_MARKS;
        let is_behind = is_full && self.0.first().is_some_and(|oldest| mark < *oldest);
        if is_late || is_behind || !self.0.insert(mark) {
            return false;
        }
        if is_full {
            self.0.pop_first();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_mark_is_accepted_twice_nor_long_after_a_newer_one(
            marks in prop::collection::vec((0u64..8_000, 0u64..3), 0..200),
        ) {
            let (mut window, mut accepted) = (Marks::default(), BTreeSet::new());
            for mark in marks {
                let newest = accepted.last().map_or(0, |(timestamp, _)| *timestamp);
                let is_newer = accepted.last().is_none_or(|newest| mark > *newest);
                let is_accepted = window.accept(mark);
                prop_assert!(is_accepted || !is_newer);
                prop_assert!(!is_accepted || mark.0 + REORDER >= newest);
                prop_assert!(!is_accepted || accepted.insert(mark), "accepted twice");
                prop_assert!(window.0.len() <= MAX_MARKS);
            }
        }
    }
}
