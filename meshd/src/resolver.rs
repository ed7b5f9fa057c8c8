//! Turns the DNS names of public addresses into addresses, by the system's resolver, again and again.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use proto::id::{EndpointName, PeerId};
use proto::member::{Endpoint, Host, PublicAddress};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinError};

/// Names looked up at the same time, each by a thread that waits: enough that a few dead name servers do not hold up the
/// rest, few enough for a small machine in a mesh of a thousand names.
pub(crate) const MAX_LOOK_UPS: usize = 16;

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
    /// Of the look-up: a peer's number may come to mean another.
    look_up: u64,
    pub(crate) candidates: Vec<SocketAddr>,
    /// Names that did not resolve, with the reason.
    pub(crate) failures: BTreeMap<String, String>,
}

impl Resolved {
    /// Nothing yet.
    pub(crate) const fn empty(peer: PeerId) -> Self {
        Self { peer, look_up: 0, candidates: Vec::new(), failures: BTreeMap::new() }
    }
}

/// Running look-ups; they end when this is dropped.
pub(crate) struct Resolver {
    sender: mpsc::Sender<Resolved>,
    answers: mpsc::Receiver<Resolved>,
    tasks: BTreeMap<PeerId, LookUp>,
    /// Look-ups so far.
    count: u64,
}

/// A peer's running look-up.
struct LookUp {
    number: u64,
    addresses: Vec<PublicAddress>,
    task: AbortHandle,
}

impl Drop for LookUp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Resolver {
    /// Starts a look-up for every peer that has a DNS name among its public addresses.
    pub(crate) fn start<'e>(
        endpoints: impl Iterator<Item = &'e Endpoint>,
        peer_id: impl Fn(&EndpointName) -> Option<PeerId>,
    ) -> Self {
        let (sender, answers) = mpsc::channel(MAX_WAITING);
        let mut resolver = Self { sender, answers, tasks: BTreeMap::new(), count: 0 };
        resolver.renew(endpoints, peer_id);
        resolver
    }

    /// Takes other endpoints. Look-ups of a peer whose addresses are the same go on.
    pub(crate) fn renew<'e>(
        &mut self,
        endpoints: impl Iterator<Item = &'e Endpoint>,
        peer_id: impl Fn(&EndpointName) -> Option<PeerId>,
    ) {
        let mut before = std::mem::take(&mut self.tasks);
        for endpoint in endpoints {
            let named = endpoint.public_addresses.iter().any(|address| matches!(address.host, Host::Name(_)));
            let Some(peer) = peer_id(&endpoint.name).filter(|_| named) else { continue };
            let same = before.remove(&peer).filter(|look_up| look_up.addresses == endpoint.public_addresses);
            let look_up = same.unwrap_or_else(|| self.look_up(peer, &endpoint.public_addresses));
            self.tasks.insert(peer, look_up);
        }
    }

    /// The next answer that differs from the one before it. Pends for ever where there is nothing to resolve.
    pub(crate) async fn next(&mut self) -> Resolved {
        loop {
            let Some(resolved) = self.answers.recv().await else { return std::future::pending().await };
            if self.tasks.get(&resolved.peer).is_some_and(|look_up| look_up.number == resolved.look_up) {
                return resolved;
            }
        }
    }

    fn look_up(&mut self, peer: PeerId, addresses: &[PublicAddress]) -> LookUp {
        self.count += 1;
        let watched = watch(peer, self.count, addresses.to_vec(), self.sender.clone());
        LookUp { number: self.count, addresses: addresses.to_vec(), task: tokio::spawn(watched).abort_handle() }
    }
}

async fn watch(peer: PeerId, number: u64, addresses: Vec<PublicAddress>, answers: mpsc::Sender<Resolved>) {
    let (mut last, mut known) = (None, Known::new());
    loop {
        let mut resolved = resolve(peer, &addresses, &mut known, look_up).await;
        resolved.look_up = number;
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

/// What each name and port was last.
type Known = BTreeMap<String, Vec<SocketAddr>>;

/// Looks a name up, by a thread of its own. At most [`MAX_LOOK_UPS`] run at a time, and more wait for their turn.
///
/// # Errors
/// Those of the system's resolver.
pub(crate) async fn look_up(name: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    static TURNS: Semaphore = Semaphore::const_new(MAX_LOOK_UPS);
    let found = in_turn(&TURNS, move || (name.as_str(), port).to_socket_addrs()).await;
    let mut found: Vec<SocketAddr> = found.map_err(io::Error::other)??.collect();
    // Name servers turn the order at each answer, which is no news.
    found.sort_unstable();
    Ok(found)
}

/// Runs what blocks on a thread, when it is its turn. The turn ends with the work and not with who waits for it: a thread that
/// waits for a name server cannot be called back.
async fn in_turn<T: Send + 'static>(
    turns: &'static Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let turn = turns.acquire().await;
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    })
    .await
}

/// A name that does not resolve now keeps what it was: a name server that is away is no reason to lose the peer too.
async fn resolve<F: Future<Output = io::Result<Vec<SocketAddr>>>>(
    peer: PeerId,
    addresses: &[PublicAddress],
    known: &mut Known,
    look_up: impl Fn(String, u16) -> F,
) -> Resolved {
    let mut resolved = Resolved::empty(peer);
    for PublicAddress { host, port } in addresses {
        match host {
            Host::Ip(ip) => resolved.candidates.push(SocketAddr::new(*ip, *port)),
            Host::Name(name) => {
                match look_up(name.clone(), *port).await {
                    Ok(found) => drop(known.insert(format!("{name}:{port}"), found)),
                    Err(error) => drop(resolved.failures.insert(name.clone(), error.to_string())),
                }
                resolved.candidates.extend(known.get(&format!("{name}:{port}")).into_iter().flatten());
            }
        }
    }
    resolved.candidates.dedup();
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_addresses_while_name_servers_are_away() {
        let hosts = [Host::Name("one.example.com".into()), Host::Ip([192, 0, 2, 9].into())];
        let addresses = hosts.map(|host| PublicAddress { host, port: 6374 });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let peer = PeerId(0);
        let mut known = Known::new();
        let first = resolve(peer, &addresses, &mut known, async |_, port| Ok(vec![([192, 0, 2, 1], port).into()]));
        let first = runtime.block_on(first);
        assert_eq!(first.candidates.len(), 2);
        let away = resolve(peer, &addresses, &mut known, async |_, _| Err(io::Error::other("no answer")));
        let away = runtime.block_on(away);
        assert_eq!((away.candidates, away.failures.len()), (first.candidates, 1));
    }

    #[test]
    fn look_ups_that_hang_leave_threads_to_others_also_when_nobody_waits_for_them_any_more() {
        static TURNS: Semaphore = Semaphore::const_new(2);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.max_blocking_threads(3).enable_time().build().unwrap();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let ended = std::sync::Arc::new(std::sync::Mutex::new(ended));
        runtime.block_on(async {
            for _ in 0..6 {
                let ended = ended.clone();
                let hanging = tokio::spawn(in_turn(&TURNS, move || ended.lock().unwrap().recv().is_ok()));
                tokio::time::sleep(Duration::from_millis(10)).await;
                hanging.abort();
            }
            let other = tokio::task::spawn_blocking(|| "done");
            let other = tokio::time::timeout(Duration::from_secs(10), other).await;
            drop(end);
            assert_eq!(other.expect("a thread is free").unwrap(), "done");
            let turn = tokio::time::timeout(Duration::from_secs(10), in_turn(&TURNS, || "done")).await;
            assert_eq!(turn.expect("turns come back").unwrap(), "done");
        });
    }
}
