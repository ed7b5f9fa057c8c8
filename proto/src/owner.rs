//! Prefixes that several connectors announce: which of the owners carries one, and why not the others. Pure functions.
//!
//! The best of those that work is chosen: of the lowest priority, and among equals by highest random weight (Thaler and
//! Ravishankar 1998), which spreads the nodes of a mesh over them and moves only those whose owner is lost. An owner that is back
//! has to hold for [`HOLD`] before it takes over from one that works, so that a link that comes and goes moves the flows once.

use std::time::Duration;

use ipnet::IpNet;

use crate::id::PeerId;
use crate::time::Instant;

/// How long an owner that is back must hold before it is preferred again.
pub const HOLD: Duration = Duration::from_secs(5);

/// How an owner of a shared prefix does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing speaks against it.
    Works,
    /// What spoke against it has ended since then.
    Returning(Instant),
    /// It answers, and says since then that it does not reach the prefix.
    Unreached(Instant),
    /// It does not answer since then.
    Silent(Instant),
    /// Policy keeps it from us.
    Denied,
}

/// An owner of a shared prefix as status output shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerStatus {
    /// Who.
    pub peer: PeerId,
    /// Its priority; the lowest is preferred.
    pub priority: u16,
    /// How it does.
    pub condition: Condition,
}

/// A shared prefix as status output shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedStatus {
    /// Which.
    pub prefix: IpNet,
    /// Whether this node announces it too, and so sends nothing for it to the others.
    pub is_local: bool,
    /// Whether this node has told its peers that it does not reach it.
    pub is_unreached: bool,
    /// Who carries it for this node.
    pub chosen: Option<PeerId>,
    /// The other members that announce it, best first.
    pub owners: Vec<OwnerStatus>,
}

/// Spells of one trouble: since when it lasts, or since when it is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spell {
    since: Option<Instant>,
    ended: Option<Instant>,
}

impl Spell {
    /// It lasts, or does not; returns whether that is news.
    pub(crate) fn set(&mut self, lasts: bool, now: Instant) -> bool {
        let is_news = self.since.is_some() != lasts;
        if is_news {
            (self.since, self.ended) = if lasts { (Some(now), None) } else { (None, Some(now)) };
        }
        is_news
    }

    /// Since when it lasts, while it does.
    pub(crate) const fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Since when it is over, if that is not long ago.
    fn ended(&self, now: Instant) -> Option<Instant> {
        self.ended.filter(|ended| now - *ended < HOLD)
    }
}

impl Condition {
    /// What becomes of an owner's silence and of its want of reach.
    pub(crate) fn of(silence: Spell, want: Spell, now: Instant) -> Self {
        match (silence.since(), want.since()) {
            (Some(since), _) => Self::Silent(since),
            (None, Some(since)) => Self::Unreached(since),
            (None, None) => silence.ended(now).max(want.ended(now)).map_or(Self::Works, Self::Returning),
        }
    }

    /// Whether packets sent there should arrive.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Works | Self::Returning(_))
    }

    /// The better, the smaller; `None`: not at all. One that answers at least tells senders that it has no way.
    const fn rank(self) -> Option<u8> {
        match self {
            Self::Works => Some(0),
            Self::Returning(_) => Some(1),
            Self::Unreached(_) => Some(2),
            Self::Silent(_) => Some(3),
            Self::Denied => None,
        }
    }
}

/// The owner that should carry a prefix. `owners` are in the order of preference; `None` where none may.
pub(crate) fn choose(owners: &[OwnerStatus], before: Option<PeerId>) -> Option<PeerId> {
    let ranked = owners.iter().filter_map(|owner| {
        let rank = owner.condition.rank()?;
        // Of those that do not work none is worth a change.
        let is_moot = !owner.condition.is_usable() && before != Some(owner.peer);
        Some((rank, is_moot, owner.peer))
    });
    // The first of equals wins.
    ranked.min_by_key(|(rank, is_moot, _)| (*rank, *is_moot)).map(|(.., peer)| peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(100 + seconds)
    }

    fn chosen(conditions: &[Condition], before: Option<u32>) -> Option<u32> {
        let owner = |(peer, condition): (u32, &Condition)| OwnerStatus {
            peer: PeerId(peer),
            priority: 0,
            condition: *condition,
        };
        let owners: Vec<_> = (0..).zip(conditions).map(owner).collect();
        choose(&owners, before.map(PeerId)).map(|peer| peer.0)
    }

    #[test]
    fn the_first_that_works_is_chosen_and_one_that_is_back_has_to_wait() {
        use Condition::{Denied, Returning, Silent, Unreached, Works};
        let (silent, back, unreached) = (Silent(at(0)), Returning(at(0)), Unreached(at(0)));
        assert_eq!(chosen(&[Works, Works], None), Some(0));
        assert_eq!(chosen(&[Works, Works], Some(1)), Some(0), "back to the preferred one");
        assert_eq!(chosen(&[silent, Works], Some(0)), Some(1));
        assert_eq!(chosen(&[back, Works], Some(1)), Some(1));
        assert_eq!(chosen(&[back, silent], Some(1)), Some(0), "nothing to wait for");
        assert_eq!(chosen(&[Denied, Works], None), Some(1));
        assert_eq!(chosen(&[Denied, Denied], None), None);
        assert_eq!(chosen(&[silent, unreached], Some(0)), Some(1), "which tells senders");
        assert_eq!(chosen(&[silent, silent], Some(1)), Some(1), "none is worth a change");
    }

    #[test]
    fn an_owner_works_again_five_seconds_after_its_last_trouble() {
        let (mut silence, mut want) = (Spell::default(), Spell::default());
        assert!(silence.set(true, at(0)) && !silence.set(true, at(1)) && want.set(true, at(1)));
        assert_eq!(Condition::of(silence, want, at(2)), Condition::Silent(at(0)));
        assert!(silence.set(false, at(3)));
        assert_eq!(Condition::of(silence, want, at(3)), Condition::Unreached(at(1)));
        assert!(want.set(false, at(4)));
        assert_eq!(Condition::of(silence, want, at(8)), Condition::Returning(at(4)));
        assert_eq!(Condition::of(silence, want, at(9)), Condition::Works);
        assert!(silence.set(true, at(9)), "and anew");
    }
}
