//! What follows from what was found: one sentence, and what could be done.

use std::net::SocketAddr;

use crate::api::model::Mode;
use crate::api::netcheck::NetCheck;

/// One sentence for a person, and what could be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) text: String,
    pub(super) hints: Vec<String>,
}

/// Where this node stands, as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// Nobody has seen it.
    Unseen,
    /// Others see its own address.
    Open,
    /// Behind a NAT, of which too few have seen it to know more.
    Behind,
    /// Behind a NAT with one outer port for all destinations.
    OnePort,
    /// Behind a NAT with another outer port for each destination.
    ManyPorts,
}

/// Judges what was found. `class` is the NAT's, where the daemon knows it.
pub(super) fn of(net: &NetCheck, class: Option<&str>) -> Verdict {
    if net.mode == Mode::NotSelected {
        let text = "not selected: nothing runs, so nothing is known";
        return Verdict { text: text.to_owned(), hints: Vec::new() };
    }
    let stand = stand(net, class);
    Verdict { text: text(net, stand), hints: hints(net, stand) }
}

/// Every address at which somebody sees this node, and who.
pub(super) fn sightings(net: &NetCheck) -> impl Iterator<Item = (SocketAddr, &str)> {
    let peers = net.observed.iter().filter_map(|seen| Some((seen.address.parse().ok()?, seen.by.as_str())));
    let servers = &net.outside.stun_servers;
    peers.chain(servers.iter().filter_map(|line| Some((line.address.as_ref()?.parse().ok()?, line.server.as_str()))))
}

fn stand(net: &NetCheck, class: Option<&str>) -> Stand {
    match class {
        Some("open") => return Stand::Open,
        Some("endpoint-independent") => return Stand::OnePort,
        Some("sequential" | "random") => return Stand::ManyPorts,
        Some(_) | None => {}
    }
    let all: Vec<SocketAddr> = sightings(net).map(|(address, _)| address).collect();
    // NATs are IPv4's; who has IPv6 only is asked for that.
    let v4: Vec<SocketAddr> = all.iter().copied().filter(SocketAddr::is_ipv4).collect();
    let seen = if v4.is_empty() { all } else { v4 };
    let Some(first) = seen.first() else { return Stand::Unseen };
    let is_local = |address: &SocketAddr| net.local_addresses.contains(&address.ip().to_string());
    if seen.iter().all(is_local) {
        Stand::Open
    } else if seen.iter().any(|other| other.ip() == first.ip() && other.port() != first.port()) {
        Stand::ManyPorts
    } else if seen.len() > 1 && seen.iter().all(|other| other == first) {
        Stand::OnePort
    } else {
        Stand::Behind
    }
}

fn mapped(net: &NetCheck) -> Option<&str> {
    let public = net.outside.gateways.iter().find(|gateway| gateway.is_public && gateway.external.is_some());
    public.and_then(|gateway| gateway.external.as_deref())
}

fn text(net: &NetCheck, stand: Stand) -> String {
    if net.udp.is_none() {
        return "Nothing outside answers over UDP: either nobody was asked yet, or UDP is blocked on the way."
            .to_owned();
    }
    if let Some(external) = mapped(net) {
        return format!("UDP passes, and the gateway passes {external} on to this node: others can reach it directly.");
    }
    match stand {
        Stand::Open => {
            "UDP passes, and there is no NAT before this node: others can reach it directly unless a firewall \
                        keeps them out."
                .to_owned()
        }
        Stand::OnePort => {
            "UDP passes, behind a NAT with one outer port for all destinations: direct paths to most others \
                           are possible."
                .to_owned()
        }
        Stand::ManyPorts => {
            "UDP passes, behind a NAT with another outer port for each destination: direct paths to nodes \
                             that can be dialled or have an easier NAT; the rest is relayed."
                .to_owned()
        }
        Stand::Behind => "UDP passes, behind a NAT of which too little was seen to say more.".to_owned(),
        Stand::Unseen => "UDP passes; nobody has said yet where this node is seen from outside.".to_owned(),
    }
}

fn hints(net: &NetCheck, stand: Stand) -> Vec<String> {
    let mut hints = Vec::new();
    let is_reachable = stand == Stand::Open || mapped(net).is_some() || !net.public_addresses.is_empty();
    if net.udp.is_none() {
        hints.push(format!(
            "let UDP out from port {} of this machine, and its answers in; `meshd ping NAME` makes a session to look at",
            net.port
        ));
    } else if !is_reachable {
        hints.push(format!(
            "to be reached directly by everybody: turn on PCP or UPnP in the router, or pass its UDP port {0} on to port {0} \
             of this machine and name it in public_addresses",
            net.port
        ));
    } else if !net.public_addresses.is_empty() {
        let addresses = net.public_addresses.join(", ");
        hints.push(format!("others dial {addresses}: a firewall on the way must let UDP in there"));
    }
    if net.outside.gateways.iter().any(|gateway| gateway.external.is_some() && !gateway.is_public) {
        hints.push("the gateway stands behind another NAT, so its mapping helps nobody outside of that".to_owned());
    }
    if matches!(stand, Stand::Unseen | Stand::Behind) && net.outside.stun_servers.is_empty() {
        hints
            .push("sessions with more members, or [nat] stun_servers, would tell what kind of NAT there is".to_owned());
    }
    let has_relay = net.relays.iter().any(|relay| relay.path.is_some());
    if !net.relays.is_empty() && !has_relay && !is_reachable {
        hints
            .push("there is no session with a relay: who cannot reach this node directly does not reach it".to_owned());
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::super::tests::net;
    use super::*;

    #[test]
    fn where_the_node_stands_follows_from_who_sees_it_where_and_from_the_class_if_that_is_known() {
        let cases: [(&[(&str, &str)], Stand); 6] = [
            (&[], Stand::Unseen),
            (&[("a.b", "192.168.1.4:6374")], Stand::Open),
            (&[("a.b", "198.51.100.1:40001")], Stand::Behind),
            (&[("a.b", "198.51.100.1:40001"), ("c.d", "198.51.100.1:40001")], Stand::OnePort),
            (&[("a.b", "198.51.100.1:40001"), ("c.d", "198.51.100.1:40002")], Stand::ManyPorts),
            (&[("a.b", "198.51.100.1:40001"), ("c.d", "[2001:db8::1]:6374")], Stand::Behind),
        ];
        for (seen, wanted) in cases {
            assert_eq!(stand(&net(seen), None), wanted, "{seen:?}");
        }
        assert_eq!(stand(&net(&[("a.b", "198.51.100.1:40001")]), Some("random")), Stand::ManyPorts);
        assert_eq!(stand(&net(&[]), Some("open")), Stand::Open);
    }

    #[test]
    fn of_a_node_that_is_not_selected_nothing_is_said_of_udp() {
        let mut idle = net(&[]);
        (idle.udp, idle.mode) = (None, Mode::NotSelected);
        let verdict = of(&idle, None);
        assert!(verdict.text.starts_with("not selected: nothing runs") && verdict.hints.is_empty(), "{verdict:?}");
        assert_eq!(super::super::render(&verdict.text, &verdict.hints, &idle), format!("{}\n", verdict.text));
    }

    #[test]
    fn each_trouble_has_its_sentence_and_its_hint() {
        let mut blocked = net(&[]);
        blocked.udp = None;
        blocked.relays[0].path = None;
        let verdict = of(&blocked, None);
        assert!(verdict.text.starts_with("Nothing outside answers over UDP"), "{verdict:?}");
        assert!(verdict.hints[0].contains("let UDP out from port 6374"), "{verdict:?}");
        assert!(verdict.hints.iter().any(|hint| hint.contains("no session with a relay")), "{verdict:?}");
        let mut mapped = net(&[("a.b", "198.51.100.1:40001")]);
        mapped.outside.gateways[0].external = Some("198.51.100.1:6374".to_owned());
        assert!(of(&mapped, None).hints.iter().any(|hint| hint.contains("behind another NAT")));
        mapped.outside.gateways[0].is_public = true;
        let verdict = of(&mapped, None);
        assert!(verdict.text.contains("passes 198.51.100.1:6374 on to this node"), "{verdict:?}");
        let strict = net(&[("a.b", "198.51.100.1:40001"), ("c.d", "198.51.100.1:40002")]);
        let verdict = of(&strict, None);
        assert!(verdict.text.contains("another outer port") && verdict.hints[0].contains("turn on PCP"), "{verdict:?}");
    }
}
