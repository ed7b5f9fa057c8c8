//! Which paths are searched for the largest datagram they carry, and when: the one with the data, and those that could take its
//! place at once. Only while the session is in use, or has just come up.

use std::net::SocketAddr;

use super::{CONFIRM, Path, Paths};
use crate::path::mtu::{Fit, outer_headers};
use crate::path::{Locator, PathKind};
use crate::time::Instant;
use crate::wire::{OVERHEAD, RELAY_HEADER_LEN};

/// A probe of a path's MTU that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SizeProbe {
    /// Where to.
    pub(crate) locator: Locator,
    /// Length of the plaintext in bytes, that the outer packet has the size in question.
    pub(crate) plaintext: usize,
}

impl Paths {
    /// How inner packets fit the active path, and those that carry flows with it, for a device of this MTU.
    pub(crate) fn fit(&self, device_mtu: u16) -> Fit {
        let is_used = |path: &&Path| self.active == Some(path.locator) || self.members.contains(&path.locator);
        let fits = self.all.iter().filter(is_used).map(|path| path.search.fit(path.locator, device_mtu));
        let narrower = |a: Fit, b: Fit| Fit { whole: a.whole.min(b.whole), limit: a.limit.min(b.limit) };
        fits.reduce(narrower).unwrap_or(Fit::unknown(device_mtu))
    }

    /// Begins what searches are due. `sent` counts the bytes of all packets sent in the session: while it grows by more than a
    /// small packet, large ones may be among them, and it is asked whether such still arrive.
    pub(crate) fn tend_sizes(&mut self, sent: u64, device_mtu: u16, now: Instant) {
        let active = self.active;
        let has_moved = std::mem::replace(&mut self.sized, active) != active;
        let is_large = sent.saturating_sub(self.sent_at_confirm) >= u64::from(crate::path::LEAST_V6);
        let eligible = self.eligible(now);
        let members = &self.members;
        for path in self.all.iter_mut().filter(|path| eligible(path)) {
            path.search.begin(path.locator, device_mtu, now);
            let is_used = active == Some(path.locator) || members.contains(&path.locator);
            // What was found out while the path stood by may be long ago.
            if is_used && (is_large || has_moved) && path.search.confirm(now) {
                self.sent_at_confirm = sent;
            }
        }
    }

    /// The next probe of a size that is due, if there is one: send it with a fresh token, and tell [`Paths::sent_size`].
    pub(crate) fn poll_size(&mut self, now: Instant) -> Option<SizeProbe> {
        let eligible = self.eligible(now);
        self.all.iter_mut().filter(|path| eligible(path)).find_map(|path| {
            let size = path.search.poll(now)?;
            Some(SizeProbe { locator: path.locator, plaintext: plaintext(path.locator, size) })
        })
    }

    /// A probe of a size went out.
    pub(crate) fn sent_size(&mut self, locator: Locator, token: u64, now: Instant) {
        if let Some(path) = self.path_mut(locator) {
            path.search.sent(token, now);
        }
    }

    /// An answer came in over `source`; `false` if it is none to a probe of a size that went there.
    pub(crate) fn answered_size(&mut self, source: Locator, token: u64, now: Instant) -> bool {
        self.path_mut(source).is_some_and(|path| path.search.answered(token, now))
    }

    /// The machine itself sends no datagram of `len` bytes to this address; returns whether a path goes there.
    pub(crate) fn too_long(&mut self, destination: SocketAddr, len: usize, now: Instant) -> bool {
        let mut is_ours = false;
        let size = len.saturating_add(usize::from(outer_headers(destination.ip())));
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        for path in self.all.iter_mut().filter(|path| path.locator.address == destination) {
            path.search.too_long(size, now);
            is_ours = true;
        }
        is_ours
    }

    /// When to call [`Paths::poll_size`] next.
    pub(super) fn next_size_at(&self, now: Instant) -> Option<Instant> {
        let eligible = self.eligible(now);
        self.all.iter().filter(|path| eligible(path)).filter_map(|path| path.search.next_at(now)).min()
    }

    /// The active path, whose session has come up or is in use; and while it is, those beside it that are confirmed and not
    /// through a relay.
    fn eligible(&self, now: Instant) -> impl Fn(&Path) -> bool + use<> {
        let (active, in_use, members) = (self.active, self.is_in_use(now), self.members.clone());
        move |path| {
            let is_active = active == Some(path.locator);
            let stands_by =
                path.streak >= CONFIRM && path.kind() <= PathKind::Direct || members.contains(&path.locator);
            // Before a probe was answered, a forged source may have had us believe that the peer is there.
            let has_answered = path.quality.rtt().is_some();
            has_answered && ((is_active && (in_use || path.search.is_new())) || (in_use && stands_by))
        }
    }
}

/// The plaintext that makes an outer packet of `size` bytes.
fn plaintext(locator: Locator, size: u16) -> usize {
    let relay = if locator.channel.is_some() { RELAY_HEADER_LEN } else { 0 };
    usize::from(size).saturating_sub(usize::from(outer_headers(locator.address.ip())) + OVERHEAD + relay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::{Channel, Origin};

    const START: Instant = Instant::from_nanos(1_000_000_000_000);

    fn direct(host: u8) -> Locator {
        Locator::from(SocketAddr::from(([192, 0, 2, host], 6374)))
    }

    /// A handshake came through, and a probe is answered.
    fn meet(paths: &mut Paths, locator: Locator) {
        paths.adopt(locator, Origin::Seen, START);
        paths.sent(locator, u64::MAX, START);
        assert!(paths.answered(locator, u64::MAX, START).is_some());
    }

    #[test]
    fn where_no_probe_was_answered_nothing_large_is_sent() {
        let mut paths = Paths::default();
        paths.adopt(direct(1), Origin::Seen, START);
        assert_eq!(probes(&mut paths), []);
        assert_eq!(paths.next_size_at(START), None);
        meet(&mut paths, direct(1));
        assert_eq!(probes(&mut paths).len(), 4);
    }

    /// Sends what is due, and returns where each probe went and how long it is.
    fn probes(paths: &mut Paths) -> Vec<(Locator, usize)> {
        paths.tend_sizes(0, 1420, START);
        let mut probes = Vec::new();
        while let Some(due) = paths.poll_size(START) {
            paths.sent_size(due.locator, probes.len() as u64, START);
            probes.push((due.locator, due.plaintext));
        }
        probes
    }

    #[test]
    fn probes_make_packets_of_the_size_in_question_also_behind_a_relays_header() {
        let relay = Locator { channel: Some(Channel(7)), ..direct(9) };
        let v6 = Locator::from("[2001:db8::1]:6374".parse::<SocketAddr>().unwrap());
        for (locator, around) in [(direct(1), 28 + 32), (relay, 28 + 8 + 32), (v6, 48 + 32)] {
            let mut paths = Paths::default();
            meet(&mut paths, locator);
            assert_eq!(probes(&mut paths), [1000, 1280, 1400, 1500].map(|size| (locator, size - around)));
        }
    }

    #[test]
    fn what_fits_is_that_of_the_path_with_the_data_and_changes_with_it_at_once() {
        let mut paths = Paths::default();
        meet(&mut paths, direct(1));
        assert_eq!(probes(&mut paths).len(), 4);
        assert!(!paths.answered_size(direct(2), 3, START), "not from there");
        assert!(paths.answered_size(direct(1), 3, START));
        assert_eq!(paths.fit(1420).whole, 1440);
        meet(&mut paths, direct(2));
        assert_eq!(paths.fit(1420), Fit::unknown(1420), "nothing is taken over from the path before");
        assert!(probes(&mut paths).iter().all(|(locator, _)| *locator == direct(2)), "and only it is asked");
        meet(&mut paths, direct(1));
        assert_eq!(paths.fit(1420).whole, 1440, "and nothing is forgotten");
    }

    #[test]
    fn what_the_machine_refuses_is_not_asked_for_again() {
        let mut paths = Paths::default();
        meet(&mut paths, direct(1));
        paths.tend_sizes(0, 1420, START);
        paths.too_long(direct(1).address, 1400 - 28, START);
        assert_eq!(probes(&mut paths).iter().map(|(_, len)| len + 60).collect::<Vec<_>>(), [1000, 1280]);
    }
}
