//! The driver's part of it: what the machine reaches, to the core.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::HostNews;
use crate::driver::Driver;

impl Driver {
    /// Takes that a host that is asked went away, or is back.
    pub(crate) async fn handle_host_news(&mut self, news: HostNews) {
        let HostNews { host, is_away } = news;
        if is_away {
            tracing::warn!(%host, "a host that is probed does not answer");
        } else {
            tracing::info!(%host, "a host that is probed answers again");
        }
        self.health.note(news);
        self.tell_reach().await;
    }

    /// Tells the core which of the prefixes that this node shares with others the machine does not reach. Where hosts in a prefix are
    /// asked they decide; elsewhere routes do.
    pub(crate) async fn tell_reach(&mut self) {
        let shared: Vec<IpNet> = self.node.own_shared_prefixes().collect();
        if shared.is_empty() {
            return;
        }
        let routed = match self.host.routed(&shared).await {
            Ok(routed) => routed,
            Err(error) => return tracing::warn!(%error, "whether prefixes are reached is unknown"),
        };
        let is_unreached =
            |prefix: &IpNet| !self.health.answers(prefix).unwrap_or_else(|| routed.contains(&prefix.trunc()));
        let unreached: BTreeSet<IpNet> = shared.into_iter().filter(is_unreached).collect();
        self.node.handle_reach(unreached, self.clock.now());
    }
}
