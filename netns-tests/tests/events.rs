//! What happens to edge sites in the middle of a transfer: the connection goes on, nothing of it is lost, and how long the traffic
//! stood still is measured.
#![allow(clippy::expect_used, reason = "what the tests share is part of the tests")]

use std::time::{Duration, Instant};

use netns_tests::nat::{Class, NatKind};
use netns_tests::sites::{ONE, Running, Sites, hub_name};
use netns_tests::{Stream, Transfer, figure, in_lab, observe, tcp_transfer, wait_until};
use nix::sys::signal::Signal;

/// The targets are 3 s for a dead path and 1 s after an event of the link; this fails what is far from them.
const RECOVERY: Duration = Duration::from_secs(6);

/// Within which traffic must flow again after a relay, the only one, was started again.
const RELAY_RECOVERY: Duration = Duration::from_secs(10);

/// How long a daemon is stopped: longer than every timer of a session in use.
const STOPPED: Duration = Duration::from_secs(12);

const ROUTED: [NatKind; 2] = [NatKind::PortRestricted, NatKind::PortRestricted];

/// A transfer that takes so many seconds if nothing happens.
const fn lasting(seconds: u64) -> Transfer {
    Transfer { bytes: 1_000_000 * seconds, pace: Some(1_000_000) }
}

/// Lets something happen during a transfer and two streams; `event` returns when it was over. The streams must go on within `limit`
/// after that, and the transfer come to its end.
#[track_caller]
fn survive(sites: &Sites<'_>, name: &str, transfer: Transfer, limit: Duration, event: impl FnOnce() -> Instant) {
    let (one, two) = (&sites.one.host, &sites.two.host);
    let streams = [Stream::start(one, two, "10.99.0.2", 100), Stream::start(two, one, "10.99.0.1", 100)];
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| tcp_transfer(one, two, "10.99.0.2", transfer));
        for stream in &streams {
            wait_until(Duration::from_secs(5), "the stream flows", || stream.arrived() > 100);
        }
        let over = event();
        let after = streams.each_ref().map(|stream| stream.wait_next_arrival(over, limit).as_millis());
        let took = sent.join().expect("the connection survived").took;
        figure(&format!(
            "{name}: traffic again after {} ms there and {} ms back; a transfer of {} s took {:.1} s",
            after[0],
            after[1],
            transfer.bytes / 1_000_000,
            took.as_secs_f64()
        ));
    });
    for stream in streams {
        let _ = stream.stop();
    }
}

fn direct<'a>(lab: &'a netns_tests::Lab, nats: [NatKind; 2]) -> (Sites<'a>, Running) {
    let sites = Sites::new(lab, 1, nats);
    let running = sites.start();
    sites.meet(&running, "direct");
    (sites, running)
}

#[test]
fn a_transfer_survives_a_link_that_is_down_for_five_seconds() {
    in_lab(|lab| {
        let (sites, _running) = direct(lab, ROUTED);
        let (host, gateway) = (&sites.one.host, sites.one.gateway());
        survive(&sites, "link down for 5 s", lasting(12), RECOVERY, || {
            host.ok("ip link set eth0 down");
            observe(Duration::from_secs(5));
            host.ok("ip link set eth0 up");
            host.ok(&format!("ip route add default via {gateway}"));
            Instant::now()
        });
    });
}

#[test]
fn a_transfer_survives_a_move_to_another_network_with_another_nat() {
    in_lab(|lab| {
        let (sites, _running) = direct(lab, ROUTED);
        let mobile = sites.internet.premises("mobile", Class::v4(NatKind::Cgn));
        survive(&sites, "replugged to another network", lasting(8), RECOVERY, || {
            sites.replug_one(&mobile);
            Instant::now()
        });
    });
}

#[test]
fn a_transfer_survives_a_change_of_address_on_the_same_link() {
    in_lab(|lab| {
        let (sites, _running) = direct(lab, ROUTED);
        let (host, gateway) = (&sites.one.host, sites.one.gateway());
        let old = host.addresses("eth0").into_iter().find(|net| net.addr().is_ipv4()).expect("an address");
        let new = gateway.rsplit_once('.').map(|(net, _)| format!("{net}.77/24")).expect("an address");
        survive(&sites, "another address on the same link", lasting(8), RECOVERY, || {
            host.ok(&format!("ip address del {old} dev eth0"));
            host.add_address("eth0", &new);
            host.ok(&format!("ip route replace default via {gateway}"));
            Instant::now()
        });
    });
}

#[test]
fn a_transfer_survives_a_nat_that_forgets_everything_and_gives_another_port() {
    in_lab(|lab| {
        let (sites, _running) = direct(lab, [NatKind::Cgn, NatKind::PortRestricted]);
        survive(&sites, "NAT flushed", lasting(8), RECOVERY, || {
            sites.one.premises.last_gateway().forget();
            Instant::now()
        });
    });
}

#[test]
fn a_transfer_survives_a_new_outer_address_of_the_nat() {
    in_lab(|lab| {
        let (sites, _running) = direct(lab, ROUTED);
        let gateway = sites.one.premises.last_gateway();
        let [a, b, c, _] = gateway.outer().octets();
        survive(&sites, "the NAT has another outer address", lasting(8), RECOVERY, || {
            gateway.set_outer([a, b, c, 77].into());
            Instant::now()
        });
    });
}

#[test]
fn a_transfer_survives_the_death_of_its_relay_where_there_is_another() {
    in_lab(|lab| {
        let sites = Sites::new(lab, 2, ROUTED);
        sites.keep_apart();
        let mut running = sites.start();
        sites.meet(&running, "relay");
        let relay = sites.relay_in_use(&running);
        let daemon = running.hubs.remove(relay);
        survive(&sites, "relay killed, another there", lasting(10), RECOVERY, || {
            daemon.kill9();
            Instant::now()
        });
        assert_ne!(sites.relay_in_use(&running), relay);
        assert!(running.two.status().peer(ONE).relay().is_some());
    });
}

#[test]
fn a_transfer_survives_the_restart_of_its_only_relay() {
    in_lab(|lab| {
        let sites = Sites::new(lab, 1, ROUTED);
        sites.keep_apart();
        let mut running = sites.start();
        sites.meet(&running, "relay");
        let daemon = running.hubs.remove(0);
        let mut again = None;
        survive(&sites, "the only relay killed and started again", lasting(12), RELAY_RECOVERY, || {
            daemon.kill9();
            observe(Duration::from_secs(1));
            again = Some(sites.mesh.up(&hub_name(0)));
            Instant::now()
        });
    });
}

#[test]
fn a_transfer_survives_a_daemon_that_is_stopped_for_twelve_seconds() {
    in_lab(|lab| {
        let (sites, running) = direct(lab, ROUTED);
        survive(&sites, "daemon stopped for 12 s", lasting(16), RECOVERY, || {
            running.two.signal(Signal::SIGSTOP);
            observe(STOPPED);
            running.two.signal(Signal::SIGCONT);
            Instant::now()
        });
    });
}
