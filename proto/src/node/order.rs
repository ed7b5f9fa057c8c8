//! Peers in the order of something that is theirs alone, without a copy of it: four bytes for each of ten thousand.

use crate::id::{EndpointName, PeerId, PublicKey};
use crate::peer::Peer;

/// Where a peer lies in [`Node::peers`](super::Node).
type Peers = [Option<Peer>];

/// What peers are ordered by.
pub(super) trait Ordered: Ord {
    fn of(peer: &Peer) -> &Self;
}

impl Ordered for EndpointName {
    fn of(peer: &Peer) -> &Self {
        &peer.name
    }
}

impl Ordered for PublicKey {
    fn of(peer: &Peer) -> &Self {
        &peer.key
    }
}

/// The peers by name, or by key. Whoever is in it is in the peers too, unchanged.
#[derive(Default)]
pub(super) struct Order(Vec<PeerId>);

impl Order {
    pub(super) fn reserve(&mut self, peers: usize) {
        self.0.reserve_exact(peers.saturating_sub(self.0.len()));
    }

    /// The peer whose it is.
    pub(super) fn get<K: Ordered>(&self, peers: &Peers, key: &K) -> Option<PeerId> {
        self.search(peers, key).ok().and_then(|at| self.0.get(at)).copied()
    }

    /// Adds a peer, in the place of the one whose it was.
    pub(super) fn insert<K: Ordered>(&mut self, peers: &Peers, key: &K, id: PeerId) {
        match self.search(peers, key) {
            Ok(at) => self.0.get_mut(at).into_iter().for_each(|known| *known = id),
            Err(at) => self.0.insert(at, id),
        }
    }

    /// Removes a peer, unless another has taken its place.
    pub(super) fn remove<K: Ordered>(&mut self, peers: &Peers, key: &K, id: PeerId) {
        if let Ok(at) = self.search(peers, key)
            && self.0.get(at) == Some(&id)
        {
            self.0.remove(at);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = PeerId> {
        self.0.iter().copied()
    }

    fn search<K: Ordered>(&self, peers: &Peers, key: &K) -> Result<usize, usize> {
        let of = |id: &PeerId| peers.get(id.index()).and_then(Option::as_ref).map(K::of);
        self.0.binary_search_by(|id| of(id).cmp(&Some(key)))
    }
}
