//! Why packets get to an address, or do not: finds it out, asking others where this node cannot know.

use std::net::IpAddr;
use std::time::Duration;

use super::Node;
use super::questions::Standing;
use crate::explain::{Cause, Explanation, Heard, Helper};
use crate::id::PeerId;
use crate::member::Kind;
use crate::route::Target;
use crate::time::Instant;
use crate::wire::{MachineView, Reach, RouteView, SessionView, View, WhyAnswer, WhyQuestion};

/// How long a session is waited for: three initiations, and the round trip of the last.
const CONNECT: Duration = Duration::from_millis(4000);

/// How long a session is waited for before somebody else is asked.
const ALONE: Duration = Duration::from_millis(800);

/// How long an answer is waited for that needs no handshake.
const ANSWER: Duration = Duration::from_millis(1500);

/// How long one is waited for that may need two, somewhere else.
const ONWARD: Duration = Duration::from_millis(4500);

/// The longest that an inquiry lasts.
const WHOLE: Duration = Duration::from_secs(9);

/// Members that are asked about a silent one.
const MAX_HELPERS: usize = 2;

/// An explanation that is under way; its owner asks for it again until it is final.
#[derive(Clone, Debug)]
pub struct Inquiry {
    address: IpAddr,
    from: Option<PeerId>,
    began: Instant,
    /// The question to the receiver, or to who was named as the sender.
    token: Option<u64>,
    /// Those to others.
    helpers: Vec<(PeerId, u64)>,
    has_sought: bool,
}

impl Inquiry {
    /// One that begins now: about packets of `from`, or of this node.
    #[must_use]
    pub const fn new(address: IpAddr, from: Option<PeerId>, now: Instant) -> Self {
        Self { address, from, began: now, token: None, helpers: Vec::new(), has_sought: false }
    }

    /// The address that it is about.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    fn has_asked(&self, token: u64) -> bool {
        self.token == Some(token) || self.helpers.iter().any(|(_, asked)| *asked == token)
    }
}

/// How long a question was waited for.
enum Wait {
    Over,
    On,
}

impl Node {
    /// Goes on with an inquiry, and says what is known so far. Dials the member in question, as a packet for it would. `machine` is what
    /// this machine does with packets to the address.
    pub fn explain(&mut self, inquiry: &mut Inquiry, machine: MachineView, now: Instant) -> Explanation {
        let target = self.owner_of(inquiry.address);
        let mut explanation = self.blank(inquiry, target, now);
        match inquiry.from {
            None => self.explain_own(inquiry, &mut explanation, machine, now),
            Some(from) => self.explain_of(inquiry, from, &mut explanation, now),
        }
        explanation.is_final |= now - inquiry.began >= WHOLE;
        if explanation.is_final {
            self.questions.forget(|token| inquiry.has_asked(token));
        }
        explanation
    }

    /// Where an address lies, as this node sees it.
    #[must_use]
    pub fn route_of(&self, address: IpAddr) -> RouteView {
        self.route_view(address)
    }

    /// Whether packets to an address go to its owner as they are, by routes of the kernel.
    #[must_use]
    pub fn is_passed_by(&self, address: IpAddr) -> bool {
        self.owner_of(address).is_some_and(|id| !self.direct_gateways(id).is_empty())
    }

    fn blank(&self, inquiry: &Inquiry, target: Option<PeerId>, now: Instant) -> Explanation {
        let routes = &self.table.routes;
        let prefix = routes.covering(inquiry.address).map(|(net, _)| net);
        let nearest = routes.nearest(inquiry.address).filter(|_| prefix.is_none()).map(|(net, target)| match target {
            Target::Peer(id) | Target::Denied(id) => (net, Some(id)),
            Target::Local => (net, None),
        });
        Explanation {
            address: inquiry.address,
            from: inquiry.from,
            target,
            prefix,
            nearest,
            shared: self.shared_prefixes(now).into_iter().find(|shared| Some(shared.prefix) == prefix),
            near: Heard::Awaited,
            far: Heard::NotAsked,
            helper: None,
            mtu: self.settings.mtu,
            is_final: false,
        }
    }

    fn explain_own(&mut self, inquiry: &mut Inquiry, told: &mut Explanation, machine: MachineView, now: Instant) {
        let target = told.target;
        let is_allowed = target.and_then(|id| self.peer(id)).is_some_and(|peer| peer.permission.is_ok());
        let Some(id) = target.filter(|_| is_allowed) else {
            told.near = Heard::Says(self.view(inquiry.address, target, None, machine, now));
            told.is_final = true;
            return;
        };
        let elapsed = now - inquiry.began;
        let is_hopeless = self.is_hopeless(id) && !self.has_session(id);
        if inquiry.token.is_none() && !is_hopeless {
            let question = self.question(inquiry, Reach::Receiver, None);
            inquiry.token = self.ask_why(id, question, None, now);
        }
        let (far, wait) = match inquiry.token {
            Some(token) => self.heard(token, inquiry.began, ANSWER, now),
            None if is_hopeless => (Heard::Unreached, Wait::Over),
            None => no_room(inquiry, now),
        };
        told.far = far;
        let is_stuck = !self.is_reached(id, now) && (is_hopeless || elapsed >= ALONE);
        if is_stuck && !inquiry.has_sought {
            let key = self.key_of(id);
            self.seek_help(inquiry, id, WhyQuestion { key, ..self.question(inquiry, Reach::Onward, None) }, now);
        }
        let help = self.hear_helpers(inquiry, told, now);
        told.near = Heard::Says(self.view(inquiry.address, Some(id), None, machine, now));
        let is_asked = matches!(wait, Wait::Over) && (is_hopeless || self.is_reached(id, now) || elapsed >= CONNECT);
        told.is_final = is_asked && matches!(help, Wait::Over) && !self.may_relay_soon(told, id, now);
    }

    fn explain_of(&mut self, inquiry: &mut Inquiry, from: PeerId, told: &mut Explanation, now: Instant) {
        if self.peer(from).is_none_or(|peer| peer.permission.is_err()) {
            (told.near, told.is_final) = (Heard::Denied, true);
            return;
        }
        let elapsed = now - inquiry.began;
        if inquiry.token.is_none() {
            let question = self.question(inquiry, Reach::Onward, None);
            inquiry.token = self.ask_why(from, question, None, now);
        }
        let (near, wait) = match inquiry.token {
            Some(token) => self.heard(token, inquiry.began, ONWARD, now),
            None => no_room(inquiry, now),
        };
        told.near = near;
        if let Some(Standing::Answered(WhyAnswer { far, .. })) =
            inquiry.token.map(|token| self.questions.standing(token))
        {
            told.far = far.map_or(Heard::NotAsked, Heard::Says);
        }
        let is_stuck = !self.has_session(from) && elapsed >= ALONE && told.near.view().is_none();
        if is_stuck && !inquiry.has_sought {
            let question = self.question(inquiry, Reach::Receiver, None);
            self.seek_help(inquiry, from, question, now);
        }
        let help = self.hear_helpers(inquiry, told, now);
        told.is_final = matches!((wait, help), (Wait::Over, Wait::Over));
    }

    /// Whether a relay says that it reaches a peer that we do not reach: the next handshake goes there too.
    fn may_relay_soon(&self, told: &Explanation, id: PeerId, now: Instant) -> bool {
        let relay = told.helper.filter(|helper| self.peer(helper.peer).is_some_and(|peer| peer.is_relay));
        let reaches = relay.and_then(|relay| relay.near.view()).is_some_and(|view| view.session == SessionView::Up);
        reaches && !self.is_reached(id, now) && told.cause() == Cause::Undecided
    }

    fn question(&self, inquiry: &Inquiry, reach: Reach, source: Option<IpAddr>) -> WhyQuestion {
        WhyQuestion { token: 0, reach, source, destination: inquiry.address, key: None }
    }

    /// Whether a session is up, and a path of it answers.
    fn is_reached(&self, id: PeerId, now: Instant) -> bool {
        self.has_session(id) && self.peer_paths(id, now).iter().any(|path| path.state == crate::path::PathState::Active)
    }

    /// What came of a question, and whether to go on waiting.
    fn heard(&self, token: u64, began: Instant, patience: Duration, now: Instant) -> (Heard, Wait) {
        match self.questions.standing(token) {
            Standing::Answered(answer) => (Heard::Says(answer.near), Wait::Over),
            Standing::Sent(at) if now - at >= patience => (Heard::Silent, Wait::Over),
            Standing::Unsent if now - began >= CONNECT => (Heard::Unreached, Wait::Over),
            Standing::Sent(_) | Standing::Unsent => (Heard::Awaited, Wait::On),
            Standing::Unknown => (Heard::Unreached, Wait::Over),
        }
    }

    /// Asks members that may know more of `about`: its own connectors, ours, and relays that both may use.
    fn seek_help(&mut self, inquiry: &mut Inquiry, about: PeerId, question: WhyQuestion, now: Instant) {
        inquiry.has_sought = true;
        let Some(name) = self.peer_name(about).cloned() else { return };
        let own = self.settings.name.cluster().to_owned();
        let is_allowed = |id: &PeerId| *id != about && self.peer(*id).is_some_and(|peer| peer.permission.is_ok());
        let rank = |id: &PeerId| {
            let peer = self.peer(*id);
            let is_of = |cluster: &str| peer.is_some_and(|peer| peer.name.cluster() == cluster);
            let is_connector = peer.is_some_and(|peer| peer.kind == Kind::Connector);
            (!self.has_session(*id), !(is_connector && is_of(name.cluster())), !(is_connector && is_of(&own)))
        };
        let relays = self.relays_for(about, &name);
        let connectors =
            self.by_name.iter().filter(|id| self.peer(*id).is_some_and(|peer| peer.kind == Kind::Connector));
        let mut helpers: Vec<PeerId> = relays.into_iter().chain(connectors).chain(self.live.iter().copied()).collect();
        helpers.retain(|id| is_allowed(id) && (self.has_session(*id) || !self.is_hopeless(*id)));
        helpers.sort_by_key(|id| (rank(id), *id));
        helpers.dedup();
        for helper in helpers.into_iter().take(MAX_HELPERS) {
            let token = self.ask_why(helper, question, None, now);
            inquiry.helpers.extend(token.map(|token| (helper, token)));
        }
    }

    /// The helper that knows most.
    fn hear_helpers(&self, inquiry: &Inquiry, told: &mut Explanation, now: Instant) -> Wait {
        let mut is_over = true;
        for (peer, token) in &inquiry.helpers {
            let (near, wait) = self.heard(*token, inquiry.began, ONWARD, now);
            is_over &= matches!(wait, Wait::Over);
            let far = match self.questions.standing(*token) {
                Standing::Answered(answer) => answer.far,
                Standing::Unsent | Standing::Sent(_) | Standing::Unknown => None,
            };
            let knows = |near: Heard, far: Option<View>| {
                (far.is_some(), near.view().is_some_and(|view| view.route == RouteView::Peer), near.view().is_some())
            };
            let is_better = told.helper.is_none_or(|known| knows(near, far) > knows(known.near, known.far));
            if is_better {
                told.helper = Some(Helper { peer: *peer, near, far });
            }
        }
        if is_over { Wait::Over } else { Wait::On }
    }
}

/// A question that found no room: others end, so it is tried again for as long as a session would be waited for.
fn no_room(inquiry: &Inquiry, now: Instant) -> (Heard, Wait) {
    (Heard::Crowded, if now - inquiry.began >= CONNECT { Wait::Over } else { Wait::On })
}
