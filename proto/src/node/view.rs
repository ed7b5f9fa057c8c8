//! How this node sees the way between it and another member, in the codes in which it tells others too.

use std::net::{IpAddr, SocketAddr};

use super::Node;
use crate::event::Refusal;
use crate::handshake::HandshakeError;
use crate::id::{PeerId, PublicKey};
use crate::member::Permission;
use crate::path::PathKind;
use crate::peer::{Carrier, PeerState};
use crate::route::Target;
use crate::time::Instant;
use crate::wire::{
    KeyView, MachineView, PathView, PolicyView, RouteView, SelectionView, SessionView, TroubleView, View,
};

impl Node {
    /// How this node sees the way to `destination`, and the other party: `other`, with the key that somebody else knows of it.
    pub(super) fn view(
        &self,
        destination: IpAddr,
        other: Option<PeerId>,
        key: Option<&PublicKey>,
        machine: MachineView,
        now: Instant,
    ) -> View {
        let left_out = !self.settings.unselected.is_empty();
        let view = View {
            route: self.route_view(destination),
            key: self.key_view(other, key),
            machine,
            selection: if left_out { SelectionView::Some } else { SelectionView::All },
            trouble: self.trouble_view(other, key),
            ..View::default()
        };
        match other {
            Some(id) => self.with_session(id, view, now),
            None => view,
        }
    }

    pub(super) fn route_view(&self, destination: IpAddr) -> RouteView {
        match self.table.routes.covering(destination) {
            None => RouteView::Nobody,
            Some((_, Target::Peer(_) | Target::Denied(_))) => RouteView::Peer,
            Some((net, Target::Local)) if net.prefix_len() == net.max_prefix_len() => RouteView::Own,
            Some((_, Target::Local)) => RouteView::Behind,
        }
    }

    fn key_view(&self, other: Option<PeerId>, key: Option<&PublicKey>) -> KeyView {
        match (other.and_then(|id| self.peer(id)), key) {
            (_, None) => KeyView::Untold,
            (None, Some(_)) => KeyView::NoRecord,
            (Some(peer), Some(key)) if peer.key == *key => KeyView::Same,
            (Some(_), Some(_)) => KeyView::Differs,
        }
    }

    fn with_session(&self, id: PeerId, view: View, now: Instant) -> View {
        let Some(peer) = self.peer(id) else { return view };
        let policy = match &peer.permission {
            Ok(Permission::Community(_)) => PolicyView::Community,
            Ok(Permission::OwnConnector) => PolicyView::OwnConnector,
            Ok(Permission::Neighbour) => PolicyView::Neighbour,
            Err(_) => PolicyView::NoCommunity,
        };
        let active = self.peer_paths(id, now).into_iter().find(|path| peer.current().is_some() && is_active(path));
        let session = match (peer.state(), &active) {
            (_, Some(_)) if peer.unreachable_since.is_none() => SessionView::Up,
            (PeerState::Idle | PeerState::Denied, _) if self.was_tried_in_vain(id) => SessionView::Unanswered,
            (PeerState::Idle | PeerState::Denied, _) => SessionView::Idle,
            (PeerState::Connecting, _) => SessionView::Connecting,
            (PeerState::Connected | PeerState::RelayOnly, _) => SessionView::Lost,
            (PeerState::Unreachable, _) if peer.current().is_some() => SessionView::Lost,
            (PeerState::Unreachable, _) => SessionView::Unanswered,
        };
        let Some(active) = active else { return View { policy, session, ..view } };
        let rtt = active.rtt.map_or(0, |rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX));
        let path = match active.kind {
            PathKind::Lan => PathView::Lan,
            PathKind::Direct => PathView::Direct,
            PathKind::Relay => PathView::Relay,
            PathKind::Tls => PathView::Tls,
        };
        View { policy, session, path, rtt, mtu: self.fit(id).limit, ..view }
    }

    fn was_tried_in_vain(&self, id: PeerId) -> bool {
        self.peer(id).is_some_and(|peer| peer.given_up.is_some())
    }

    /// Why handshakes between the two come to nothing, as far as this node can tell.
    fn trouble_view(&self, other: Option<PeerId>, key: Option<&PublicKey>) -> TroubleView {
        let is_stranger = key.is_some_and(|key| self.strangers.iter().any(|stranger| stranger.key == *key));
        let Some((id, peer)) = other.and_then(|id| Some((id, self.peer(id)?))) else {
            return if is_stranger { TroubleView::Stranger } else { TroubleView::None };
        };
        let attempt = peer.live.as_ref().and_then(|live| live.attempt.as_ref());
        let unread = attempt.map(|attempt| attempt.unread).or(peer.given_up.as_ref().map(|tries| tries.unread));
        // At a relay's address is anybody.
        let places = self.dialable(id).into_iter().filter(|(_, place)| place.channel.is_none());
        let known: Vec<SocketAddr> = places.map(|(_, place)| place.address).collect();
        let is_there = |address: SocketAddr| known.iter().any(|known| known.ip() == address.ip());
        match peer.refusal.as_ref().map(|refused| refused.reason) {
            _ if is_stranger => TroubleView::Stranger,
            Some(Refusal::Denied(_)) => TroubleView::Denied,
            Some(Refusal::OldTimestamp) => TroubleView::OldTimestamp,
            Some(Refusal::Handshake(HandshakeError::NoCommonSuite { .. })) => TroubleView::NoCipher,
            Some(Refusal::Handshake(_) | Refusal::UnknownKey(_)) | None => {
                if peer.current().is_some() {
                    TroubleView::None
                } else if unread.is_some_and(|count| count > 0) {
                    TroubleView::Psk
                } else if self.strangers.iter().any(|stranger| is_there(stranger.source.address)) {
                    TroubleView::OtherKey
                } else if self.questions.unreadable().any(is_there) {
                    TroubleView::Unreadable
                } else if self.is_hopeless(id) {
                    self.no_place(id)
                } else {
                    TroubleView::None
                }
            }
        }
    }

    fn no_place(&self, id: PeerId) -> TroubleView {
        let is_named =
            self.peer(id).is_some_and(|peer| !peer.public_addresses.is_empty() || peer.carrier != Carrier::None);
        if is_named { TroubleView::Unresolved } else { TroubleView::NoPlace }
    }
}

fn is_active(path: &crate::path::PathStatus) -> bool {
    path.state == crate::path::PathState::Active
}
