//! Metrics of what this node relays. Where it is no relay, the families are empty.

use std::fmt::Result;

use proto::account::AccountStatus;

use super::families::Families;
use super::sample::Sample;

/// Writes them.
pub(super) fn encode(families: &mut Families<'_>, sample: &Sample) -> Result {
    let relaying = sample.relaying.as_ref();
    let channels = relaying.map(|relaying| ([], relaying.status.channels));
    families.gauge::<0, _>("meshd_relay_channels", "Pairs of members that are relayed", channels)?;
    let members = relaying.map(|relaying| ([], relaying.members.len()));
    families.gauge::<0, _>("meshd_relay_members", "Members that are relayed", members)?;
    let mut totals = |name: &str, help: &str, count: fn(&AccountStatus) -> u64| {
        families.counter::<0, _>(name, help, relaying.map(|relaying| ([], count(&relaying.status.all))))
    };
    totals("meshd_relay_receive_bytes", "Bytes taken from members for others", |all| all.sent.bytes)?;
    totals("meshd_relay_receive_datagrams", "Datagrams taken from members for others", |all| all.sent.datagrams)?;
    totals("meshd_relay_transmit_bytes", "Bytes sent on to members", |all| all.received.bytes)?;
    totals("meshd_relay_transmit_datagrams", "Datagrams sent on to members", |all| all.received.datagrams)?;
    totals("meshd_relay_limited_datagrams", "Datagrams kept back by one of the two limits", |all| all.limited)?;
    let mut by_member = |name: &str, help: &str, count: fn(&AccountStatus) -> u64| {
        let members = relaying.into_iter().flat_map(|relaying| &relaying.members);
        families.counter(name, help, members.map(|(peer, account)| ([("peer", peer.as_str())], count(account))))
    };
    by_member("meshd_relay_member_receive_bytes", "Bytes taken from the member for others", |one| one.sent.bytes)?;
    by_member("meshd_relay_member_transmit_bytes", "Bytes sent on to the member", |one| one.received.bytes)?;
    by_member("meshd_relay_member_limited_datagrams", "Datagrams of the member that were kept back", |one| one.limited)
}
