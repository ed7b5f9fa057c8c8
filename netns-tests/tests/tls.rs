//! Networks that block UDP: a relay over TLS takes over by itself, loses no session, and gives way when UDP works again. With the
//! real binary, and walls of nftables.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use netns_tests::{
    Daemon, Family, Host, Lab, Mesh, Transfer, figure, in_lab_for, observe, ping, tcp_transfer, wait_until,
};

const HUB: &str = "hub.connector";
const ONE: &str = "here.one";
const TWO: &str = "there.two";

const LAB: Duration = Duration::from_secs(120);

/// Two edges that nobody can dial on two networks, and a connector that serves TLS on a third, around a router.
struct Wan {
    mesh: Mesh,
    one: Host,
    two: Host,
    hub: Host,
    router: Host,
}

impl Wan {
    fn new(lab: &Lab) -> Self {
        let router = lab.router("router");
        let [one, two, hub] = ["one", "two", "hub"].map(|name| lab.host(name));
        for (host, net) in [(&one, "192.0.2"), (&two, "198.51.100"), (&hub, "203.0.113")] {
            lab.cable(host, &[&format!("{net}.1/24")], &router, &[&format!("{net}.254/24")]);
            host.ok(&format!("ip route add default via {net}.254"));
        }
        let mut mesh = Mesh::new(lab, "wan");
        mesh.connector(HUB, &hub, "203.0.113.1").address("10.99.0.254").tls("203.0.113.1");
        mesh.edge(ONE, &one, "").address("10.99.0.1");
        mesh.edge(TWO, &two, "").address("10.99.0.2");
        mesh.community("all", &[ONE, TWO, HUB]);
        router.ok("nft add table inet wall");
        router.ok("nft add set inet wall closed { type ipv4_addr ; }");
        router.ok("nft add chain inet wall through { type filter hook forward priority 0; }");
        router.ok("nft add rule inet wall through meta l4proto udp ip saddr @closed drop");
        router.ok("nft add rule inet wall through meta l4proto udp ip daddr @closed drop");
        Self { mesh, one, two, hub, router }
    }

    /// Drops UDP from and to these hosts.
    fn block_udp(&self, addresses: &[&str]) {
        self.router.ok(&format!("nft add element inet wall closed {{ {} }}", addresses.join(", ")));
    }

    /// Passes it again.
    fn pass_udp(&self) {
        self.router.ok("nft flush set inet wall closed");
    }

    /// Drops what the edges send to each other directly.
    fn keep_apart(&self) {
        self.router.ok("nft add rule inet wall through ip saddr 192.0.2.1 ip daddr 198.51.100.1 drop");
        self.router.ok("nft add rule inet wall through ip saddr 198.51.100.1 ip daddr 192.0.2.1 drop");
    }
}

const BOTH: [&str; 2] = ["192.0.2.1", "198.51.100.1"];

fn kind(daemon: &Daemon, peer: &str) -> Option<String> {
    daemon.status().peer(peer).path_kind()
}

#[track_caller]
fn wait_kind(daemon: &Daemon, peer: &str, wanted: &[&str], limit: Duration) {
    wait_until(limit, &format!("{} reaches {peer} by {wanted:?}", daemon.name()), || {
        kind(daemon, peer).is_some_and(|kind| wanted.contains(&kind.as_str()))
    });
}

#[track_caller]
fn wait_at_the_relay(daemons: &[Daemon]) {
    for daemon in &daemons[1..] {
        wait_until(Duration::from_secs(5), "a session with the relay", || daemon.status().has_session(HUB));
    }
}

fn has_tls_connection(host: &Host) -> bool {
    !host.ok("ss -Htn state established").trim().is_empty()
}

#[test]
fn edges_behind_walls_that_block_udp_reach_the_relay_and_each_other_over_tls() {
    in_lab_for(LAB, |lab| {
        let wan = Wan::new(lab);
        wan.block_udp(&BOTH);
        let daemons = wan.mesh.up_all();
        wait_at_the_relay(&daemons);
        assert_eq!(ping(&wan.one, "10.99.0.2", 3).lost(), 0, "from the first packet on");
        assert_eq!(ping(&wan.one, "10.99.0.254", 3).lost(), 0);
        for (daemon, peer) in [(&daemons[1], HUB), (&daemons[1], TWO), (&daemons[2], ONE), (&daemons[0], TWO)] {
            assert_eq!(kind(daemon, peer).as_deref(), Some("tls"), "{} to {peer}", daemon.name());
        }
        for family in Family::BOTH {
            let address = wan.mesh.address(TWO, family);
            let _ = tcp_transfer(&wan.one, &wan.two, &address, Transfer::of(5_000_000));
        }
    });
}

#[test]
fn the_first_packet_to_a_relay_behind_blocked_udp_takes_a_fraction_of_a_second() {
    in_lab_for(LAB, |lab| {
        let mut wan = Wan::new(lab);
        wan.mesh.settings = "[session]\nkeepalive = \"off\"\n".to_owned();
        wan.block_udp(&BOTH);
        let _daemons = wan.mesh.up_all();
        let started = Instant::now();
        assert_eq!(ping(&wan.one, "10.99.0.254", 1).lost(), 0);
        let took = started.elapsed();
        figure(&format!("the first packet with UDP blocked: {} ms", took.as_millis()));
        assert!(took < Duration::from_secs(1), "{took:?}");
    });
}

#[test]
fn a_member_over_tls_and_one_over_udp_meet_at_the_relay_and_the_latter_opens_no_connection() {
    in_lab_for(LAB, |lab| {
        let wan = Wan::new(lab);
        wan.block_udp(&BOTH[..1]);
        let daemons = wan.mesh.up_all();
        wait_at_the_relay(&daemons);
        assert_eq!(ping(&wan.two, "10.99.0.1", 3).lost(), 0);
        let _ = tcp_transfer(&wan.two, &wan.one, "10.99.0.1", Transfer::of(3_000_000));
        let _ = tcp_transfer(&wan.one, &wan.two, "10.99.0.2", Transfer::of(3_000_000));
        assert_eq!(kind(&daemons[1], TWO).as_deref(), Some("tls"));
        assert_eq!(kind(&daemons[2], ONE).as_deref(), Some("relay"));
        assert_eq!(kind(&daemons[2], HUB).as_deref(), Some("direct"));
        assert!(has_tls_connection(&wan.one) && !has_tls_connection(&wan.two));
    });
}

/// Blocks UDP in the middle of a transfer, and lets it pass again: `before` is how it goes at first.
fn blocked_in_the_middle(lab: &Lab, before: &str, walls: &[&str]) {
    let wan = Wan::new(lab);
    if before == "relay" {
        wan.keep_apart();
    }
    let daemons = wan.mesh.up_all();
    wait_at_the_relay(&daemons);
    wait_until(Duration::from_secs(10), before, || {
        let _ = ping(&wan.one, "10.99.0.2", 2);
        kind(&daemons[1], TWO).as_deref() == Some(before)
    });
    assert!(!has_tls_connection(&wan.one) && !has_tls_connection(&wan.two));
    let session = daemons[1].status().peer(TWO).session();
    let transfer = Transfer { bytes: 60_000_000, pace: Some(2_000_000) };
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| tcp_transfer(&wan.one, &wan.two, "10.99.0.2", transfer));
        observe(Duration::from_secs(2));
        let (moment, received) = (Instant::now(), daemons[2].status().peer(ONE).rx_packets());
        wan.block_udp(walls);
        observe(Duration::from_millis(100));
        let stopped = daemons[2].status().peer(ONE).rx_packets();
        wait_until(Duration::from_secs(6), "data over TLS", || {
            daemons[2].status().peer(ONE).rx_packets() > stopped + 20
        });
        figure(&format!("data again {} ms after UDP was blocked, from {before}", moment.elapsed().as_millis()));
        assert!(moment.elapsed() < Duration::from_secs(5), "{:?}, {received} packets before", moment.elapsed());
        wait_kind(&daemons[1], TWO, &["tls"], Duration::from_secs(5));
        assert_eq!(daemons[1].status().peer(TWO).session(), session, "the session is the same");
        wan.pass_udp();
        let moment = Instant::now();
        wait_kind(&daemons[1], TWO, &[before, "direct"], Duration::from_secs(25));
        figure(&format!("back to {before} {} ms after UDP passes", moment.elapsed().as_millis()));
        assert!(sent.join().is_ok(), "the connection survived");
    });
    assert_eq!(daemons[1].status().peer(TWO).session(), session, "the session is the same");
}

#[test]
fn a_transfer_through_a_udp_relay_goes_on_over_tls_when_udp_is_blocked_and_back_when_it_is_not() {
    in_lab_for(LAB, |lab| blocked_in_the_middle(lab, "relay", &BOTH));
}

#[test]
fn a_transfer_over_a_direct_path_goes_on_over_tls_when_udp_is_blocked_and_back_when_it_is_not() {
    in_lab_for(LAB, |lab| blocked_in_the_middle(lab, "direct", &BOTH[..1]));
}

#[test]
fn a_relay_that_was_killed_is_found_again_over_tls() {
    in_lab_for(LAB, |lab| {
        let wan = Wan::new(lab);
        wan.block_udp(&BOTH);
        let mut daemons = wan.mesh.up_all();
        wait_at_the_relay(&daemons);
        assert_eq!(ping(&wan.one, "10.99.0.2", 3).lost(), 0);
        daemons.remove(0).kill9();
        let _hub = wan.mesh.up(HUB);
        let moment = Instant::now();
        wait_until(Duration::from_secs(20), "a ping through the new relay", || {
            ping(&wan.one, "10.99.0.2", 1).lost() == 0
        });
        figure(&format!("a ping {} ms after the relay is up again, over TLS", moment.elapsed().as_millis()));
    });
}

#[test]
fn garbage_and_crowds_at_the_tls_port_keep_no_member_out() {
    in_lab_for(LAB, |lab| {
        let wan = Wan::new(lab);
        wan.block_udp(&BOTH);
        let attacker = lab.host("attacker");
        lab.cable(&attacker, &["192.0.3.1/24"], &wan.router, &["192.0.3.254/24"]);
        attacker.ok("ip route add default via 192.0.3.254");
        let mut daemons = wan.mesh.up_all();
        wait_at_the_relay(&daemons);
        let crowd: Vec<TcpStream> = (0..200)
            .filter_map(|_| attacker.enter(|| TcpStream::connect("203.0.113.1:443")).ok())
            .map(|mut stream| {
                let _ = stream.write_all(b"\x16\x03\x01");
                stream
            })
            .collect();
        assert!(crowd.len() >= 64);
        let mut garbage = attacker.enter(|| TcpStream::connect("203.0.113.1:443")).expect("the port listens");
        let _ = garbage.write_all(&[0x55; 5000]);
        garbage.set_read_timeout(Some(Duration::from_secs(5))).expect("set a timeout");
        assert!(matches!(garbage.read(&mut [0; 64]), Ok(_) | Err(_)));
        assert_eq!(ping(&wan.one, "10.99.0.2", 5).lost(), 0);
        daemons.remove(1).stop();
        let _one = wan.mesh.up(ONE);
        assert_eq!(ping(&wan.one, "10.99.0.254", 3).lost(), 0, "a new connection is taken");
        drop(crowd);
        // What comes through TLS reaches the relay's UDP port only: no service of its loopback.
        assert!(wan.hub.ok("ss -Hltn").contains(":443"));
    });
}

#[test]
fn a_relay_whose_tls_port_is_taken_says_what_to_do() {
    in_lab_for(LAB, |lab| {
        let wan = Wan::new(lab);
        let _taken = wan.hub.enter(|| std::net::TcpListener::bind("0.0.0.0:443")).expect("listen");
        let mut daemon = wan.mesh.spawn(HUB);
        assert!(!daemon.wait_end(Duration::from_secs(5)).success());
        let log = daemon.log();
        assert!(log.contains("443") && log.contains("another program has it") && log.contains("[listen] tls"), "{log}");
    });
}
