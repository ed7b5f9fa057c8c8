//! What a relay carries, for whom, and under which limits: for status output.

use super::Node;
use super::relay::Relaying;
use crate::account::{AccountStatus, RelayRates};
use crate::id::PeerId;

/// What a node does for others.
#[derive(Clone, Debug)]
pub struct RelayStatus {
    /// How much it carries at most.
    pub rates: RelayRates,
    /// Pairs of members that it has a channel for.
    pub channels: usize,
    /// Members with a channel.
    pub members: Vec<MemberStatus>,
    /// Everything since the start, that of members who have left included.
    pub all: AccountStatus,
}

/// A member that a relay serves.
#[derive(Clone, Copy, Debug)]
pub struct MemberStatus {
    /// Who.
    pub peer: PeerId,
    /// To how many others.
    pub channels: usize,
    /// What was carried, since its first channel of this session.
    pub account: AccountStatus,
}

impl Node {
    /// What this node carries for others; `None`: it is no relay.
    #[must_use]
    pub fn relaying(&self) -> Option<RelayStatus> {
        let rates = self.settings.relay?;
        let Relaying { legs, by_pair, accounts, left, .. } = &self.relaying;
        let channels = |id: PeerId| by_pair.range((id, PeerId(0))..=(id, PeerId(u32::MAX))).count();
        let members = accounts.iter().map(|(peer, account)| MemberStatus {
            peer: *peer,
            channels: channels(*peer),
            account: account.status(),
        });
        let members: Vec<_> = members.collect();
        let mut all = *left;
        members.iter().for_each(|member| all += member.account);
        Some(RelayStatus { rates, channels: legs.len() / 2, members, all })
    }
}
