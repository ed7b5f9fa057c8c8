//! Turns the DNS names of public addresses into addresses, by the system's resolver, again and again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use proto::id::{EndpointName, PeerId};
use proto::member::{Endpoint, Host, PublicAddress};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// How often names are asked for anew: a site on a dynamic address comes back within this, and a DNS server with a
/// thousand clients sees some ten queries a second.
const INTERVAL: Duration = Duration::from_secs(60);

/// How soon after a failure: the network may not be up yet at boot.
const RETRY: Duration = Duration::from_secs(5);

/// Answers that wait for the driver.
const MAX_WAITING: usize = 64;

/// One peer's addresses, in the order of its public addresses.
pub(crate) struct Resolved {
    pub(crate) peer: PeerId,
    pub(crate) candidates: Vec<SocketAddr>,
    /// Names that did not resolve, with the reason.
    pub(crate) failures: BTreeMap<String, String>,
}

/// Running look-ups; they end when this is dropped.
pub(crate) struct Resolver {
    answers: mpsc::Receiver<Resolved>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Resolver {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Resolver {
    /// Starts a look-up for every peer that has a DNS name among its public addresses.
    pub(crate) fn start<'e>(
        endpoints: impl Iterator<Item = &'e Endpoint>,
        peer_id: impl Fn(&EndpointName) -> Option<PeerId>,
    ) -> Self {
        let (sender, answers) = mpsc::channel(MAX_WAITING);
        let mut tasks = Vec::new();
        for endpoint in endpoints {
            let named = endpoint.public_addresses.iter().any(|address| matches!(address.host, Host::Name(_)));
            if let Some(peer) = peer_id(&endpoint.name).filter(|_| named) {
                let watched = watch(peer, endpoint.public_addresses.clone(), sender.clone());
                tasks.push(tokio::spawn(watched).abort_handle());
            }
        }
        Self { answers, tasks }
    }

    /// The next answer that differs from the one before it. Pends for ever where there is nothing to resolve.
    pub(crate) async fn next(&mut self) -> Resolved {
        match self.answers.recv().await {
            Some(resolved) => resolved,
            None => std::future::pending().await,
        }
    }
}

async fn watch(peer: PeerId, addresses: Vec<PublicAddress>, answers: mpsc::Sender<Resolved>) {
    let mut last = None;
    loop {
        let resolved = resolve(peer, &addresses).await;
        let wait = if resolved.failures.is_empty() { INTERVAL } else { RETRY };
        let state = Some((resolved.candidates.clone(), resolved.failures.clone()));
        if state != last {
            last = state;
            if answers.send(resolved).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(wait).await;
    }
}

async fn resolve(peer: PeerId, addresses: &[PublicAddress]) -> Resolved {
    let mut resolved = Resolved { peer, candidates: Vec::new(), failures: BTreeMap::new() };
    for PublicAddress { host, port } in addresses {
        match host {
            Host::Ip(ip) => resolved.candidates.push(SocketAddr::new(*ip, *port)),
            Host::Name(name) => match tokio::net::lookup_host((name.as_str(), *port)).await {
                Ok(found) => resolved.candidates.extend(found),
                Err(error) => {
                    resolved.failures.insert(name.clone(), error.to_string());
                }
            },
        }
    }
    resolved.candidates.dedup();
    resolved
}
