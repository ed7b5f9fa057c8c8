//! Hostile ways: a relay that drops, doubles, delays or redirects what it should carry, and strangers who want a node to send to
//! somebody else. Nothing is hijacked, traffic goes on, and nobody gets more bytes than the stranger sent.
#![allow(clippy::expect_used, clippy::panic, reason = "what the tests share is part of the tests")]

use std::net::SocketAddrV4;
use std::process::Command;
use std::time::{Duration, Instant};

use netns_tests::inject::Injector;
use netns_tests::nat::NatKind;
use netns_tests::sites::{ONE, Sites, TWO, hub_name};
use netns_tests::{Daemon, Host, Stream, Tap, Transfer, figure, in_lab, observe, tcp_transfer, wait_until};
use proto::handshake::{Identity, Initiated, Mac1, Offer};
use proto::id::{MeshId, PresharedKey, PublicKey, SecretKey, SessionIndex};
use proto::member::DEFAULT_PORT;
use proto::wire::{Capabilities, Suites};

const ROUTED: [NatKind; 2] = [NatKind::PortRestricted, NatKind::PortRestricted];

/// The target is 3 s; this fails what is far from it.
const RECOVERY: Duration = Duration::from_secs(6);

/// Makes the relay treat what it relays (type 7, docs/wire.md) by these rules, on its way out.
fn corrupt(relay: &Host, rules: &str) {
    let text = format!(
        "table ip rogue {{\nchain out {{\ntype filter hook output priority 0;\nudp sport 6374 @th,64,8 7 {rules}\n}}\n}}\n"
    );
    let _ = relay.output(Command::new("nft").arg(text)).text();
}

/// What became of a bad relay.
struct Suffered {
    /// Whether the data has left it.
    is_left: bool,
    /// Datagrams that the edges refused as replayed.
    replayed: u64,
}

/// Lets the relay in use turn bad during a transfer and two streams, all of which must go on.
fn suffer(lab: &netns_tests::Lab, name: &str, turn: impl FnOnce(&Sites<'_>, usize)) -> Suffered {
    let sites = Sites::new(lab, 2, ROUTED);
    sites.keep_apart();
    let running = sites.start();
    sites.meet(&running, "relay");
    let bad = sites.relay_in_use(&running);
    let (one, two) = (&sites.one.host, &sites.two.host);
    let streams = [Stream::start(one, two, "10.99.0.2", 100), Stream::start(two, one, "10.99.0.1", 100)];
    std::thread::scope(|scope| {
        let transfer = Transfer { bytes: 8_000_000, pace: Some(1_000_000) };
        let sent = scope.spawn(move || tcp_transfer(one, two, "10.99.0.2", transfer));
        for stream in &streams {
            wait_until(Duration::from_secs(5), "the stream flows", || stream.arrived() > 100);
        }
        turn(&sites, bad);
        let turned = Instant::now();
        let after = streams.each_ref().map(|stream| stream.wait_next_arrival(turned, RECOVERY).as_millis());
        figure(&format!("a relay that {name}: traffic after {} ms there and {} ms back", after[0], after[1]));
        let _ = sent.join().expect("the connection survived");
    });
    for stream in streams {
        assert_eq!(stream.stop().duplicates, 0, "a relay that {name}");
    }
    for (daemon, peer) in [(&running.one, TWO), (&running.two, ONE)] {
        let status = daemon.status().peer(peer);
        assert_eq!(status.state(), "connected", "a relay that {name}");
        assert!(status.relay().is_some(), "a relay that {name}");
    }
    let replayed = [&running.one, &running.two].map(|daemon| daemon.status().drops("replayed")).iter().sum();
    Suffered { is_left: sites.relay_in_use(&running) != bad, replayed }
}

#[test]
fn a_relay_that_drops_what_it_should_carry_is_left_for_another() {
    in_lab(|lab| {
        let suffered = suffer(lab, "drops", |sites, bad| corrupt(&sites.hubs[bad].0.host, "drop"));
        assert!(suffered.is_left);
    });
}

#[test]
fn a_relay_that_doubles_what_it_carries_has_nothing_come_twice() {
    in_lab(|lab| {
        let suffered = suffer(lab, "doubles", |sites, bad| {
            let host = &sites.hubs[bad].0.host;
            let route = host.json("ip -j -4 route show default");
            corrupt(host, &format!("dup to {}", route[0]["gateway"].as_str().expect("a default route")));
        });
        assert!(suffered.replayed > 100, "{} doubles were refused", suffered.replayed);
    });
}

#[test]
fn a_relay_that_holds_back_what_it_carries_breaks_no_connection() {
    in_lab(|lab| {
        let _ =
            suffer(lab, "holds back for 400 ms", |sites, bad| sites.hubs[bad].1.set_delay(Duration::from_millis(400)));
    });
}

#[test]
fn a_relay_that_sends_to_one_member_what_is_for_another_hijacks_nothing_and_is_left() {
    in_lab(|lab| {
        let suffered = suffer(lab, "redirects", |sites, bad| {
            let [one, two] = [&sites.one, &sites.two].map(|place| place.premises.last_gateway().outer());
            corrupt(&sites.hubs[bad].0.host, &format!("ip daddr {two} ip daddr set {one}"));
        });
        assert!(suffered.is_left);
    });
}

/// An initiation of somebody whom the node does not know.
fn of_a_stranger(node: &PublicKey, mesh: &str, number: u8) -> Vec<u8> {
    let secret = SecretKey::from_bytes([number.max(1); 32]);
    let identity = Identity::new(secret, MeshId::from_name(mesh), PresharedKey::NONE);
    let offer = Offer { suites: Suites::DEFAULT, capabilities: Capabilities::default(), lanes: 1 };
    let started = Initiated::start(&identity, node, SessionIndex(u32::from(number) + 1), 1, offer, [number; 32]);
    let Ok((_, mut message)) = started else { panic!("no initiation") };
    Mac1::new(node).append(&mut message, None);
    message
}

/// A message of this type and length with noise in it.
fn garbage(kind: u8, length: usize) -> Vec<u8> {
    let noise = (0..length).map(|n| (n * 151 + 7).to_le_bytes()[0]);
    [kind, 0, 0, 0].into_iter().chain(noise.skip(4)).collect()
}

fn stun_request() -> Vec<u8> {
    [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat()
}

#[test]
fn whoever_forges_a_source_has_no_more_bytes_sent_there_than_it_sends() {
    in_lab(|lab| {
        let sites = Sites::new(lab, 1, ROUTED);
        let (attacker, _uplink) = sites.internet.host("attacker", 1);
        let (victim, _other) = sites.internet.host("victim", 1);
        let hub = &sites.hubs[0].0;
        let wire = Tap::on(&hub.host, "eth0");
        let running = sites.start();
        let valid = wire.wait_for(Duration::from_secs(5), "an initiation", |frame| {
            let datagram = frame.datagram().filter(|_| !frame.outgoing)?;
            (datagram.payload.first() == Some(&1) && datagram.payload.len() == 152).then_some(datagram.payload)
        });
        let key = sites.mesh.endpoint(&hub_name(0)).public_key();
        let pen = Injector::on(&attacker.host);
        let (from, to) = (SocketAddrV4::new(victim.v4[0], 5353), SocketAddrV4::new(hub.v4[0], DEFAULT_PORT));
        let kinds: [(&str, Vec<Vec<u8>>); 6] = [
            ("initiations of strangers", (0..200).map(|n| of_a_stranger(&key, &sites.mesh.name, n)).collect()),
            ("a replayed initiation", vec![valid; 200]),
            ("control garbage", vec![garbage(5, 40); 200]),
            ("data and relay garbage", [vec![garbage(4, 60); 100], vec![garbage(7, 60); 100]].concat()),
            ("STUN requests", vec![stun_request(); 200]),
            ("responses and cookies", [vec![garbage(2, 92); 100], vec![garbage(3, 56); 100]].concat()),
        ];
        let before = running.hubs[0].status().all_drops();
        for (name, datagrams) in kinds {
            wire.clear();
            let sent: usize = datagrams.iter().map(Vec::len).sum();
            for datagram in &datagrams {
                pen.send(from, to, datagram);
            }
            observe(Duration::from_millis(700));
            let to_victim = wire.datagrams().into_iter().filter(|datagram| datagram.destination.ip() == victim.v4[0]);
            let got: usize = to_victim.map(|datagram| datagram.payload.len()).sum();
            figure(&format!("forged source, {name}: {got} bytes out for {sent} in"));
            assert!(got <= sent, "{name}: {got} bytes for {sent}");
        }
        let refused = running.hubs[0].status().all_drops() - before;
        assert!(refused > 1_000, "of 1,200 datagrams {refused} were refused: {}", running.hubs[0].status());
        let sessions = |edge: &Daemon| edge.status().has_session(&hub_name(0));
        assert!(sessions(&running.one) && sessions(&running.two));
    });
}
