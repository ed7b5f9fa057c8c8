//! Sprays with the real binary: an edge whose NAT gives ports at random is met at one of many sockets, and that one carries data.
#![allow(clippy::expect_used, clippy::panic, reason = "what the tests share is part of the tests")]

use std::fs;
use std::time::Duration;

use netns_tests::nat::{Class, Internet, NatKind, Premises, Station};
use netns_tests::{Daemon, Lab, Mesh, Transfer, figure, in_lab_for, observe, ping, tcp_transfer, wait_until};
use serde_json::Value;

const RANDOM: &str = "hub.random";

/// Two, for a spray fails once in fifty times.
const KEPT: [&str; 2] = ["hub.kept0", "hub.kept1"];

const LAB: Duration = Duration::from_secs(120);

/// An edge whose ports are random, two that keep theirs behind strict filters, and three public members.
struct Wan<'a> {
    mesh: Mesh,
    random: Station,
    kept: Vec<Station>,
    _premises: Vec<Premises<'a>>,
}

impl<'a> Wan<'a> {
    fn new(lab: &Lab, internet: &'a Internet<'a>, settings: &str) -> Self {
        let mut mesh = Mesh::new(lab, "spray");
        "info".clone_into(&mut mesh.log_level);
        settings.clone_into(&mut mesh.settings);
        for number in 0..3 {
            let (hub, _link) = internet.host(&format!("hub{number}"), 1);
            let name = format!("hub.connector{number}");
            mesh.connector(&name, &hub.host, &hub.v4[0].to_string()).address(&format!("10.98.0.{}", 1 + number));
        }
        let random = internet.premises("random", Class::v4(NatKind::SymmetricRandom));
        let at_random = random.host("random-edge");
        mesh.edge(RANDOM, &at_random.host, "").address("10.99.0.1");
        let (mut kept, mut all) = (Vec::new(), vec![random]);
        for (number, name) in (2..).zip(KEPT) {
            let premises = internet.premises(&format!("kept{number}"), Class::v4(NatKind::PortRestricted));
            kept.push(premises.host(&format!("kept{number}-edge")));
            mesh.edge(name, &kept[kept.len() - 1].host, "").address(&format!("10.99.0.{number}"));
            all.push(premises);
        }
        mesh.community("edges", &[RANDOM, KEPT[0], KEPT[1]]);
        Self { mesh, random: at_random, kept, _premises: all }
    }

    /// The daemons, the random edge's first, when they know what their NATs do.
    fn start(&self) -> Vec<Daemon> {
        let mut daemons = self.mesh.up_all();
        let place = |daemon: &Daemon| [RANDOM, KEPT[0], KEPT[1]].iter().position(|name| *name == daemon.name());
        daemons.sort_by_key(|daemon| place(daemon).unwrap_or(usize::MAX));
        for (daemon, class) in daemons.iter().zip(["random", "endpoint-independent", "endpoint-independent"]) {
            wait_until(Duration::from_secs(30), "a verdict on the NAT", || {
                daemon.status().nat_class().as_deref() == Some(class)
            });
        }
        daemons
    }

    /// Talks to one of the two until a spray has ended; says how.
    fn spray(&self, daemons: &[Daemon], number: usize) -> String {
        let address = format!("10.99.0.{}", 2 + number);
        let mut end = None;
        wait_until(Duration::from_secs(30), "the end of a spray", || {
            assert_eq!(ping(&self.random.host, &address, 1).lost(), 0);
            end = spray(&daemons[1 + number], RANDOM)["end"].as_str().map(str::to_owned);
            end.is_some()
        });
        end.unwrap_or_default()
    }
}

/// What a daemon says of its last spray with a peer.
fn spray(daemon: &Daemon, peer: &str) -> Value {
    let text = daemon.meshd(&["status", peer, "--json"]).text();
    let report: Value = serde_json::from_str(&text).unwrap_or_default();
    assert_eq!(report["version"], 1, "{text}");
    report["spray"].clone()
}

fn descriptors(daemon: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.pid())).map_or(0, Iterator::count)
}

#[test]
fn an_edge_whose_ports_are_random_is_met_and_the_socket_that_was_met_carries_transfers_of_all_workers() {
    in_lab_for(LAB, |lab| {
        let internet = Internet::new(lab);
        let wan = Wan::new(lab, &internet, "[dataplane]\nworkers = 2\n");
        let daemons = wan.start();
        let before = descriptors(&daemons[0]);
        let met = (0..KEPT.len()).find(|number| wan.spray(&daemons, *number) == "met").expect("one of two is met");
        let (kept, name) = (&wan.kept[met].host, KEPT[met]);
        for (daemon, peer) in [(&daemons[0], name), (&daemons[1 + met], RANDOM)] {
            let line = spray(daemon, peer);
            figure(&format!("{peer}: {line}"));
            assert!(
                line["count"].as_u64() <= line["budget"].as_u64() && line["budget"].as_u64() <= Some(1024),
                "{line}"
            );
            wait_until(Duration::from_secs(3), "a direct path", || daemon.status().peer(peer).path().is_some());
        }
        assert!((1..=before + 2).contains(&descriptors(&daemons[0])), "255 sockets are closed again");
        for _ in 0..3 {
            let transfer = Transfer { bytes: 20 << 20, pace: None };
            let there = tcp_transfer(&wan.random.host, kept, &wan.mesh.endpoint(name).addresses[0], transfer);
            let back = tcp_transfer(kept, &wan.random.host, "10.99.0.1", transfer);
            figure(&format!("{:.2} and {:.2} Gbit/s", there.gigabits_per_second(), back.gigabits_per_second()));
        }
        let status = daemons[0].status();
        assert_eq!(status.peer(name).path_kind().as_deref(), Some("direct"), "{status}");
    });
}

#[test]
fn a_spray_that_is_switched_off_leaves_the_pair_at_its_relay() {
    in_lab_for(LAB, |lab| {
        let internet = Internet::new(lab);
        let wan = Wan::new(lab, &internet, "[nat]\nspray = false\n");
        let daemons = wan.start();
        for _ in 0..16 {
            assert_eq!(ping(&wan.random.host, "10.99.0.2", 1).lost(), 0);
            observe(Duration::from_millis(250));
        }
        assert!(spray(&daemons[0], KEPT[0]).is_null() && spray(&daemons[1], RANDOM).is_null());
        assert!(daemons[0].status().peer(KEPT[0]).relay().is_some());
    });
}
