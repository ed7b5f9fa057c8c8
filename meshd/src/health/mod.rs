//! Whether this connector reaches the prefixes that it shares with others: by the machine's routes and links, and by hosts that
//! answer to ping where the configuration names some. What is not reached is told to the core, which tells the peers.

mod drive;
mod echo;
mod probation;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use config::HealthConfig;
use ipnet::IpNet;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use probation::Probation;

/// A host went away, or is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostNews {
    host: IpAddr,
    is_away: bool,
}

/// The tasks that ask, one for each host; they end when this is dropped.
pub(crate) struct Health {
    hosts: BTreeMap<IpAddr, Task>,
    away: BTreeSet<IpAddr>,
    sender: mpsc::Sender<HostNews>,
    news: mpsc::Receiver<HostNews>,
}

struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Health {
    /// Starts asking, on the current tokio runtime.
    pub(crate) fn start(settings: &HealthConfig) -> Self {
        // News of each host once; who finds no room waits.
        let (sender, news) = mpsc::channel(HealthConfig::MAX_PROBES);
        let mut health = Self { hosts: BTreeMap::new(), away: BTreeSet::new(), sender, news };
        health.renew(settings);
        health
    }

    /// Takes other settings: hosts that were asked before go on being asked, with what is known of them.
    pub(crate) fn renew(&mut self, settings: &HealthConfig) {
        let mut before = std::mem::take(&mut self.hosts);
        for host in &settings.probe {
            let start = || Task(tokio::spawn(watch(*host, self.sender.clone())).abort_handle());
            let task = before.remove(host).unwrap_or_else(start);
            self.hosts.insert(*host, task);
        }
        self.away.retain(|host| self.hosts.contains_key(host));
    }

    /// The next news. Pends for ever where nobody is asked. Safe to cancel.
    pub(crate) async fn next(&mut self) -> HostNews {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    fn note(&mut self, news: HostNews) {
        // Of one that is asked no more some may have waited.
        if news.is_away && self.hosts.contains_key(&news.host) {
            self.away.insert(news.host);
        } else {
            self.away.remove(&news.host);
        }
    }

    /// Whether a host in the prefix answers; `None` where none is asked.
    fn answers(&self, prefix: &IpNet) -> Option<bool> {
        let mut hosts = self.hosts.keys().filter(|host| prefix.contains(*host)).peekable();
        hosts.peek()?;
        Some(hosts.any(|host| !self.away.contains(host)))
    }
}

async fn watch(host: IpAddr, news: mpsc::Sender<HostNews>) {
    let mut probation = Probation::default();
    loop {
        let asked = Instant::now();
        let has_answered = echo::answers(host).await.unwrap_or_else(|error| {
            tracing::debug!(%host, %error, "cannot be asked");
            false
        });
        if let Some(is_away) = probation.note(has_answered)
            && news.send(HostNews { host, is_away }).await.is_err()
        {
            return;
        }
        tokio::time::sleep_until(asked + probation.pace()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_reached_while_one_of_its_hosts_answers() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let (sender, news) = mpsc::channel(1);
        let [one, two]: [IpAddr; 2] = ["10.1.0.1", "10.1.0.2"].map(|text| text.parse().unwrap());
        let task = || Task(tokio::spawn(std::future::pending::<()>()).abort_handle());
        let hosts = [one, two].map(|host| (host, task())).into();
        let mut health = Health { hosts, away: BTreeSet::new(), sender, news };
        let answers = |health: &Health, prefix: &str| health.answers(&prefix.parse().unwrap());
        assert_eq!(answers(&health, "10.2.0.0/16"), None);
        health.note(HostNews { host: one, is_away: true });
        assert_eq!(answers(&health, "10.1.0.0/16"), Some(true));
        health.note(HostNews { host: two, is_away: true });
        assert_eq!(answers(&health, "10.1.0.0/16"), Some(false));
        health.note(HostNews { host: one, is_away: false });
        assert_eq!(answers(&health, "10.1.0.0/16"), Some(true));
    }
}
