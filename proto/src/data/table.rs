//! The forwarding table: what the core decided, in the form that the fast path reads.
//!
//! Immutable once published. The core keeps a working copy and publishes clones: cheap, because rows are shared in chunks
//! and only a chunk that changed is copied.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Spread;
use super::slots::{Chunks, Slots};
use super::trace::TraceSwitch;
use crate::account::{Account, Carried};
use crate::handshake::Mac1;
use crate::id::{PeerId, SessionIndex};
use crate::nat::Awaited;
use crate::path::{Channel, Fit, Locator};
use crate::route::RouteTable;
use crate::session::Session;
use crate::stats::{Activity, DropReason, Meter};
use crate::time::Instant;

/// How to send to a peer.
#[derive(Clone)]
pub struct PeerRow {
    /// The session in use.
    pub session: Arc<Session>,
    /// One that we answered: to be used from the moment that the peer has used it. The peer may have forgotten the other.
    pub next: Option<Arc<Session>>,
    /// Where its datagrams go.
    pub remote: Locator,
    /// Where they go instead, each by its flow, if they go several ways.
    pub spread: Option<Arc<Spread>>,
    /// How inner packets fit the path there, or the narrowest of these ways.
    pub fit: Fit,
    /// Where traffic is counted.
    pub activity: Arc<Activity>,
}

impl PeerRow {
    /// The session to send on now.
    #[inline]
    #[must_use]
    pub fn sending(&self) -> &Arc<Session> {
        self.next.as_ref().filter(|next| next.is_used()).unwrap_or(&self.session)
    }

    /// Whether datagrams go there, so that it is no news if some come from there.
    #[must_use]
    pub fn goes_to(&self, remote: Locator) -> bool {
        self.remote == remote || self.spread.as_ref().is_some_and(|spread| spread.has(remote))
    }

    /// Whether `session` is one of those that may be sent on.
    #[must_use]
    pub fn has(&self, session: &Arc<Session>) -> bool {
        Arc::ptr_eq(&self.session, session) || self.next.as_ref().is_some_and(|next| Arc::ptr_eq(next, session))
    }
}

/// How to receive on a session.
#[derive(Clone)]
pub struct SessionRow {
    /// Its keys and windows.
    pub session: Arc<Session>,
    /// Where traffic is counted.
    pub activity: Arc<Activity>,
}

/// How to relay what comes in on a channel.
pub struct ChannelRow {
    /// From where it may come: the places of the member whose channel it is.
    pub from: Box<[SocketAddr]>,
    /// Where it goes.
    pub to: SocketAddr,
    /// On which of that member's channels.
    pub channel: Channel,
    /// Of the member whose channel this is.
    pub sender: Arc<Account>,
    /// Of the other member.
    pub receiver: Arc<Account>,
    /// What all members together may have carried.
    pub total: Arc<Meter>,
}

impl ChannelRow {
    /// Takes `len` bytes of what may be carried.
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn admit(&self, len: u64, now: Instant) -> Result<(), DropReason> {
        self.sender.admit(&self.total, len, now)
    }

    /// Counts what was carried, and how many datagrams a limit kept back.
    pub fn count(&self, carried: Carried, limited: u64) {
        self.sender.sent(carried, limited);
        self.receiver.received(carried);
    }
}

/// Everything that the fast path needs to know.
#[derive(Clone)]
pub struct ForwardingTable {
    /// Prefixes and their owners.
    pub routes: Arc<RouteTable>,
    /// Checks mac1 of handshake messages to this node, so that strangers are turned away before the core is troubled.
    pub mac1: Arc<Mac1>,
    /// The STUN requests that wait for answers, for the same reason. Written by [`Stun`](crate::nat::Stun); every table of a node has the same.
    pub awaited: Arc<Awaited>,
    peers: Chunks<PeerRow>,
    sessions: Slots<SessionRow>,
    /// What this node relays.
    channels: Slots<Arc<ChannelRow>>,
}

impl ForwardingTable {
    /// A table without peers.
    #[must_use]
    pub fn new(mac1: Mac1) -> Self {
        Self {
            routes: Arc::default(),
            mac1: Arc::new(mac1),
            awaited: Arc::default(),
            peers: Chunks::default(),
            sessions: Slots::new(),
            channels: Slots::new(),
        }
    }

    /// How to send to a peer; `None` where there is no session to use.
    #[inline]
    #[must_use]
    pub fn peer(&self, peer: PeerId) -> Option<&PeerRow> {
        self.peers.get(peer.index())
    }

    /// The session that a received index names.
    #[inline]
    #[must_use]
    pub fn session(&self, index: SessionIndex) -> Option<&SessionRow> {
        self.sessions.get(index.0)
    }

    /// Whether an index is a session's, or reserved for one.
    #[must_use]
    pub fn has(&self, index: SessionIndex) -> bool {
        self.sessions.has(index.0)
    }

    /// Sets or clears how to send to a peer.
    pub fn set_peer(&mut self, peer: PeerId, row: Option<PeerRow>) {
        self.peers.set(peer.index(), row);
    }

    /// Whether a new session may have this index: its slot must be free.
    #[must_use]
    pub fn is_free(&self, index: SessionIndex) -> bool {
        self.sessions.is_free(index.0)
    }

    /// Keeps an index that [`is_free`](Self::is_free) for the session of a handshake that is under way.
    pub fn reserve(&mut self, index: SessionIndex) {
        self.sessions.put(index.0, None);
    }

    /// Adds a session, whose index is reserved or [`is_free`](Self::is_free).
    pub fn insert_session(&mut self, row: SessionRow) {
        self.sessions.put(row.session.local.0, Some(row));
    }

    /// Frees the index of a session, or of a handshake that came to nothing.
    pub fn remove_session(&mut self, index: SessionIndex) {
        self.sessions.remove(index.0);
    }

    /// How many indices are taken, by sessions and by handshakes under way.
    #[must_use]
    pub const fn taken(&self) -> usize {
        self.sessions.taken()
    }

    /// How to relay what comes in on a channel; `None` where it is none of this node's, or leads nowhere now.
    #[inline]
    #[must_use]
    pub fn channel(&self, channel: Channel) -> Option<&Arc<ChannelRow>> {
        self.channels.get(channel.0)
    }

    /// Whether a new channel may have this number: its slot must be free.
    #[must_use]
    pub fn is_free_channel(&self, channel: Channel) -> bool {
        self.channels.is_free(channel.0)
    }

    /// Sets how to relay a channel, whose number is taken or [`is_free_channel`](Self::is_free_channel); `None`: it leads nowhere for now.
    pub fn set_channel(&mut self, channel: Channel, row: Option<Arc<ChannelRow>>) {
        self.channels.put(channel.0, row);
    }

    /// Frees the number of a channel.
    pub fn remove_channel(&mut self, channel: Channel) {
        self.channels.remove(channel.0);
    }
}

/// Where the core puts its newest table, and workers find it: one atomic pointer.
pub struct Published {
    table: ArcSwap<ForwardingTable>,
    trace: TraceSwitch,
}

impl Published {
    /// Starts with `table`.
    #[must_use]
    pub fn new(table: Arc<ForwardingTable>) -> Arc<Self> {
        Arc::new(Self { table: ArcSwap::new(table), trace: TraceSwitch::default() })
    }

    /// Replaces the table.
    pub fn store(&self, table: Arc<ForwardingTable>) {
        self.table.store(table);
    }

    /// The newest table.
    #[must_use]
    pub fn load(&self) -> Arc<ForwardingTable> {
        self.table.load_full()
    }

    /// Where the shell says which packets it wants to watch.
    #[must_use]
    pub const fn trace(&self) -> &TraceSwitch {
        &self.trace
    }

    /// Brings `table` up to date; returns whether it changed. One atomic load where it did not.
    pub fn refresh(&self, table: &mut Arc<ForwardingTable>) -> bool {
        let newest = self.table.load();
        let changed = !Arc::ptr_eq(&newest, table);
        if changed {
            *table = Arc::clone(&newest);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::{Agreement, Keys};
    use crate::id::PublicKey;
    use crate::wire::{Capabilities, Suite};
    use zeroize::Zeroizing;

    fn row(index: u32) -> SessionRow {
        let agreement = Agreement {
            keys: Keys { send: Zeroizing::new([0; 32]), receive: Zeroizing::new([1; 32]) },
            suite: Suite::Aes256Gcm,
            capabilities: Capabilities::default(),
            lanes: 1,
        };
        let pair = (SessionIndex(index), SessionIndex(0));
        SessionRow { session: Session::new(PeerId(0), pair, &agreement, true).unwrap(), activity: Arc::default() }
    }

    #[test]
    fn sessions_are_found_by_their_whole_index_and_survive_growth() {
        let mut table = ForwardingTable::new(Mac1::new(&PublicKey([0; 32])));
        let indices: Vec<u32> = (0..500u32).map(|n| n.wrapping_mul(2_654_435_761)).collect();
        let mut inserted = Vec::new();
        for index in indices {
            if table.is_free(SessionIndex(index)) {
                table.insert_session(row(index));
                inserted.push(index);
            }
        }
        assert!(inserted.len() > 250);
        for index in &inserted {
            assert_eq!(table.session(SessionIndex(*index)).unwrap().session.local.0, *index);
            assert!(table.session(SessionIndex(index ^ 0x8000_0000)).is_none());
        }
        for index in &inserted {
            table.remove_session(SessionIndex(*index));
        }
        assert!(inserted.iter().all(|index| table.session(SessionIndex(*index)).is_none()));
        assert_eq!(table.taken(), 0);
    }

    #[test]
    fn a_published_table_does_not_see_later_changes() {
        let mut table = ForwardingTable::new(Mac1::new(&PublicKey([0; 32])));
        table.insert_session(row(1));
        let published = Published::new(Arc::new(table.clone()));
        let mut seen = published.load();
        table.insert_session(row(2));
        table.remove_session(SessionIndex(1));
        assert!(seen.session(SessionIndex(1)).is_some() && seen.session(SessionIndex(2)).is_none());
        assert!(!published.refresh(&mut seen));
        published.store(Arc::new(table));
        assert!(published.refresh(&mut seen));
        assert!(seen.session(SessionIndex(1)).is_none() && seen.session(SessionIndex(2)).is_some());
    }
}
