//! Which paths carry flows at once: all that work and are of the active one's kind. Nothing says which of them a datagram that came
//! in speaks for, so each is probed every second while the session is in use.

use super::{CONFIRM, PACE, Path, Paths, STANDBY_PACE};
use crate::path::{Locator, PathKind};
use crate::time::Instant;

/// Over how many paths the data to one peer goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// The best one.
    #[default]
    Best,
    /// Up to [`MAX_WAYS`] of the best kind, each flow over one.
    Flow {
        /// Threads that send, each of which needs a lane for each of the paths.
        workers: u8,
    },
}

/// Most paths that carry flows to one peer at once: as many as a site has links to the world, or a peer relays, and one more.
pub const MAX_WAYS: usize = 4;

impl Paths {
    /// How the data is to go from now on.
    pub(crate) const fn set_balance(&mut self, balance: Balance) {
        self.balance = balance;
    }

    /// Where flows go at once; empty where all goes to the active path.
    pub(crate) fn members(&self) -> &[Locator] {
        &self.members
    }

    /// Looks which paths can carry flows now; returns whether they are others than before.
    pub(crate) fn tend_spread(&mut self, now: Instant) -> bool {
        if self.balance == Balance::Best {
            return false;
        }
        let members = self.able(now);
        let is_news = members != self.members;
        self.members = members;
        self.keep_asking(now);
        is_news
    }

    /// Whether only probes tell how this path does, and every second at that.
    pub(super) fn is_only_probed(&self, locator: Locator, now: Instant) -> bool {
        let is_near = |path: &Path| path.kind() == PathKind::Lan && path.streak >= CONFIRM;
        let is_watched = self.is_watched && self.all.iter().any(|path| path.locator == locator && is_near(path));
        is_watched || (self.is_in_use(now) && self.members.contains(&locator))
    }

    fn able(&self, now: Instant) -> Vec<Locator> {
        let Some(kind) = self.active_path().map(Path::kind).filter(|kind| *kind != PathKind::Tls) else {
            return Vec::new();
        };
        let is_able = |path: &&Path| path.kind() == kind && path.works(now);
        let mut able: Vec<Locator> = self.all.iter().filter(is_able).map(|path| path.locator).collect();
        // In an order of their own: a path keeps its place, and with it its lanes, as far as possible.
        able.sort_unstable();
        able.truncate(MAX_WAYS);
        if able.len() > 1 || able.first() != self.active.as_ref() { able } else { Vec::new() }
    }

    /// Members are asked every second, and those that were some now and then.
    fn keep_asking(&mut self, now: Instant) {
        let (in_use, kind) = (self.is_in_use(now), self.active_path().map(Path::kind));
        if !in_use {
            return;
        }
        let members = &self.members;
        for path in self.all.iter_mut().filter(|path| Some(path.kind()) == kind) {
            let is_member = members.contains(&path.locator);
            let latest = path.probed_at.map(|at| at + if is_member { PACE } else { STANDBY_PACE });
            if is_member || (path.answered_at.is_some() && path.next.is_none()) {
                path.next = path.next.min(latest).or(latest);
            }
        }
    }
}
