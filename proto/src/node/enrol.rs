//! Enrolment: an invited endpoint tells the key that it has made, by a session under the key of its invitation.
//!
//! Such a session carries nothing else: its peer is denied, has no route, is no end of a relay's channel and is told of no
//! address; of its control messages only [`Control::Enrol`] is looked at. What becomes of that the shell decides, for it has the
//! mesh file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::Node;
use crate::address::is_of_use_to_others;
use crate::bucket::{Bucket, Rate};
use crate::event::{Disconnect, Event};
use crate::id::{PeerId, PublicKey, SessionIndex};
use crate::invitation::{Invited, UnixTime};
use crate::member::{Denial, Endpoint, Kind};
use crate::time::Instant;
use crate::wire::{Control, EnrolAnswer};

/// Enrolments of one invitation that are looked at: its holder asks twice a second until the first answer, and each may cost the shell
/// a look at the whole mesh.
const RATE: Rate = Rate { per_second: 1, burst: 4 };

/// How long a refusal by the shell is repeated to the key that it was said to, without asking the shell.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// What a node knows of invitations: those of its mesh, and its own.
#[derive(Default)]
pub(super) struct Enrolments {
    invited: BTreeMap<PeerId, Open>,
    /// By whom this node is invited, once it has asked to be enrolled.
    asked: Option<PeerId>,
}

/// An invitation of this mesh.
struct Open {
    until: Instant,
    /// Who has used it.
    used: Option<PublicKey>,
    /// What the shell said last to somebody whom it did not take.
    refused: Option<(PublicKey, EnrolAnswer, Instant)>,
    credit: Bucket,
}

impl Open {
    /// What the shell has said to this key and would say again.
    fn refusal(&self, key: PublicKey, now: Instant) -> Option<EnrolAnswer> {
        let said = self.refused.filter(|(to, _, at)| *to == key && now - *at < REFUSED_FOR);
        said.map(|(_, answer, _)| answer)
    }
}

impl Node {
    /// Takes all invitations of the mesh, which replace those before; call it after [`Node::handle_registry`]. One whose name or
    /// key an endpoint has is left out, and one that has expired at `unix`, which is the wall time at `now`: the node's own is as old as
    /// the node. What has been used stays used while it is here unchanged.
    pub fn handle_invitations(&mut self, invited: &[Invited], unix: UnixTime, now: Instant) {
        let invited: Vec<&Invited> = invited.iter().filter(|one| unix < one.until).collect();
        let is_kept = |peer: &PeerId| {
            let peer = self.peer(*peer);
            peer.is_some_and(|peer| invited.iter().any(|one| (&one.name, one.key) == (&peer.name, peer.key)))
        };
        let gone: Vec<PeerId> = self.enrolments.invited.keys().copied().filter(|id| !is_kept(id)).collect();
        let names: Vec<_> = gone.into_iter().filter_map(|id| self.peer_name(id).cloned()).collect();
        let free: Vec<PeerId> = names.iter().filter_map(|name| self.remove(name, now)).collect();
        for one in invited {
            self.invite(one, now + one.until.left(unix), now);
        }
        // Only now: what was said of one of them above is said of nobody else.
        self.free.extend(free);
    }

    /// Asks the peer, which has invited this node, to enrol `key`; dials it first where there is no session.
    /// [`Event::EnrolAnswered`] tells the answer. Either message may be lost: call it again until that comes.
    pub fn enrol(&mut self, by: PeerId, key: PublicKey, addresses: &[SocketAddr], now: Instant) {
        self.enrolments.asked = Some(by);
        if self.peer(by).is_some_and(|peer| peer.current().is_some()) {
            self.send_control(by, &Control::Enrol { key, addresses: addresses.to_vec() }, now);
        } else {
            self.dial(by, now);
        }
    }

    /// Answers [`Event::EnrolWanted`], which need not be answered: who wants it asks again. After [`EnrolAnswer::Accepted`] the invitation is used.
    pub fn answer_enrolment(&mut self, id: PeerId, key: PublicKey, answer: EnrolAnswer, now: Instant) {
        if let Some(open) = self.enrolments.invited.get_mut(&id) {
            if answer == EnrolAnswer::Accepted {
                open.used = Some(key);
            } else {
                open.refused = Some((key, answer, now));
            }
        }
        self.send_control(id, &Control::Enrolled { answer }, now);
    }

    fn invite(&mut self, one: &Invited, until: Instant, now: Instant) {
        let known = self.peer_id(&one.name);
        if let Some(open) = known.and_then(|id| self.enrolments.invited.get_mut(&id)) {
            // With another picture of the mesh the shell may say something else.
            (open.until, open.refused) = (until, None);
            return;
        }
        let is_own = one.name == self.settings.name || one.key == self.settings.identity.public;
        if known.is_some() || is_own || self.by_key.get(&self.peers, &one.key).is_some() {
            return;
        }
        self.insert(&record(one), Err(Denial::Invited));
        if let Some(id) = self.peer_id(&one.name) {
            let credit = Bucket::new(RATE, now);
            self.enrolments.invited.insert(id, Open { until, used: None, refused: None, credit });
        }
    }

    /// Whether the peer is one that has not joined.
    pub(super) fn is_invited(&self, id: PeerId) -> bool {
        self.enrolments.invited.contains_key(&id)
    }

    /// Whether a handshake under the key of an invitation is answered.
    pub(super) fn may_enrol(&self, id: PeerId, now: Instant) -> bool {
        self.enrolments.invited.get(&id).is_some_and(|open| now < open.until)
    }

    pub(super) fn forget_invitation(&mut self, id: PeerId) {
        self.enrolments.invited.remove(&id);
    }

    /// A control message of an invited endpoint.
    pub(super) fn handle_invited(&mut self, id: PeerId, index: SessionIndex, message: Option<Control>, now: Instant) {
        let current = self.peer(id).and_then(|peer| peer.current());
        let is_current = current.is_some_and(|current| current.session.local == index);
        if let Some(Control::Enrol { key, addresses }) = message {
            self.handle_enrol(id, key, addresses, now);
        } else if message == Some(Control::Close) && is_current {
            self.disconnect(id, Disconnect::Closed, now);
        }
    }

    fn handle_enrol(&mut self, id: PeerId, key: PublicKey, mut addresses: Vec<SocketAddr>, now: Instant) {
        addresses.retain(|address| address.port() != 0 && is_of_use_to_others(address.ip()));
        let open = self.enrolments.invited.get_mut(&id);
        if !open.is_some_and(|open| open.credit.take(RATE, now)) {
            return;
        }
        let is_void = !self.may_enrol(id, now);
        let is_taken = key == self.settings.identity.public || self.by_key.get(&self.peers, &key).is_some();
        let Some(open) = self.enrolments.invited.get(&id) else { return };
        let answer = match open.used {
            // The answer was lost.
            Some(used) if used == key => EnrolAnswer::Accepted,
            Some(_) => EnrolAnswer::Used,
            None if is_void => EnrolAnswer::Void,
            None if is_taken => EnrolAnswer::KeyTaken,
            None => match open.refusal(key, now) {
                Some(answer) => answer,
                None => return self.emit(Event::EnrolWanted { peer: id, key, addresses }),
            },
        };
        self.send_control(id, &Control::Enrolled { answer }, now);
    }

    /// The inviter has answered.
    pub(super) fn handle_enrolled(&mut self, id: PeerId, answer: EnrolAnswer) {
        if self.enrolments.asked.take_if(|asked| *asked == id).is_some() {
            self.emit(Event::EnrolAnswered { peer: id, answer });
        }
    }
}

/// The record of one that is nothing yet but a name and a key.
fn record(one: &Invited) -> Endpoint {
    Endpoint { relay: Some(false), ..Endpoint::new(one.name.clone(), Kind::Edge, one.key) }
}
