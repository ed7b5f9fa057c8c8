//! Asking members why packets do, or do not, get through, and being asked.
//!
//! A member is told what concerns packets between itself and this node, whoever it is: it has proven its key. About packets of a
//! third it is told only if policy lets it talk to this node, and then no more than the codes of a [`View`]: how this node
//! would send there, and how its session with that member does.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use rand_chacha::rand_core::Rng as _;

use super::Node;
use crate::event::Event;
use crate::id::{PeerId, PublicKey};
use crate::route::Target;
use crate::time::Instant;
use crate::wire::{Control, MachineView, Reach, RouteView, View, WhyAnswer, WhyQuestion};

/// Own questions that wait for answers: three of each explanation, of which operators ask for a few at a time. More are not asked.
const MAX_OWN: usize = 32;

/// Questions of peers that wait for what somebody else says. They take no place of an own one.
const MAX_ONWARD: usize = 16;

/// Those of one peer, so that it leaves places to others: it explains one thing after the other, mostly.
const MAX_ONWARD_EACH: usize = 4;

/// How long a peer's question waits for what somebody else says: three initiations.
const ONWARD: Duration = Duration::from_millis(3500);

/// How long an own question is remembered that nobody has asked to forget: longer than any explanation takes.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Sources of handshakes that could not be read; the oldest is forgotten for a new one.
const MAX_UNREADABLE: usize = 16;

/// How long such a source counts.
const UNREADABLE_FOR: Duration = Duration::from_secs(300);

/// What is asked and may be answered.
#[derive(Default)]
pub(super) struct Questions {
    waiting: Vec<Waiting>,
    /// Where initiations came from that do not decrypt, oldest first.
    unreadable: Vec<(SocketAddr, Instant)>,
}

struct Waiting {
    to: PeerId,
    question: WhyQuestion,
    made: Instant,
    /// `None`: when there is a session.
    sent: Option<Instant>,
    /// Who asked this node, with which question, and what the machine does.
    asker: Option<(PeerId, WhyQuestion, MachineView)>,
    answer: Option<WhyAnswer>,
}

/// How an own question stands.
pub(super) enum Standing {
    /// It waits for a session.
    Unsent,
    /// It was sent, then.
    Sent(Instant),
    /// It was answered.
    Answered(WhyAnswer),
    /// It was never asked, or is forgotten.
    Unknown,
}

impl Questions {
    /// Whether any waits, or is remembered.
    pub(super) const fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// An initiation from there does not decrypt.
    pub(super) fn note_unreadable(&mut self, source: SocketAddr, now: Instant) {
        self.unreadable.retain(|(known, at)| *known != source && now - *at < UNREADABLE_FOR);
        if self.unreadable.len() >= MAX_UNREADABLE {
            self.unreadable.remove(0);
        }
        self.unreadable.push((source, now));
    }

    /// Where initiations came from that do not decrypt.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = SocketAddr> {
        self.unreadable.iter().map(|(source, _)| *source)
    }

    /// Nobody waits for the answers to own questions of these tokens any more.
    pub(super) fn forget(&mut self, is_over: impl Fn(u64) -> bool) {
        self.waiting.retain(|waiting| waiting.asker.is_some() || !is_over(waiting.question.token));
    }

    /// Whether one more question may wait, an own one or one of a peer.
    fn has_room(&self, asker: Option<PeerId>) -> bool {
        let askers = || self.waiting.iter().map(|waiting| waiting.asker.as_ref().map(|(peer, ..)| *peer));
        let own = askers().filter(Option::is_none).count();
        match asker {
            None => own < MAX_OWN,
            Some(_) => {
                let of_its_own = askers().filter(|other| *other == asker).count();
                self.waiting.len() - own < MAX_ONWARD && of_its_own < MAX_ONWARD_EACH
            }
        }
    }

    pub(super) fn standing(&self, token: u64) -> Standing {
        let known = self.waiting.iter().find(|waiting| waiting.asker.is_none() && waiting.question.token == token);
        match known.map(|waiting| (waiting.answer, waiting.sent)) {
            None => Standing::Unknown,
            Some((Some(answer), _)) => Standing::Answered(answer),
            Some((None, Some(at))) => Standing::Sent(at),
            Some((None, None)) => Standing::Unsent,
        }
    }
}

impl Node {
    /// Asks a peer, after a handshake if there is no session; returns the token, or `None` where too many questions wait.
    pub(super) fn ask_why(
        &mut self,
        to: PeerId,
        question: WhyQuestion,
        asker: Option<(PeerId, WhyQuestion, MachineView)>,
        now: Instant,
    ) -> Option<u64> {
        if !self.questions.has_room(asker.as_ref().map(|(peer, ..)| *peer)) {
            return None;
        }
        let question = WhyQuestion { token: self.rng.next_u64(), ..question };
        let is_up = self.peer(to)?.current().is_some();
        let sent = is_up.then_some(now);
        self.questions.waiting.push(Waiting { to, question, made: now, sent, asker, answer: None });
        if is_up {
            self.send_control(to, &Control::WhyQuestion(question), now);
            self.doubt(to, now);
        } else {
            self.dial(to, now);
        }
        self.schedule_sweep(now);
        Some(question.token)
    }

    /// Probes the path in use at once: a session that has carried nothing for a while may be one with a dead peer.
    fn doubt(&mut self, id: PeerId, now: Instant) {
        if let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) {
            live.paths.touch(now);
            live.paths.question(now);
        }
        self.tend_paths(id, now);
    }

    /// Sends the questions that waited for the session; returns whether there were any.
    pub(super) fn send_waiting_questions(&mut self, id: PeerId, now: Instant) -> bool {
        let mut due = Vec::new();
        let unsent = |waiting: &&mut Waiting| waiting.to == id && waiting.sent.is_none();
        for waiting in self.questions.waiting.iter_mut().filter(unsent) {
            waiting.sent = Some(now);
            due.push(waiting.question);
        }
        due.iter().for_each(|question| self.send_control(id, &Control::WhyQuestion(*question), now));
        !due.is_empty()
    }

    /// Forgets what nobody waits for any more, and tells askers what there is.
    pub(super) fn expire_questions(&mut self, now: Instant) {
        let limit = |waiting: &Waiting| if waiting.asker.is_some() { ONWARD } else { REMEMBERED };
        let late = |waiting: &mut Waiting| now - waiting.made >= limit(waiting);
        let over: Vec<Waiting> = self.questions.waiting.extract_if(.., late).collect();
        for (asker, question, machine) in over.into_iter().filter_map(|waiting| waiting.asker) {
            self.tell_why(asker, &question, machine, None, now);
        }
    }

    pub(super) fn handle_why_question(&mut self, id: PeerId, question: WhyQuestion, now: Instant) {
        if self.peer_mut(id).is_some_and(|peer| peer.allowance.take_question(now)) {
            self.emit(Event::WhyAsked { peer: id, question });
        }
    }

    /// Answers an [`Event::WhyAsked`]; `machine` is what the machine does with packets to its destination. Asks the destination's owner
    /// first, where that was wished and policy lets this node.
    pub fn answer_why(&mut self, id: PeerId, question: &WhyQuestion, machine: MachineView, now: Instant) {
        let owner = self.owner_of(question.destination);
        let is_allowed = self.peer(id).is_some_and(|peer| peer.permission.is_ok());
        let onward = owner.filter(|owner| *owner != id && question.reach == Reach::Onward && is_allowed);
        let onward = onward.filter(|owner| self.peer(*owner).is_some_and(|peer| peer.permission.is_ok()));
        let asked = onward.filter(|owner| !self.is_hopeless(*owner) || self.has_session(*owner)).and_then(|owner| {
            let question_of_ours = self.question_about(id, question)?;
            self.ask_why(owner, question_of_ours, Some((id, *question, machine)), now)
        });
        if asked.is_none() {
            self.tell_why(id, question, machine, None, now);
        }
    }

    /// What the destination's owner is asked for a peer: about packets of that peer where it named its receiver's key, which it does
    /// when it means its own packets; otherwise about this node's.
    fn question_about(&self, asker: PeerId, question: &WhyQuestion) -> Option<WhyQuestion> {
        let (destination, reach) = (question.destination, Reach::Receiver);
        let about = |source, key| WhyQuestion { token: 0, reach, source, destination, key };
        match question.key {
            Some(_) => Some(about(Some(self.mesh_address(asker)?), Some(self.peer(asker)?.key))),
            None => Some(about(None, None)),
        }
    }

    pub(super) fn handle_why_answer(&mut self, id: PeerId, answer: WhyAnswer, now: Instant) {
        let is_its = |waiting: &&mut Waiting| waiting.to == id && waiting.question.token == answer.token;
        let Some(waiting) = self.questions.waiting.iter_mut().find(is_its) else { return };
        waiting.answer = Some(answer);
        if let Some((asker, question, machine)) = waiting.asker {
            self.questions.waiting.retain(|waiting| waiting.question.token != answer.token);
            self.tell_why(asker, &question, machine, Some(answer.near), now);
        }
    }

    fn tell_why(&mut self, id: PeerId, question: &WhyQuestion, machine: MachineView, far: Option<View>, now: Instant) {
        let near = self.view_for(id, question, machine, now);
        self.send_control(id, &Control::WhyAnswer(WhyAnswer { token: question.token, near, far }), now);
    }

    fn view_for(&self, asker: PeerId, question: &WhyQuestion, machine: MachineView, now: Instant) -> View {
        let is_here = self.owner_of(question.destination).is_none();
        let source = question.source.map(|source| self.owner_of(source));
        let other = match (is_here, source) {
            (false, _) => self.owner_of(question.destination),
            (true, None) => Some(asker),
            (true, Some(owner)) => owner,
        };
        let is_about_asker = is_here && other == Some(asker);
        if !is_about_asker && self.peer(asker).is_none_or(|peer| peer.permission.is_err()) {
            return View { route: RouteView::Withheld, ..View::default() };
        }
        self.view(question.destination, other, question.key.as_ref(), machine, now)
    }

    pub(super) fn has_session(&self, id: PeerId) -> bool {
        self.peer(id).is_some_and(|peer| peer.current().is_some())
    }

    /// The other member that has an address; `None` where it is nobody's, or here.
    pub(super) fn owner_of(&self, address: IpAddr) -> Option<PeerId> {
        match self.table.routes.lookup(address) {
            Some(Target::Peer(id) | Target::Denied(id)) => Some(id),
            Some(Target::Local) | None => None,
        }
    }

    /// A mesh address of a peer, IPv4 if it has one: that does not depend on its key.
    #[must_use]
    pub fn mesh_address(&self, id: PeerId) -> Option<IpAddr> {
        let all = self.table.routes.prefixes_of(id);
        let mut hosts = all.iter().filter(|net| net.prefix_len() == net.max_prefix_len()).map(IpNet::addr);
        hosts.next()
    }

    /// The key in a peer's record.
    pub(super) fn key_of(&self, id: PeerId) -> Option<PublicKey> {
        self.peer(id).map(|peer| peer.key)
    }

    /// Forgets what a peer asked and was to be asked, for it is gone; who asked by way of this node is told what there is.
    pub(super) fn forget_questions(&mut self, id: PeerId, now: Instant) {
        let is_of = |waiting: &mut Waiting| waiting.to == id || waiting.asker.is_some_and(|(asker, ..)| asker == id);
        let over: Vec<Waiting> = self.questions.waiting.extract_if(.., is_of).collect();
        for (asker, question, machine) in over.into_iter().filter_map(|waiting| waiting.asker) {
            if asker != id {
                self.tell_why(asker, &question, machine, None, now);
            }
        }
    }
}
