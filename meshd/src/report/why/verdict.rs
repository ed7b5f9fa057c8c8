//! The one sentence that says what decides, and what to do about it.

use proto::explain::Cause;
use proto::wire::{PolicyView, SelectionView};

use super::story::Story;
use crate::host::Way;

impl Story {
    /// What decides, in words.
    pub(super) fn verdict(&self, cause: Cause) -> String {
        let (of, to, address) = (self.of(), self.to(), self.told.address);
        let mtu = self.told.near.view().map_or(0, |view| view.mtu);
        let narrow = if self.told.is_narrow() {
            format!("; those over {mtu} bytes are answered \"too big\"")
        } else {
            String::new()
        };
        match cause {
            Cause::ReachableLan => format!("packets from {of} reach the machine of {to} on the LAN{narrow}"),
            Cause::ReachableDirect => format!("packets from {of} reach the machine of {to} directly{narrow}"),
            Cause::ReachableRelay => format!("packets from {of} reach the machine of {to} through a relay{narrow}"),
            Cause::ReachableTls => {
                format!("packets from {of} reach the machine of {to} through a relay over TLS{narrow}")
            }
            Cause::OwnAddress => format!("{address} is {of}'s own, or behind it: the mesh has no part in it"),
            Cause::SenderDenied => format!("{of} cannot be asked: policy keeps it from this node"),
            Cause::SenderUnreached => format!("{of} cannot be asked: this node has no session with it"),
            Cause::SenderSilent => format!("{of} does not answer such questions"),
            Cause::SenderWithholds => format!("{of} does not let this node in, and tells it nothing of others"),
            Cause::Unannounced => format!("no member announces {address}, by the mesh file of {}", self.sender),
            Cause::NoCommunity => {
                format!("by the mesh file of {of} no community has both {} and {to}", self.sender)
            }
            Cause::RouteShadowed => match &self.way {
                Way::By(interface) if self.sender == self.own => {
                    format!("this machine's own route for {address}, by {interface}, wins over the mesh's")
                }
                Way::By(_) | Way::Mesh | Way::Nowhere(_) | Way::Unknown => {
                    format!("the machine of {of} has a route of its own for {address}, which wins over the mesh's")
                }
            },
            Cause::RouteMissing => format!("the machine of {of} has no route into the mesh for {address}"),
            Cause::NoPlace => format!("{of} knows no address at which {to} could be dialled, and there is no relay"),
            Cause::Unresolved => format!("the public address of {to} does not resolve at {of}"),
            Cause::PeerKeyDiffers => format!("the mesh file of {of} has a wrong public key of {to}"),
            Cause::OwnKeyDiffers => format!("the mesh file of {to} has a wrong public key of {}, or none", self.sender),
            Cause::DeniedThere => {
                format!("{to} does not let {} in: its mesh file has no community with both", self.sender)
            }
            Cause::ClockBehind => {
                format!(
                    "{to} refuses the handshakes of {of}: they are dated before earlier ones, so the clock of {of} went back"
                )
            }
            Cause::PskDiffers => format!("{to} answers with another pre-shared key than that of {of}"),
            Cause::NoCommonCipher => format!("{of} and {to} offer no common cipher"),
            Cause::MeshNameDiffers => {
                format!(
                    "handshakes from where {to} is come to {of} and cannot be read: the two have different mesh names"
                )
            }
            Cause::UnansweredAlive => format!(
                "{to} is up and answers {}, but not {of}: UDP between the two is blocked, or one of them is reached at \
                 another address",
                self.helper.as_deref().unwrap_or("others")
            ),
            Cause::PeerDown => format!(
                "{to} answers neither {of} nor {}: it is down, or cut off",
                self.helper.as_deref().unwrap_or("others")
            ),
            Cause::Unanswered => format!(
                "{to} does not answer {of}, and nobody could be asked about it: it is down, UDP is blocked on the way, its \
                 address is wrong, or one mesh file has a wrong key, community or mesh name"
            ),
            Cause::Lost => format!("the session with {to} was up, and nothing comes from it any more"),
            Cause::ForwardingOff => format!("{to} announces {address} and does not forward packets"),
            Cause::NoWayThere => format!("{to} announces {address}, and its machine has no route there"),
            Cause::ReversePath => {
                format!("{to} drops packets of {}: its way back does not lead into the mesh (rp_filter)", self.sender)
            }
            Cause::TooManyQuestions => {
                format!("nobody was asked: too many questions of {} wait for answers", self.own)
            }
            Cause::Undecided => "this is not known yet".to_owned(),
        }
    }

    /// One command to try, or the very line to add, and where.
    pub(super) fn next(&self, cause: Cause) -> Option<String> {
        let (sender, to, of) = (&self.sender, self.to(), self.of());
        let v6 = self.told.address.is_ipv6();
        let again = |at: &str, target: &str| format!("on {at}: meshd why {target}");
        Some(match cause {
            Cause::ReachableLan | Cause::ReachableDirect => self.firewall(),
            Cause::ReachableRelay | Cause::ReachableTls => {
                format!("meshd ping {to} --until-direct    # whether a direct way opens\n{}", self.firewall())
            }
            Cause::OwnAddress => format!("ip route get {}", self.told.address),
            Cause::SenderDenied | Cause::SenderSilent => again(sender, &self.wanted),
            Cause::SenderUnreached | Cause::SenderWithholds => format!("meshd why {sender}"),
            Cause::Unannounced => self.announcement(cause),
            Cause::NoCommunity if self.lacks_ours(cause) => format!(
                "copy the mesh file of this node to {sender}, then meshd reload there: by it both are in {}",
                self.common().join(", ")
            ),
            Cause::NoCommunity if self.told.far.view().is_some_and(|far| far.policy == PolicyView::NoCommunity) => {
                format!("in the mesh file of both:{}", self.stanza())
            }
            Cause::NoCommunity => {
                format!("in the mesh file of {sender}, and in that of {to} if it has none either:{}", self.stanza())
            }
            Cause::DeniedThere => format!("in the mesh file of {to}:{}", self.stanza()),
            Cause::RouteShadowed => {
                let instead = match self.told.prefix {
                    Some(net) if net.prefix_len() < net.max_prefix_len() => format!("narrow {net} of {to}"),
                    Some(_) | None => format!("give {to} another address"),
                };
                format!("on {sender}: remove or move that route; or {instead} in the mesh file")
            }
            Cause::RouteMissing => format!("on {sender}: ip route get {}", self.told.address),
            Cause::NoPlace => format!(
                "in the mesh file, at the endpoint {to} or {sender}: public_addresses = [ \"ADDRESS\" ]; or add a connector \
                 that both can dial"
            ),
            Cause::Unresolved => format!("on {sender}: getent hosts {}", self.unresolved_host()),
            Cause::PeerKeyDiffers => format!(
                "on {to}: meshd key show    # and put that into the mesh file of {of}, which has {}",
                self.key.as_deref().unwrap_or("another")
            ),
            Cause::OwnKeyDiffers => {
                let told = self.told.helper.and_then(|helper| helper.far).or(self.told.far.view());
                if told.is_some_and(|view| view.selection == SelectionView::Some) {
                    format!(
                        "in the mesh file of {to}: give {sender} the labels of [selector], or correct its public_key"
                    )
                } else if *sender == self.own {
                    format!("in the mesh file of {to}, at the endpoint {sender}: public_key = \"{}\"", self.own_key)
                } else {
                    format!("on {sender}: meshd key show    # and put that into the mesh file of {to}")
                }
            }
            Cause::ClockBehind => format!("on {sender}: set the clock right, or restart meshd on {to}"),
            Cause::PskDiffers => format!("compare the file that psk_file in meshd.toml names, on {sender} and on {to}"),
            Cause::NoCommonCipher => format!("compare cipher in [dataplane] of meshd.toml, on {sender} and on {to}"),
            Cause::MeshNameDiffers => {
                format!(
                    "compare name in [mesh] of the mesh file, on {to} and on {sender} (where it is {:?})",
                    self.mesh
                )
            }
            Cause::UnansweredAlive => again(to, sender),
            // What runs there may not know this node, or not run.
            Cause::PeerDown | Cause::Unanswered | Cause::Lost => format!("on {to}: meshd status; meshd doctor"),
            Cause::ForwardingOff => {
                let key = if v6 { "net.ipv6.conf.all.forwarding" } else { "net.ipv4.ip_forward" };
                format!("on {to}: sysctl -w {key}=1")
            }
            Cause::NoWayThere => format!("on {to}: ip route get {}", self.told.address),
            Cause::ReversePath => format!("on {to}: sysctl -w net.ipv4.conf.all.rp_filter=2"),
            Cause::TooManyQuestions => format!("in a few seconds: meshd why {}", self.wanted),
            Cause::Undecided => again(sender, &self.wanted),
        })
    }

    fn stanza(&self) -> String {
        format!("\n  [[community]]\n  name = \"NAME\"\n  members = [ {:?}, {:?} ]", self.sender, self.to())
    }

    /// Who lets in is told; whether the machine there drops the packet all the same is not.
    fn firewall(&self) -> String {
        format!(
            "on {}: meshd doctor    # where nothing answers all the same: its own firewall was not asked",
            self.to()
        )
    }

    /// What makes an address known that nobody announces.
    fn announcement(&self, cause: Cause) -> String {
        if self.lacks_ours(cause) {
            let (sender, to, address) = (&self.sender, self.to(), self.told.address);
            return format!(
                "the mesh file of {sender} lacks {address} of {to}: copy that of this node there, then meshd reload there"
            );
        }
        match self.room.zip(self.nearest.as_ref()) {
            Some((net, (_, owner))) => format!("in the mesh file, at the endpoint {owner}: subnets = [ \"{net}\" ]"),
            None => "in the mesh file, at the endpoint of the gateway before it: subnets = [ \"PREFIX\" ]".to_owned(),
        }
    }

    fn unresolved_host(&self) -> &str {
        self.unresolved.as_deref().and_then(|text| text.split(':').next()).unwrap_or("NAME")
    }
}
