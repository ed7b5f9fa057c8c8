//! A line for each thing that a packet meets, until one ends its way.

use proto::explain::{Cause, Heard};
use proto::wire::{MachineView, PathView, PolicyView, RouteView, SelectionView, SessionView, View};

use super::story::Story;
use crate::api::why::{Mark, StepLine};
use crate::host::Way;

impl Story {
    /// What the packet meets, with who says so.
    pub(super) fn steps(&self, cause: Cause) -> Vec<StepLine> {
        let mut steps = Vec::new();
        let Some(near) = self.told.near.view() else {
            steps.push(line(&self.sender, "target", Mark::Unknown, unasked(self.told.near)));
            self.add_helper(&mut steps, cause);
            return steps;
        };
        let failed = step_of(cause);
        for (step, text) in self.of_sender(&near, cause) {
            let is_last = failed == Some(step) || (step == "session" && near.session != SessionView::Up);
            let decides = step == "path" || (step == "route" && self.shared.is_some());
            let mark = if is_last {
                Mark::Fails
            } else if decides {
                Mark::Decides
            } else {
                Mark::Ok
            };
            steps.push(line(&self.sender, step, mark, text));
            if is_last {
                break;
            }
        }
        if self.told.is_narrow() && cause.is_good() {
            let text = format!(
                "packets over {} bytes are answered \"too big\", or cut; the device takes {}",
                near.mtu, self.told.mtu
            );
            steps.push(line(&self.sender, "size", Mark::Decides, text));
        }
        self.add_detours(&mut steps, cause);
        if self.sender == self.own {
            steps.extend(self.drops.iter().map(|(reason, count)| {
                line(&self.own, "drops", Mark::Unknown, format!("{count} {reason} meanwhile, of whatever peer"))
            }));
        }
        if failed.is_none() && near.session == SessionView::Up {
            self.add_receiver(&mut steps, cause);
        }
        if !cause.is_good() {
            self.add_helper(&mut steps, cause);
        }
        steps
    }

    fn of_sender(&self, near: &View, cause: Cause) -> Vec<(&'static str, String)> {
        let mut steps = vec![("target", self.target(near))];
        if matches!(near.route, RouteView::Nobody | RouteView::Own | RouteView::Behind | RouteView::Withheld) {
            return steps;
        }
        steps.extend(self.shared.as_ref().map(|_| ("route", self.owners())));
        steps.push(("policy", self.policy(near)));
        if cause == Cause::NoCommunity {
            return steps;
        }
        steps.push(("machine", self.machine(near)));
        steps.push(("session", self.session(near, cause)));
        if near.session == SessionView::Up {
            steps.push(("path", self.path_text(near)));
        }
        steps
    }

    fn target(&self, near: &View) -> String {
        let (address, to) = (self.told.address, self.to());
        match near.route {
            RouteView::Own => format!("{address} is {}'s own address", self.sender),
            RouteView::Behind => format!("{address} is behind {} itself", self.sender),
            RouteView::Nobody if self.sender != self.own => format!("no member announces {address} by its mesh file"),
            RouteView::Nobody => match &self.nearest {
                Some((net, name)) => format!("no member announces {address}; the nearest is {net}, of {name}"),
                None => format!("no member announces {address}"),
            },
            RouteView::Withheld => format!("{} does not tell this node of others", self.sender),
            RouteView::Peer | RouteView::Untold => match self.told.prefix {
                Some(net) if net.prefix_len() == net.max_prefix_len() => format!("{address} is {to}"),
                Some(net) => format!("{address} is in {net}, behind {to}"),
                None => format!("{address} is somebody's by {}'s mesh file, and nobody's by this node's", self.sender),
            },
        }
    }

    fn owners(&self) -> String {
        let Some(shared) = &self.shared else { return String::new() };
        let owner = shared.owner.as_deref().unwrap_or("nobody");
        let others = shared.owners.iter().filter(|other| Some(&other.name) != shared.owner.as_ref());
        let told = others.map(|other| {
            let reason = other.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("{} (priority {}) is {}{reason}", other.name, other.priority, other.state)
        });
        let told: Vec<String> = told.collect();
        format!("of those that announce {}, {owner} has it; {}", shared.prefix, told.join("; "))
    }

    fn policy(&self, near: &View) -> String {
        let [ours, theirs] = &self.communities;
        let common = self.common();
        // What this node's mesh file says decides nothing elsewhere.
        let is_ours = self.sender == self.own;
        match near.policy {
            PolicyView::Community if !is_ours || common.is_empty() => "they share a community".to_owned(),
            PolicyView::Community => format!("both are in {}", common.join(", ")),
            PolicyView::NoCommunity if !is_ours => {
                format!("by its mesh file no community has both {} and {}", self.sender, self.to())
            }
            PolicyView::OwnConnector => "one is the connector of the other's cluster".to_owned(),
            PolicyView::Neighbour => "they hear each other on a LAN whose token counts as a community".to_owned(),
            PolicyView::NoCommunity => format!(
                "no community has both: {} is in {}, {} is in {}",
                self.sender,
                listed(ours),
                self.to(),
                listed(theirs)
            ),
            PolicyView::Untold => "not told".to_owned(),
        }
    }

    fn machine(&self, near: &View) -> String {
        let note =
            self.note.as_ref().filter(|_| self.sender == self.own).map(|note| format!(" ({note})")).unwrap_or_default();
        match (&self.way, near.machine) {
            (Way::By(interface), MachineView::Shadowed) if self.sender == self.own => {
                format!("the kernel sends {} by {interface}, not into {}{note}", self.told.address, self.interface)
            }
            (Way::Nowhere(error), MachineView::RouteMissing) if self.sender == self.own => {
                format!("the kernel has no route to {}: {error}{note}", self.told.address)
            }
            (Way::By(interface), MachineView::Good) if self.sender == self.own => {
                format!("the kernel sends to the neighbour by {interface}, past the tunnel")
            }
            (_, MachineView::Shadowed) => {
                "its kernel sends the address by another interface than the mesh's".to_owned()
            }
            (_, MachineView::RouteMissing) => "its kernel has no route to the address".to_owned(),
            (_, MachineView::Untold) => "not known: the node has no mesh address of that family".to_owned(),
            _ => "the kernel sends it into the mesh".to_owned(),
        }
    }

    fn session(&self, near: &View, cause: Cause) -> String {
        let tried = self.tried.as_ref().map(|tried| {
            let places = if tried.places.is_empty() { "relays".to_owned() } else { tried.places.join(", ") };
            format!("{} handshakes in {} s, to {places}", tried.count, tried.seconds)
        });
        let tried = tried.map(|tried| format!(": {tried}")).unwrap_or_default();
        match (near.session, cause) {
            (SessionView::Up, _) => "up".to_owned(),
            (_, Cause::PskDiffers) => format!("{} answers, and its answers cannot be read{tried}", self.to()),
            (_, Cause::NoPlace) => "no address is known to dial, and no relay".to_owned(),
            (_, Cause::Unresolved) => {
                format!("its name does not resolve: {}", self.unresolved.as_deref().unwrap_or("not yet"))
            }
            (SessionView::Lost, _) => format!("it was up, and nothing answers any more{tried}"),
            (SessionView::Idle | SessionView::Connecting | SessionView::Unanswered | SessionView::Untold, _) => {
                format!("no answer{tried}")
            }
        }
    }

    fn path_text(&self, near: &View) -> String {
        let kind = match near.path {
            PathView::Lan => "on the LAN",
            PathView::Direct | PathView::Untold => "direct",
            PathView::Relay => "through a relay",
            PathView::Tls => "through a relay, over TLS",
        };
        let named = self.path.clone().unwrap_or_else(|| kind.to_owned());
        let active = self.others.iter().find(|path| path.state == "active").filter(|_| self.sender == self.own);
        let loss = active
            .filter(|path| path.loss_per_mille > 0)
            .map(|path| format!(", {} % lost", path.loss_per_mille.div_ceil(10)));
        let rtt = self.told.rtt().map(|rtt| format!(", round trip {:.1} ms", rtt.as_secs_f64() * 1000.0));
        format!("{named}{}{}", rtt.unwrap_or_default(), loss.unwrap_or_default())
    }

    /// Why it is not a better path.
    fn add_detours(&self, steps: &mut Vec<StepLine>, cause: Cause) {
        if !matches!(cause, Cause::ReachableRelay | Cause::ReachableTls) || self.sender != self.own {
            return;
        }
        let failed = self.others.iter().filter(|path| path.via.is_none() && path.state != "active");
        for path in failed.take(4) {
            let problem = path.problem.as_deref().unwrap_or("works, and is not in use yet");
            steps.push(line(
                &self.own,
                "path",
                Mark::Unknown,
                format!("not {} {}: {problem}", path.kind, path.address),
            ));
        }
        if let Some(class) = self.nat.filter(|class| *class != "open") {
            steps.push(line(&self.own, "path", Mark::Unknown, format!("the NAT before this node is {class}")));
        }
    }

    fn add_receiver(&self, steps: &mut Vec<StepLine>, cause: Cause) {
        let to = self.to().to_owned();
        let Some(far) = self.told.far.view() else {
            steps.push(line(&to, "answer", Mark::Unknown, unasked(self.told.far)));
            return;
        };
        let mark = |is_bad| if is_bad { Mark::Fails } else { Mark::Ok };
        if far.policy != PolicyView::Untold {
            let text = match far.policy {
                PolicyView::NoCommunity => format!("its mesh file has no community with {}", self.sender),
                PolicyView::Community | PolicyView::OwnConnector | PolicyView::Neighbour | PolicyView::Untold => {
                    format!("it lets {} in", self.sender)
                }
            };
            steps.push(line(&to, "policy", mark(cause == Cause::DeniedThere), text));
        }
        let text = match far.machine {
            MachineView::ForwardingOff => format!("it does not forward, and {} is behind it", self.told.address),
            MachineView::NoWay => format!("its kernel has no route to {}, which it announces", self.told.address),
            MachineView::ReversePath => format!("rp_filter drops packets of {}", self.sender),
            MachineView::Good if far.route == RouteView::Behind => "it forwards to what is behind it".to_owned(),
            MachineView::Good => "the packet is for itself".to_owned(),
            MachineView::Shadowed | MachineView::RouteMissing | MachineView::Untold => return,
        };
        let is_bad = matches!(cause, Cause::ForwardingOff | Cause::NoWayThere | Cause::ReversePath);
        steps.push(line(&to, "machine", mark(is_bad), text));
    }

    /// What somebody else says of the two.
    fn add_helper(&self, steps: &mut Vec<StepLine>, cause: Cause) {
        let Some((helper, told)) = self.helper.as_ref().zip(self.told.helper) else { return };
        let Some(near) = told.near.view() else {
            steps.push(line(helper, "answer", Mark::Unknown, unasked(told.near)));
            return;
        };
        let to = self.to();
        let text = match near.session {
            SessionView::Up => format!("it has a session with {to}"),
            SessionView::Idle | SessionView::Untold => format!("it has no session with {to}"),
            SessionView::Connecting | SessionView::Unanswered | SessionView::Lost => {
                format!("{to} does not answer it either")
            }
        };
        steps.push(line(helper, "session", Mark::Ok, text));
        if near.key == proto::wire::KeyView::Differs {
            steps.push(line(
                helper,
                "answer",
                Mark::Fails,
                format!("its mesh file has another key of {to} than {}'s", self.sender),
            ));
        }
        let Some(far) = told.far else { return };
        let (mark, text) = match Cause::of_answer(&far) {
            Some(cause) => (Mark::Fails, refusal(cause, &self.sender)),
            None => (Mark::Unknown, format!("nothing speaks against {}", self.sender)),
        };
        let left_out = cause == Cause::OwnKeyDiffers && far.selection == SelectionView::Some;
        let left_out = if left_out { ", and it leaves some members of the mesh file out" } else { "" };
        steps.push(line(helper, "answer", mark, format!("{to} says: {text}{left_out}")));
    }
}

fn refusal(cause: Cause, sender: &str) -> String {
    let words = [
        (Cause::OwnKeyDiffers, "its mesh file has another key of {}, or none"),
        (Cause::DeniedThere, "its mesh file has no community with {}"),
        (Cause::ClockBehind, "it refuses handshakes of {}, whose clock went back"),
        (Cause::NoCommonCipher, "it has no cipher in common with {}"),
        (Cause::MeshNameDiffers, "it cannot read handshakes from where {} is"),
    ];
    let words = words.into_iter().find(|(of, _)| *of == cause).map_or("it gets nowhere with {}", |(_, words)| words);
    words.replace("{}", sender)
}

/// The step at which a cause ends a packet's way.
const fn step_of(cause: Cause) -> Option<&'static str> {
    Some(match cause {
        Cause::OwnAddress | Cause::Unannounced | Cause::SenderWithholds => "target",
        Cause::NoCommunity => "policy",
        Cause::RouteShadowed | Cause::RouteMissing => "machine",
        Cause::NoPlace
        | Cause::Unresolved
        | Cause::PeerKeyDiffers
        | Cause::OwnKeyDiffers
        | Cause::ClockBehind
        | Cause::PskDiffers
        | Cause::NoCommonCipher
        | Cause::MeshNameDiffers
        | Cause::UnansweredAlive
        | Cause::PeerDown
        | Cause::Unanswered
        | Cause::Lost
        | Cause::Undecided => "session",
        Cause::ReachableLan
        | Cause::ReachableDirect
        | Cause::ReachableRelay
        | Cause::ReachableTls
        | Cause::SenderDenied
        | Cause::SenderUnreached
        | Cause::SenderSilent
        | Cause::TooManyQuestions
        | Cause::DeniedThere
        | Cause::ForwardingOff
        | Cause::NoWayThere
        | Cause::ReversePath => return None,
    })
}

const fn unasked(heard: Heard) -> &'static str {
    match heard {
        Heard::NotAsked => "was not asked",
        Heard::Awaited => "has not answered yet",
        Heard::Unreached => "cannot be asked: no session",
        Heard::Denied => "cannot be asked: policy keeps it from this node",
        Heard::Crowded => "was not asked: too many questions of this node wait for answers",
        Heard::Silent => "does not answer such questions",
        Heard::Says(_) => "has answered",
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn line(side: &str, step: &str, mark: Mark, text: impl Into<String>) -> StepLine {
    StepLine { side: side.to_owned(), step: step.to_owned(), mark, text: text.into() }
}
