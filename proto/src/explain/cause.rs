//! The one thing that decides, in the order in which a packet meets them.

use super::{Explanation, Heard};
use crate::wire::{KeyView, MachineView, PathView, PolicyView, RouteView, SessionView, TroubleView, View};

/// Whose business a cause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The sender's: this node, or the one that was named as such.
    Near,
    /// The receiver's.
    Far,
    /// Both must change something, or nobody can tell which of them.
    Both,
    /// What is between them.
    Between,
}

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident => $name:literal, $side:ident;)*) => {
        /// What decides whether packets get through.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Cause {
            $($(#[$doc])* $variant,)*
        }

        impl Cause {
            /// Every cause.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in the API, which never changes.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Who has to look after it.
            #[must_use]
            pub const fn side(self) -> Side {
                match self {
                    $(Self::$variant => Side::$side,)*
                }
            }
        }
    };
}

causes! {
    /// They get through, on the LAN.
    ReachableLan => "reachable_lan", Between;
    /// They get through, directly.
    ReachableDirect => "reachable_direct", Between;
    /// They get through a relay.
    ReachableRelay => "reachable_relay", Between;
    /// They get through a relay, over TLS.
    ReachableTls => "reachable_tls", Between;
    /// The address is the sender's own, or behind it: the mesh has no part in it.
    OwnAddress => "own_address", Near;
    /// The sender cannot be asked: policy keeps it from this node.
    SenderDenied => "sender_denied", Near;
    /// The sender cannot be asked: no session.
    SenderUnreached => "sender_unreached", Near;
    /// The sender does not answer such questions.
    SenderSilent => "sender_silent", Near;
    /// The sender does not tell.
    SenderWithholds => "sender_withholds", Near;
    /// No member announces the address.
    Unannounced => "unannounced_address", Both;
    /// No community has both.
    NoCommunity => "no_community", Both;
    /// The sender's machine has another route for the address.
    RouteShadowed => "route_shadowed", Near;
    /// The sender's machine has no route for the address.
    RouteMissing => "route_missing", Near;
    /// The sender knows no place where the receiver may be dialled, and no relay.
    NoPlace => "no_address", Far;
    /// The receiver's public address does not resolve.
    Unresolved => "name_unresolved", Near;
    /// The sender's record of the receiver has another key than the receiver.
    PeerKeyDiffers => "peer_key_differs", Near;
    /// The receiver's record of the sender has another key than the sender, or it has no such record.
    OwnKeyDiffers => "own_key_differs", Far;
    /// The receiver's mesh file has no community with the sender.
    DeniedThere => "denied_there", Far;
    /// The receiver refuses the sender's timestamps.
    ClockBehind => "clock_behind", Near;
    /// The two have different pre-shared keys.
    PskDiffers => "psk_differs", Both;
    /// The two offer no common cipher.
    NoCommonCipher => "no_common_cipher", Both;
    /// The two have different mesh names.
    MeshNameDiffers => "mesh_name_differs", Both;
    /// The receiver answers others, and not the sender.
    UnansweredAlive => "unanswered_but_alive", Between;
    /// The receiver answers neither the sender nor another member.
    PeerDown => "peer_down", Far;
    /// The receiver does not answer, and nobody could be asked about it.
    Unanswered => "unanswered", Between;
    /// There was a session, and nothing answers any more.
    Lost => "lost", Between;
    /// The receiver's machine does not forward.
    ForwardingOff => "forwarding_off", Far;
    /// The receiver's machine has no route to what it announces.
    NoWayThere => "no_way_there", Far;
    /// The receiver's machine drops what comes in, for want of a symmetric route.
    ReversePath => "reverse_path", Far;
    /// Nobody was asked: too many questions of this node wait for answers.
    TooManyQuestions => "too_many_questions", Between;
    /// It is not known yet.
    Undecided => "undecided", Between;
}

impl Cause {
    /// Whether packets get through.
    #[must_use]
    pub const fn is_good(self) -> bool {
        matches!(self, Self::ReachableLan | Self::ReachableDirect | Self::ReachableRelay | Self::ReachableTls)
    }

    /// Why a receiver refuses a sender, by its own words; `None`: it does not.
    #[must_use]
    pub fn of_answer(far: &View) -> Option<Self> {
        of_refusal(far)
    }
}

impl Explanation {
    /// What decides.
    #[must_use]
    pub fn cause(&self) -> Cause {
        let near = match self.near {
            Heard::Says(view) => view,
            Heard::Denied => return Cause::SenderDenied,
            Heard::Unreached => return Cause::SenderUnreached,
            Heard::Silent => return Cause::SenderSilent,
            Heard::Crowded => return Cause::TooManyQuestions,
            Heard::NotAsked | Heard::Awaited => return Cause::Undecided,
        };
        of_sender(&near).unwrap_or_else(|| match near.session {
            SessionView::Up => self.far.view().as_ref().and_then(of_receiver).unwrap_or_else(|| reachable(near.path)),
            SessionView::Idle
            | SessionView::Connecting
            | SessionView::Unanswered
            | SessionView::Lost
            | SessionView::Untold => self.of_silence(&near),
        })
    }

    /// There is no session: who knows why?
    fn of_silence(&self, near: &View) -> Cause {
        let helper = self.helper.as_ref();
        let told = helper.and_then(|helper| helper.near.view());
        let far = self.far.view().or(helper.and_then(|helper| helper.far));
        let of_near = of_trouble(near.trouble).filter(|cause| *cause != Cause::NoPlace);
        of_near
            .or_else(|| told.filter(|view| view.key == KeyView::Differs).map(|_| Cause::PeerKeyDiffers))
            .or_else(|| far.as_ref().and_then(of_refusal))
            .or_else(|| of_trouble(near.trouble))
            .unwrap_or_else(|| match (told.map(|view| view.session), near.session) {
                _ if !self.is_final => Cause::Undecided,
                (None, _) if self.far == Heard::Crowded => Cause::TooManyQuestions,
                (Some(SessionView::Up), _) => Cause::UnansweredAlive,
                // It has tried for as long as its answer took.
                (Some(SessionView::Connecting | SessionView::Unanswered | SessionView::Lost), _) => Cause::PeerDown,
                (_, SessionView::Lost) => Cause::Lost,
                (_, SessionView::Idle | SessionView::Connecting | SessionView::Unanswered) => Cause::Unanswered,
                (_, SessionView::Up | SessionView::Untold) => Cause::Undecided,
            })
    }
}

/// What keeps packets from leaving.
fn of_sender(near: &View) -> Option<Cause> {
    match near.route {
        RouteView::Own | RouteView::Behind => return Some(Cause::OwnAddress),
        RouteView::Nobody => return Some(Cause::Unannounced),
        RouteView::Withheld => return Some(Cause::SenderWithholds),
        RouteView::Peer | RouteView::Untold => {}
    }
    match (near.policy, near.machine) {
        (PolicyView::NoCommunity, _) => Some(Cause::NoCommunity),
        (_, MachineView::Shadowed) => Some(Cause::RouteShadowed),
        (_, MachineView::RouteMissing) => Some(Cause::RouteMissing),
        (
            _,
            MachineView::Good
            | MachineView::ForwardingOff
            | MachineView::NoWay
            | MachineView::ReversePath
            | MachineView::Untold,
        ) => None,
    }
}

/// What keeps packets from arriving, though there is a session.
fn of_receiver(far: &View) -> Option<Cause> {
    match (far.policy, far.machine) {
        (PolicyView::NoCommunity, _) => Some(Cause::DeniedThere),
        (_, MachineView::ForwardingOff) => Some(Cause::ForwardingOff),
        (_, MachineView::NoWay) => Some(Cause::NoWayThere),
        (_, MachineView::ReversePath) => Some(Cause::ReversePath),
        (_, MachineView::Good | MachineView::Shadowed | MachineView::RouteMissing | MachineView::Untold) => None,
    }
}

/// Why a receiver refuses a sender's handshakes.
fn of_refusal(far: &View) -> Option<Cause> {
    match (far.key, far.policy, far.trouble) {
        (KeyView::Differs | KeyView::NoRecord, ..) | (_, _, TroubleView::Stranger) => Some(Cause::OwnKeyDiffers),
        (_, PolicyView::NoCommunity, _) => Some(Cause::DeniedThere),
        (_, _, trouble) => of_trouble(trouble).filter(|cause| !matches!(cause, Cause::NoPlace | Cause::Unresolved)),
    }
}

const fn of_trouble(trouble: TroubleView) -> Option<Cause> {
    match trouble {
        TroubleView::Untold | TroubleView::None => None,
        TroubleView::Denied => Some(Cause::DeniedThere),
        TroubleView::OldTimestamp => Some(Cause::ClockBehind),
        TroubleView::NoCipher => Some(Cause::NoCommonCipher),
        TroubleView::Psk => Some(Cause::PskDiffers),
        TroubleView::Unreadable => Some(Cause::MeshNameDiffers),
        TroubleView::Stranger => Some(Cause::OwnKeyDiffers),
        TroubleView::OtherKey => Some(Cause::PeerKeyDiffers),
        TroubleView::NoPlace => Some(Cause::NoPlace),
        TroubleView::Unresolved => Some(Cause::Unresolved),
    }
}

const fn reachable(path: PathView) -> Cause {
    match path {
        PathView::Lan => Cause::ReachableLan,
        PathView::Direct | PathView::Untold => Cause::ReachableDirect,
        PathView::Relay => Cause::ReachableRelay,
        PathView::Tls => Cause::ReachableTls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::Helper;
    use crate::id::PeerId;

    fn explanation(near: View) -> Explanation {
        Explanation {
            address: "10.99.0.2".parse().unwrap(),
            from: None,
            target: Some(PeerId(1)),
            prefix: None,
            nearest: None,
            shared: None,
            near: Heard::Says(near),
            far: Heard::NotAsked,
            helper: None,
            mtu: 1420,
            is_final: true,
        }
    }

    fn sender() -> View {
        View {
            route: RouteView::Peer,
            policy: PolicyView::Community,
            session: SessionView::Unanswered,
            trouble: TroubleView::None,
            machine: MachineView::Good,
            ..View::default()
        }
    }

    fn helped(near: View, far: Option<View>) -> Explanation {
        let helper = Helper { peer: PeerId(2), near: Heard::Says(near), far };
        Explanation { helper: Some(helper), ..explanation(sender()) }
    }

    #[test]
    fn what_the_packet_meets_first_decides() {
        let all = View {
            route: RouteView::Peer,
            policy: PolicyView::NoCommunity,
            machine: MachineView::Shadowed,
            trouble: TroubleView::Psk,
            session: SessionView::Unanswered,
            ..View::default()
        };
        let mut near = View { route: RouteView::Nobody, ..all };
        assert_eq!(explanation(near).cause(), Cause::Unannounced);
        near.route = RouteView::Peer;
        assert_eq!(explanation(near).cause(), Cause::NoCommunity);
        near.policy = PolicyView::Community;
        assert_eq!(explanation(near).cause(), Cause::RouteShadowed);
        near.machine = MachineView::Good;
        assert_eq!(explanation(near).cause(), Cause::PskDiffers);
        near.trouble = TroubleView::None;
        assert_eq!(explanation(near).cause(), Cause::Unanswered);
    }

    #[test]
    fn with_a_session_only_the_receiver_can_be_in_the_way_and_its_silence_is_no_reason() {
        let up = View { session: SessionView::Up, path: PathView::Relay, ..sender() };
        let heard = |far| Explanation { far, ..explanation(up) }.cause();
        assert_eq!(heard(Heard::Silent), Cause::ReachableRelay);
        assert_eq!(heard(Heard::Says(View::default())), Cause::ReachableRelay);
        let off = View { machine: MachineView::ForwardingOff, ..View::default() };
        assert_eq!(heard(Heard::Says(off)), Cause::ForwardingOff);
        let denied = View { policy: PolicyView::NoCommunity, ..off };
        assert_eq!(heard(Heard::Says(denied)), Cause::DeniedThere);
    }

    #[test]
    fn a_question_that_found_no_room_is_no_silence_of_anybody() {
        let idle = View { session: SessionView::Idle, ..sender() };
        assert_eq!(Explanation { far: Heard::Crowded, ..explanation(idle) }.cause(), Cause::TooManyQuestions);
        assert_eq!(Explanation { near: Heard::Crowded, ..explanation(idle) }.cause(), Cause::TooManyQuestions);
        let psk = View { trouble: TroubleView::Psk, ..idle };
        assert_eq!(Explanation { far: Heard::Crowded, ..explanation(psk) }.cause(), Cause::PskDiffers);
        let up = View { session: SessionView::Up, path: PathView::Relay, ..sender() };
        assert_eq!(Explanation { far: Heard::Crowded, ..explanation(up) }.cause(), Cause::ReachableRelay);
    }

    #[test]
    fn a_third_member_tells_a_wrong_key_here_from_one_there_and_a_dead_peer_from_a_closed_way() {
        let up = View { session: SessionView::Up, key: KeyView::Same, ..View::default() };
        assert_eq!(helped(View { key: KeyView::Differs, ..up }, None).cause(), Cause::PeerKeyDiffers);
        let far = |far| helped(up, Some(far)).cause();
        assert_eq!(far(View { key: KeyView::Differs, ..View::default() }), Cause::OwnKeyDiffers);
        assert_eq!(far(View { trouble: TroubleView::OldTimestamp, ..View::default() }), Cause::ClockBehind);
        assert_eq!(far(View { policy: PolicyView::NoCommunity, ..View::default() }), Cause::DeniedThere);
        assert_eq!(far(View { trouble: TroubleView::None, ..View::default() }), Cause::UnansweredAlive);
        assert_eq!(helped(up, None).cause(), Cause::UnansweredAlive);
        assert_eq!(helped(View { session: SessionView::Unanswered, ..up }, None).cause(), Cause::PeerDown);
    }

    #[test]
    fn every_cause_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.name()).collect();
        assert_eq!(names.len(), Cause::ALL.len());
    }
}
