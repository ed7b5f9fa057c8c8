//! Hostile datagrams and hostile members: nothing gets in, each is counted under its reason, and established traffic
//! loses nothing meanwhile.
//!
//! `beijing.edge1` is the victim, `beijing.edge2` the member whose datagrams are captured, and a steady stream from
//! `beijing.edge3` is the established traffic. The attacker is a host on the same switch that forges sources.
#![allow(clippy::expect_used, reason = "what the tests share is part of the tests")]

use std::net::{SocketAddrV4, UdpSocket};
use std::time::Duration;

use netns_tests::inject::{Injector, v4};
use netns_tests::site::{edge, underlay};
use netns_tests::tap::Datagram;
use netns_tests::{Daemon, Family, Host, Lab, Mesh, Site, Stream, Tap, in_lab, ping, wait_until};
use ring::digest;

/// Header, tag and their sum: no data datagram is shorter (design §6, docs/wire.md).
const DATA_OVERHEAD: usize = 32;

/// Within which a datagram that was sent must be counted.
const COUNTED: Duration = Duration::from_secs(5);

/// Datagrams sent before their count is waited for: fits the smallest receive buffer of a socket.
const VOLLEY: usize = 50;

const ATTACKER: &str = "192.0.2.66";

struct Siege {
    site: Site,
    attacker: Host,
    injector: Injector,
    victim: Daemon,
    _member: Daemon,
    _bystander: Daemon,
    established: Stream,
}

/// What the attacker holds: one data datagram of edge2 to edge1 that never arrived, and where its content would go.
struct Held {
    datagram: Datagram,
    /// At the victim, where the content comes out if the datagram is let in.
    outlet: UdpSocket,
}

impl Siege {
    fn lay(lab: &Lab) -> Self {
        Self::lay_with(lab, |_| {})
    }

    /// Lays a siege to a mesh that `change` has altered before anything runs.
    fn lay_with(lab: &Lab, change: impl FnOnce(&mut Mesh)) -> Self {
        let mut site = Site::new(lab, 3).with_members(1..=3);
        change(&mut site.mesh);
        let attacker = lab.host("attacker");
        lab.plug(&attacker, &site.lan, &[&format!("{ATTACKER}/24")]);
        // A capture of one datagram, not of a burst that the kernel has yet to cut.
        site.edge_host(2).without_segment_offload("eth0");
        let [victim, member, bystander] = [1, 2, 3].map(|number| site.mesh.up(&edge(number)));
        assert_eq!(ping(site.edge_host(3), &site.address(1, Family::V4), 2).lost(), 0);
        assert_eq!(ping(site.edge_host(2), &site.address(1, Family::V4), 2).lost(), 0);
        let established = Stream::start(site.edge_host(3), site.edge_host(1), &site.address(1, Family::V4), 500);
        let injector = Injector::on(&attacker);
        Self { site, attacker, injector, victim, _member: member, _bystander: bystander, established }
    }

    fn victim_host(&self) -> &Host {
        self.site.edge_host(1)
    }

    /// Lets a datagram of edge2 be captured, but not arrive, and lets later ones arrive again.
    fn hold(&self) -> Held {
        let (victim, member) = (self.victim_host(), self.site.edge_host(2));
        let address = self.site.address(1, Family::V4);
        let outlet = victim.enter(|| UdpSocket::bind(format!("{address}:9000"))).expect("bind the outlet");
        outlet.set_nonblocking(true).expect("make the outlet non-blocking");
        let tap = Tap::on(victim, "eth0");
        victim.ok("nft add table inet hold");
        victim.ok("nft add chain inet hold input { type filter hook input priority 0 ; }");
        victim.ok(&format!("nft add rule inet hold input ip saddr {} udp dport 6374 drop", underlay(2, Family::V4)));
        let content = [b'c'; 40];
        let inlet = member.enter(|| UdpSocket::bind("0.0.0.0:0")).expect("bind the inlet");
        inlet.send_to(&content, format!("{address}:9000")).expect("send the content");
        let from = underlay(2, Family::V4);
        let datagram = tap.wait_for(COUNTED, "the held datagram", |frame| {
            let datagram = frame.datagram().filter(|d| d.source.ip().to_string() == from)?;
            (datagram.payload.len() >= content.len() + DATA_OVERHEAD + 28).then_some(datagram)
        });
        victim.ok("nft delete table inet hold");
        Held { datagram, outlet }
    }

    fn inject(&self, source: SocketAddrV4, datagram: &Datagram, payload: &[u8]) {
        self.injector.send(source, v4(datagram.destination), payload);
    }

    /// Injects each payload as if it came from where `datagram` did; returns when the victim has counted them all.
    fn bombard(&self, datagram: &Datagram, payloads: &[Vec<u8>]) {
        for volley in payloads.chunks(VOLLEY) {
            let before = self.victim.status().all_drops();
            for payload in volley {
                self.inject(v4(datagram.source), datagram, payload);
            }
            self.wait_drops("for all reasons", before + volley.len() as u64, |victim| victim.status().all_drops());
        }
    }

    fn wait_drops(&self, what: &str, at_least: u64, count: impl Fn(&Daemon) -> u64) {
        wait_until(COUNTED, &format!("{at_least} drops {what}"), || count(&self.victim) >= at_least);
    }

    /// The end of every siege: what was established before lost nothing, and both members still talk.
    fn lift(self) {
        self.established.stop_without_loss();
        assert_eq!(ping(self.site.edge_host(2), &self.site.address(1, Family::V4), 3).lost(), 0, "the member");
        assert_eq!(
            self.victim.status().peer(&edge(2)).path().map(|p| p.ip().to_string()),
            Some(underlay(2, Family::V4))
        );
    }
}

impl Held {
    fn assert_nothing_came_out(&self) {
        let mut buffer = [0; 2048];
        assert!(self.outlet.recv(&mut buffer).is_err(), "the content of a refused datagram came out");
    }

    /// Proves that the datagram was good all along: unchanged, it is let in.
    fn assert_lets_in(&self, siege: &Siege) {
        siege.inject(v4(self.datagram.source), &self.datagram, &self.datagram.payload);
        let mut buffer = [0; 2048];
        wait_until(COUNTED, "the content of the unchanged datagram", || self.outlet.recv(&mut buffer).is_ok());
    }
}

/// Bytes that look random and are the same in every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let block = |n: u64| digest::digest(&digest::SHA256, &[seed.to_be_bytes(), n.to_be_bytes()].concat());
    (0..).flat_map(|n| block(n).as_ref().to_vec()).take(length).collect()
}

fn with_flipped_bit(payload: &[u8], bit: usize) -> Vec<u8> {
    let mut changed = payload.to_vec();
    if let Some(byte) = changed.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
    changed
}

#[test]
fn a_replayed_datagram_is_refused_and_counted_as_replayed() {
    in_lab(|lab| {
        let siege = Siege::lay(lab);
        let tap = Tap::on(siege.victim_host(), "eth0");
        let stream =
            Stream::start(siege.site.edge_host(2), siege.victim_host(), &siege.site.address(1, Family::V4), 500);
        wait_until(COUNTED, "the stream flows", || stream.arrived() > 300);
        let (from, to) = (underlay(2, Family::V4), underlay(1, Family::V4));
        let captured: Vec<Datagram> = tap
            .udp_between(&from, &to)
            .into_iter()
            .filter(|d| d.destination.ip().to_string() == to)
            .take(200)
            .collect();
        assert_eq!(captured.len(), 200);
        let before = siege.victim.status().drops("replayed");
        // As from the member, and as from the attacker: the source is no part of what makes a datagram good.
        let thief = SocketAddrV4::new(ATTACKER.parse().expect("an address"), 6374);
        for volley in captured.chunks(VOLLEY) {
            let sent = siege.victim.status().drops("replayed");
            for datagram in volley {
                siege.inject(v4(datagram.source), datagram, &datagram.payload);
                siege.inject(thief, datagram, &datagram.payload);
            }
            siege.wait_drops("as replayed", sent + 2 * volley.len() as u64, |v| v.status().drops("replayed"));
        }
        assert_eq!(siege.victim.status().drops("replayed") - before, 400, "each once");
        // Numbered datagrams: what a replay let in would be seen twice.
        stream.stop_without_loss();
        siege.lift();
    });
}

#[test]
fn a_stolen_datagram_is_let_in_once_and_then_refused_as_replayed() {
    in_lab(|lab| {
        let siege = Siege::lay(lab);
        let held = siege.hold();
        held.assert_lets_in(&siege);
        let before = siege.victim.status().drops("replayed");
        siege.bombard(&held.datagram, &vec![held.datagram.payload.clone(); 20]);
        siege.wait_drops("as replayed", before + 20, |victim| victim.status().drops("replayed"));
        held.assert_nothing_came_out();
        siege.lift();
    });
}

#[test]
fn one_flipped_bit_anywhere_in_a_datagram_keeps_it_out() {
    in_lab(|lab| {
        let siege = Siege::lay(lab);
        let held = siege.hold();
        let payload = &held.datagram.payload;
        let before = siege.victim.status();
        let received = before.peer(&edge(2)).rx_packets();
        let flips: Vec<Vec<u8>> = (0..payload.len() * 8).map(|bit| with_flipped_bit(payload, bit)).collect();
        siege.bombard(&held.datagram, &flips);
        held.assert_nothing_came_out();
        let after = siege.victim.status();
        assert_eq!(after.peer(&edge(2)).rx_packets(), received, "nothing was counted as received");
        // Bytes 4 to 8 are the receiver index, 16 to the end ciphertext and tag (docs/wire.md).
        assert_eq!(after.drops("unknown_session") - before.drops("unknown_session"), 32, "the bits of the index");
        let sealed = (payload.len() - 16) as u64 * 8;
        let failed = after.drops("authentication_failed") - before.drops("authentication_failed");
        assert!(failed >= sealed, "{failed} of {sealed} flips in ciphertext and tag failed authentication");
        held.assert_lets_in(&siege);
        siege.lift();
    });
}

#[test]
fn a_datagram_with_an_unknown_session_index_is_counted_as_such() {
    in_lab(|lab| {
        let siege = Siege::lay(lab);
        let held = siege.hold();
        let before = siege.victim.status().drops("unknown_session");
        let strangers: Vec<Vec<u8>> = (0..100)
            .map(|seed| {
                let mut payload = held.datagram.payload.clone();
                payload.splice(4..8, noise(seed, 4));
                payload
            })
            .collect();
        siege.bombard(&held.datagram, &strangers);
        assert_eq!(siege.victim.status().drops("unknown_session") - before, 100);
        held.assert_nothing_came_out();
        held.assert_lets_in(&siege);
        siege.lift();
    });
}

#[test]
fn random_bytes_are_refused_counted_and_not_answered() {
    in_lab(|lab| {
        let siege = Siege::lay(lab);
        let tap = Tap::on(&siege.attacker, "eth0");
        let (source, target) = (format!("{ATTACKER}:40000"), format!("{}:6374", underlay(1, Family::V4)));
        let datagram = Datagram {
            source: source.parse().expect("a socket address"),
            destination: target.parse().expect("a socket address"),
            payload: vec![],
        };
        // Every length from one byte to the largest that fits the wire, and every first byte many times.
        let random: Vec<Vec<u8>> = (0..3000).map(|seed| noise(seed, 1 + (seed as usize * 7) % 1472)).collect();
        siege.bombard(&datagram, &random);
        let seen = tap.udp_between(ATTACKER, &underlay(1, Family::V4));
        assert!(seen.iter().all(|d| d.source.ip().to_string() == ATTACKER), "the victim answered a stranger");
        siege.lift();
    });
}

#[test]
fn an_empty_datagram_is_counted_as_malformed() {
    in_lab(|lab| {
        let siege = Siege::lay(lab);
        let held = siege.hold();
        let before = siege.victim.status().drops("malformed_datagram");
        siege.bombard(&held.datagram, &vec![vec![]; 10]);
        assert_eq!(siege.victim.status().drops("malformed_datagram") - before, 10);
        siege.lift();
    });
}

#[test]
fn a_truncated_data_datagram_of_any_length_is_refused() {
    in_lab(|lab| {
        let siege = Siege::lay(lab);
        let held = siege.hold();
        let before = siege.victim.status();
        let payload = &held.datagram.payload;
        let parts: Vec<Vec<u8>> =
            (1..payload.len()).filter_map(|length| payload.get(..length)).map(<[u8]>::to_vec).collect();
        siege.bombard(&held.datagram, &parts);
        let after = siege.victim.status();
        let malformed = after.drops("malformed_datagram") - before.drops("malformed_datagram");
        assert!(malformed >= DATA_OVERHEAD as u64 - 1, "{malformed} of those too short for header and tag");
        let failed = after.drops("authentication_failed") - before.drops("authentication_failed");
        assert!(failed >= (payload.len() - DATA_OVERHEAD) as u64, "{failed} of those long enough");
        held.assert_nothing_came_out();
        held.assert_lets_in(&siege);
        siege.lift();
    });
}

/// The two messages of the handshake between edge2 and edge1: first what edge2 sent, then the answer.
fn captured_handshake(lab: &Lab) -> (Site, Daemon, Daemon, [Datagram; 2]) {
    let site = Site::new(lab, 3).with_members(1..=3);
    let tap = Tap::on(site.edge_host(1), "eth0");
    let [one, two] = [1, 2].map(|number| site.mesh.up(&edge(number)));
    assert_eq!(ping(site.edge_host(2), &site.address(1, Family::V4), 2).lost(), 0);
    let seen = tap.udp_between(&underlay(1, Family::V4), &underlay(2, Family::V4));
    let from = |number: usize| {
        let ip = underlay(number, Family::V4);
        seen.iter().find(|d| d.source.ip().to_string() == ip).expect("a message in each direction").clone()
    };
    let messages = [from(2), from(1)];
    (site, one, two, messages)
}

#[test]
fn a_truncated_handshake_message_of_any_length_is_refused() {
    in_lab(|lab| {
        let (site, one, two, messages) = captured_handshake(lab);
        let attacker = lab.host("attacker");
        lab.plug(&attacker, &site.lan, &[&format!("{ATTACKER}/24")]);
        let injector = Injector::on(&attacker);
        let stream = Stream::start(site.edge_host(2), site.edge_host(1), &site.address(1, Family::V4), 500);
        let (session, before) = (one.status().peer(&edge(2)).session(), [one.status(), two.status()]);
        for ((message, receiver), before) in messages.iter().zip([&one, &two]).zip(&before) {
            let lengths: Vec<usize> = (1..message.payload.len()).collect();
            for volley in lengths.chunks(VOLLEY) {
                let sent = receiver.status().all_drops();
                for part in volley.iter().filter_map(|&length| message.payload.get(..length)) {
                    injector.send(v4(message.source), v4(message.destination), part);
                }
                let counted = sent + volley.len() as u64;
                wait_until(COUNTED, "the truncated messages are counted", || receiver.status().all_drops() >= counted);
            }
            let malformed = receiver.status().drops("malformed_datagram") - before.drops("malformed_datagram");
            assert_eq!(malformed, lengths.len() as u64, "each is malformed at {}", receiver.name());
        }
        assert_eq!(one.status().peer(&edge(2)).session(), session, "the session stands");
        stream.stop_without_loss();
    });
}

#[test]
fn a_replayed_handshake_is_refused_and_leaves_the_session_as_it_was() {
    in_lab(|lab| {
        let (site, one, two, messages) = captured_handshake(lab);
        let attacker = lab.host("attacker");
        lab.plug(&attacker, &site.lan, &[&format!("{ATTACKER}/24")]);
        let injector = Injector::on(&attacker);
        let stream = Stream::start(site.edge_host(2), site.edge_host(1), &site.address(1, Family::V4), 500);
        let session = one.status().peer(&edge(2)).session();
        let (before, initiation) = (one.status().drops("handshake_replayed"), &messages[0]);
        injector.send(v4(initiation.source), v4(initiation.destination), &initiation.payload);
        wait_until(COUNTED, "the initiation is counted", || one.status().drops("handshake_replayed") > before);
        let (before, response) = (two.status().all_drops(), &messages[1]);
        injector.send(v4(response.source), v4(response.destination), &response.payload);
        wait_until(COUNTED, "the response is counted", || two.status().all_drops() > before);
        assert_eq!(one.status().peer(&edge(2)).session(), session, "the session stands");
        assert_eq!(ping(site.edge_host(1), &site.address(2, Family::V6), 3).lost(), 0);
        stream.stop_without_loss();
    });
}

/// edge4: an endpoint of the mesh with a valid key, in no community.
fn add_outsider(lab: &Lab, mesh: &mut Mesh, lan: &netns_tests::lab::Switch) -> Host {
    let host = lab.host("edge4");
    lab.plug(&host, lan, &["192.0.2.4/24"]);
    mesh.edge(&edge(4), &host, "192.0.2.4").address("10.99.0.4");
    host
}

#[test]
fn a_non_member_with_a_valid_key_is_refused_by_its_peer_even_if_it_thinks_itself_a_member() {
    in_lab(|lab| {
        let mut site = Site::new(lab, 4).with_members(1..=3);
        let [one, _two, three] = [1, 2, 3].map(|number| site.mesh.up(&edge(number)));
        assert_eq!(ping(three.host(), &site.address(1, Family::V4), 2).lost(), 0);
        let established = Stream::start(three.host(), one.host(), &site.address(1, Family::V4), 500);
        let inside = Tap::on(one.host(), "mesh0");
        site.mesh.community("of its own making", &[&edge(1), &edge(2), &edge(4)]);
        let intruder = site.mesh.up(&edge(4));
        for family in Family::BOTH {
            assert_eq!(ping(intruder.host(), &site.address(1, family), 5).received, 0, "{family:?}");
            assert_eq!(inside.packets_with(&site.address(4, family)), 0, "a packet of the non-member came in");
        }
        wait_until(COUNTED, "the refusal is counted", || one.status().drops("handshake_not_allowed") > 0);
        assert!(!one.status().has_session(&edge(4)) && !intruder.status().has_session(&edge(1)));
        assert_ne!(intruder.status().peer(&edge(1)).state(), "connected");
        wait_until(Duration::from_secs(20), "the intruder is told why", || {
            intruder.status().peer(&edge(1)).reason().is_some()
        });
        established.stop_without_loss();
    });
}

#[test]
fn a_stranger_whose_key_nobody_knows_is_refused() {
    in_lab(|lab| {
        let site = Site::new(lab, 3).with_members(1..=3);
        let mut wider = site.mesh.clone();
        let host = add_outsider(lab, &mut wider, &site.lan);
        wider.community("of its own making", &[&edge(1), &edge(4)]);
        let [one, _two, three] = [1, 2, 3].map(|number| site.mesh.up(&edge(number)));
        assert_eq!(ping(three.host(), &site.address(1, Family::V4), 2).lost(), 0);
        let established = Stream::start(three.host(), one.host(), &site.address(1, Family::V4), 500);
        let (inside, wire) = (Tap::on(one.host(), "mesh0"), Tap::on(&host, "eth0"));
        let stranger = wider.up(&edge(4));
        assert_eq!(ping(&host, &site.address(1, Family::V4), 5).received, 0);
        wait_until(COUNTED, "the refusal is counted", || one.status().drops("handshake_unknown_key") > 0);
        assert!(!stranger.status().has_session(&edge(1)));
        assert_eq!(inside.packets_with("10.99.0.4"), 0, "a packet of the stranger came in");
        let answers = wire.datagrams().into_iter().filter(|d| d.source.ip().to_string() == underlay(1, Family::V4));
        assert_eq!(answers.count(), 0, "a stranger is not answered");
        established.stop_without_loss();
    });
}

#[test]
fn a_member_that_uses_anothers_inner_address_is_refused_as_forged() {
    in_lab(|lab| {
        // edge3's own picture of the mesh gives it the addresses of edge4, which is a member and not running; its
        // daemon then sends packets from them through its honest session.
        let site = Site::new(lab, 4).with_members(1..=4);
        let mut picture = site.mesh.clone();
        let stolen = Family::BOTH.map(|family| site.address(4, family));
        picture.endpoint_mut(&edge(3)).addresses = stolen.to_vec();
        picture.endpoint_mut(&edge(4)).addresses = vec!["10.99.0.104".to_owned(), "fd99::104".to_owned()];
        let [one, two] = [1, 2].map(|number| site.mesh.up(&edge(number)));
        assert_eq!(ping(two.host(), &site.address(1, Family::V4), 2).lost(), 0);
        let established = Stream::start(two.host(), one.host(), &site.address(1, Family::V4), 500);
        let inside = Tap::on(one.host(), "mesh0");
        let forger = picture.up(&edge(3));
        for (family, address) in Family::BOTH.into_iter().zip(&stolen) {
            let before = one.status().drops("forged_source");
            assert_eq!(ping(forger.host(), &site.address(1, family), 5).received, 0, "{family:?}");
            wait_until(COUNTED, "the forged packets are counted", || one.status().drops("forged_source") >= before + 5);
            assert_eq!(inside.packets_with(address), 0, "a packet from {address} came in");
        }
        assert!(one.status().has_session(&edge(3)), "its session is honest");
        established.stop_without_loss();
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// Place for the tests that need an attacker who speaks the protocol (with the `proto` crate, through a host's UDP
// socket): a member that seals, under its own session, an inner packet whose source is another member's, the victim's
// own, a martian or a multicast address; one whose destination is neither the victim's nor announced; inner packets
// that are truncated or of no IP version; a valid message of a type that it may not send.
// ---------------------------------------------------------------------------------------------------------------------
