//! What a relay carries for a member: how much it may, and how much it was.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::stats::{DropReason, Meter};
use crate::time::Instant;

/// How much a relay carries, in bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayRates {
    /// For all members together.
    pub total: u64,
    /// For each member, by what it sends.
    pub member: u64,
}

/// Datagrams and their bytes, the relay's header included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Datagrams.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl AddAssign for Carried {
    fn add_assign(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
    }
}

/// A member's account at a relay. Written by workers once for each run of datagrams, read by anyone.
#[derive(Debug)]
pub struct Account {
    meter: Meter,
    sent: Counter,
    received: Counter,
    limited: AtomicU64,
}

/// An account at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountStatus {
    /// What the relay took from the member for others.
    pub sent: Carried,
    /// What it took from others for the member.
    pub received: Carried,
    /// Datagrams from the member that one of the two limits kept back.
    pub limited: u64,
}

impl AddAssign for AccountStatus {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.limited += other.limited;
    }
}

#[derive(Debug, Default)]
struct Counter {
    datagrams: AtomicU64,
    bytes: AtomicU64,
}

impl Account {
    /// An account whose member may send `rate` bytes a second.
    #[must_use]
    pub fn new(rate: u64) -> Self {
        let (sent, received) = (Counter::default(), Counter::default());
        Self { meter: Meter::new(rate), sent, received, limited: AtomicU64::new(0) }
    }

    /// Lets the member send `rate` bytes a second from now on.
    pub(crate) fn set_rate(&self, rate: u64) {
        self.meter.set_rate(rate);
    }

    /// Takes `len` bytes of the member's share and of everybody's.
    ///
    /// # Errors
    /// Which of the two is used up.
    pub fn admit(&self, total: &Meter, len: u64, now: Instant) -> Result<(), DropReason> {
        // The member's first: one that floods does not eat up what the others share.
        if !self.meter.take(len, now) {
            return Err(DropReason::RelayLimited);
        }
        if total.take(len, now) { Ok(()) } else { Err(DropReason::RelayTotalLimited) }
    }

    /// Counts what was taken from the member, and how many datagrams a limit kept back.
    pub fn sent(&self, carried: Carried, limited: u64) {
        self.sent.add(carried);
        if limited > 0 {
            self.limited.fetch_add(limited, Ordering::Relaxed);
        }
    }

    /// Counts what was taken for the member.
    pub fn received(&self, carried: Carried) {
        self.received.add(carried);
    }

    /// What it holds now.
    #[must_use]
    pub fn status(&self) -> AccountStatus {
        let (sent, received) = (self.sent.read(), self.received.read());
        AccountStatus { sent, received, limited: self.limited.load(Ordering::Relaxed) }
    }
}

impl Counter {
    fn add(&self, carried: Carried) {
        if carried.datagrams > 0 {
            self.datagrams.fetch_add(carried.datagrams, Ordering::Relaxed);
            self.bytes.fetch_add(carried.bytes, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Carried {
        Carried { datagrams: self.datagrams.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_floods_has_its_share_and_leaves_the_others_theirs() {
        let (one, two, total) = (Account::new(1_000_000), Account::new(1_000_000), Meter::new(1_500_000));
        let now = Instant::from_nanos(7_000_000_000);
        let flood = |account: &Account| (0..10_000).map(|_| account.admit(&total, 1_000, now)).collect::<Vec<_>>();
        let (first, second) = (flood(&one), flood(&two));
        let passed = |all: &[Result<(), DropReason>]| all.iter().filter(|result| result.is_ok()).count();
        // Bursts of a quarter of a second: 250 of the one, and of the 375 for all what is left.
        assert_eq!((passed(&first), passed(&second)), (250, 125));
        assert!(first[250..].iter().all(|result| *result == Err(DropReason::RelayLimited)));
        assert!(second[125..250].iter().all(|result| *result == Err(DropReason::RelayTotalLimited)));
    }

    #[test]
    fn an_account_counts_both_directions_and_what_was_kept_back() {
        let account = Account::new(1);
        account.sent(Carried { datagrams: 3, bytes: 300 }, 2);
        account.sent(Carried::default(), 1);
        account.received(Carried { datagrams: 1, bytes: 50 });
        let (sent, received) = (Carried { datagrams: 3, bytes: 300 }, Carried { datagrams: 1, bytes: 50 });
        assert_eq!(account.status(), AccountStatus { sent, received, limited: 3 });
    }
}
