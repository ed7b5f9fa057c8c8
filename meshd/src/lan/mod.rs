//! LAN discovery at work: a task that sends and hears beacons on every LAN of the machine, and tells who is near.
//!
//! What a beacon is worth [`proto::lan`] decides; here are its sockets, one for each interface and family, and the pace at which
//! they are read: whoever floods the group costs some hundred reads a second of the daemon, not its time.

mod drive;
mod sockets;
mod task;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use config::LanConfig;
use proto::id::{MeshId, PublicKey};
use proto::lan::{MAX_NEIGHBOURS, Token};
use proto::stats::DropCounters;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::host::LanLink;

/// News that wait for the driver: of every neighbour once. Who finds no room waits.
const MAX_NEWS: usize = MAX_NEIGHBOURS;

/// What the task is told at its beginning.
pub(crate) struct LanSettings {
    /// `[lan]`, of which the token is taken before.
    pub(crate) config: LanConfig,
    /// The token.
    pub(crate) token: Token,
    /// The mesh, and this node's key in it.
    pub(crate) mesh: MeshId,
    /// Our own public key.
    pub(crate) public_key: PublicKey,
    /// UDP port at which we take datagrams.
    pub(crate) port: u16,
    /// 32 bytes from a cryptographic generator.
    pub(crate) seed: [u8; 32],
}

/// Where a neighbour was heard: the address to dial, and the index of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) interface: u32,
}

/// A neighbour is heard elsewhere than before; nowhere: it is no longer heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LanNews {
    /// The key that it announced, which nothing proves yet.
    pub(crate) key: PublicKey,
    /// All places.
    pub(crate) places: Vec<Place>,
}

/// LAN discovery as status output shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LanPicture {
    /// Interfaces in use, by index.
    pub(crate) interfaces: Vec<InterfacePicture>,
    /// Who is believed to be near, and where.
    pub(crate) neighbours: BTreeMap<PublicKey, Vec<Place>>,
    /// Beacons that counted.
    pub(crate) heard: u64,
}

/// An interface in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InterfacePicture {
    /// Its name.
    pub(crate) name: String,
    /// Whether the IPv4 group is joined there.
    pub(crate) v4: bool,
    /// Whether the IPv6 group is joined there.
    pub(crate) v6: bool,
    /// Why one that should be is not.
    pub(crate) error: Option<String>,
}

/// The running task; it ends when this is dropped.
pub(crate) struct Lan {
    /// `None`: `[lan]` has no token.
    config: Option<LanConfig>,
    links: watch::Sender<Vec<LanLink>>,
    news: mpsc::Receiver<LanNews>,
    picture: watch::Receiver<LanPicture>,
    /// What the driver was told.
    near: BTreeMap<PublicKey, Vec<Place>>,
    /// Routes to neighbours have changed and are not in place yet.
    is_due: bool,
    _task: JoinSet<()>,
}

impl Lan {
    /// Starts listening, on the current tokio runtime; without settings there is nothing to hear. What is dropped is counted in
    /// `drops`.
    pub(crate) fn start(settings: Option<LanSettings>, drops: Arc<DropCounters>, clock: Clock) -> Self {
        let (links, linked) = watch::channel(Vec::new());
        let (sender, news) = mpsc::channel(MAX_NEWS);
        let (painter, picture) = watch::channel(LanPicture::default());
        let config = settings.as_ref().map(|settings| settings.config.clone());
        let mut task = JoinSet::new();
        if let Some(settings) = settings {
            task.spawn(task::run(settings, task::Ends { links: linked, news: sender, picture: painter }, drops, clock));
        }
        Self { config, links, news, picture, near: BTreeMap::new(), is_due: false, _task: task }
    }

    /// Takes what of `[lan]` the task has nothing to do with.
    pub(crate) fn set_config(&mut self, config: &LanConfig) {
        self.config = config.token.is_some().then(|| LanConfig { token: None, ..config.clone() });
    }

    /// Whether the task would do the same under both.
    pub(crate) fn is_same_task(before: &LanConfig, after: &LanConfig) -> bool {
        let (mode, implicit_community) = (after.mode, after.implicit_community);
        LanConfig { mode, implicit_community, ..before.clone() } == *after
    }

    /// The next news. Pends for ever where nobody listens. Safe to cancel.
    pub(crate) async fn next(&mut self) -> LanNews {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// How things stand; `None` where LAN discovery is off.
    pub(crate) fn picture(&self) -> Option<LanPicture> {
        self.config.as_ref().map(|_| self.picture.borrow().clone())
    }

    /// Takes the LANs that the machine is on now, and gives its addresses on those that are used.
    fn set_links(&self, links: Vec<LanLink>) -> Vec<IpAddr> {
        let Some(config) = &self.config else { return Vec::new() };
        let used: Vec<LanLink> = links.into_iter().filter(|link| config.uses(&link.name)).collect();
        let addresses = used.iter().flat_map(|link| link.addresses.iter().copied()).collect();
        self.links.send_if_modified(|known| {
            let is_changed = *known != used;
            *known = used;
            is_changed
        });
        addresses
    }

    fn note(&mut self, news: &LanNews) {
        if news.places.is_empty() {
            self.near.remove(&news.key);
        } else {
            self.near.insert(news.key, news.places.clone());
        }
    }

    /// By which interface a neighbour was heard at an address.
    fn interface_of(&self, key: &PublicKey, address: SocketAddr) -> Option<u32> {
        let places = self.near.get(key)?;
        places.iter().find(|place| place.address == address).map(|place| place.interface)
    }
}
