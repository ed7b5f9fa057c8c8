//! What an operator is told of paths: the way from the relay to a direct path, how each candidate failed, and what the network
//! around a node lets through.

use std::time::Duration;

use netns_tests::nat::{Class, Internet, NatKind};
use netns_tests::{Daemon, Host, Lab, Mesh, in_lab, ping, wait_until};
use serde_json::Value;

const HUB: &str = "hub.connector";
const ONE: &str = "here.one";
const TWO: &str = "there.two";

/// Two edges behind NATs that map alike for all, and a public connector.
fn pair(internet: &Internet<'_>, lab: &Lab) -> (Mesh, [Host; 2]) {
    let (hub, _link) = internet.host("hub", 1);
    let mut mesh = Mesh::new(lab, "pair");
    mesh.connector(HUB, &hub.host, &hub.v4[0].to_string()).address("10.99.0.254");
    let edges = [(ONE, "p1", "10.99.0.1"), (TWO, "p2", "10.99.0.2")].map(|(name, place, address)| {
        let host = internet.premises(place, Class::v4(NatKind::FullCone)).host(place).host;
        mesh.edge(name, &host, "").address(address);
        host
    });
    mesh.community("pair", &[ONE, TWO]);
    (mesh, edges)
}

fn connected_to_the_relay(daemons: &[Daemon]) {
    for daemon in &daemons[1..] {
        wait_until(Duration::from_secs(5), "a session with the relay", || daemon.status().has_session(HUB));
    }
}

fn json(daemon: &Daemon, arguments: &[&str]) -> Value {
    serde_json::from_str(&daemon.meshd(arguments).text()).unwrap_or_default()
}

#[test]
fn ping_shows_the_relay_and_then_the_direct_path_and_status_both_with_their_names() {
    in_lab(|lab| {
        let internet = Internet::new(lab);
        let (mesh, _hosts) = pair(&internet, lab);
        let daemons = mesh.up_all();
        connected_to_the_relay(&daemons);
        let pinged = daemons[1].meshd(&["ping", TWO, "--until-direct", "--interval", "200ms"]);
        assert!(pinged.is_ok(), "{pinged}");
        let relayed = format!("over relay {HUB}: ");
        assert!(
            pinged.stdout.lines().next().is_some_and(|line| line.contains(&relayed)),
            "the first by the relay: {pinged}"
        );
        let change = pinged.stdout.lines().find(|line| line.starts_with("  now direct ")).unwrap_or_default();
        assert!(change.ends_with(&format!("was relay {HUB}")), "{pinged}");
        wait_until(Duration::from_secs(5), "status shows the direct path", || {
            let table = daemons[1].meshd(&["status"]).text();
            table.lines().any(|line| line.contains(TWO) && line.contains("direct ") && line.contains(" ms"))
        });
        let peer = json(&daemons[1], &["status", TWO, "--json"]);
        let paths = peer["peer"]["paths"].as_array().expect("paths");
        let states: Vec<_> = paths.iter().map(|path| (path["via"].as_str(), path["state"].as_str())).collect();
        assert!(states.contains(&(Some(HUB), Some("standby"))) && states.contains(&(None, Some("active"))), "{peer:#}");
        let history = peer["history"].to_string();
        assert!(
            history.contains(&format!("connected over relay {HUB}")) && history.contains("moved to direct"),
            "{history}"
        );
        // The relay knows for whom it carries, and shows those whom policy keeps from it as what they are.
        let hub = json(&daemons[0], &["status", "--json"]);
        let members = hub["relaying"]["members"].as_array().expect("members");
        assert!(
            members.len() == 2 && members.iter().all(|member| member["rx_datagrams"].as_u64() > Some(0)),
            "{hub:#}"
        );
        assert_eq!(daemons[0].status().peer(ONE).state(), "relay_only");
        assert!(daemons[1].meshd(&["status"]).text().contains("relay only"));
    });
}

#[test]
fn status_of_a_peer_names_what_was_tried_and_how_each_failed() {
    in_lab(|lab| {
        let internet = Internet::new(lab);
        let (mut mesh, [one, _two]) = pair(&internet, lab);
        mesh.endpoint_mut(TWO).public_addresses = vec!["192.0.2.77:6374".to_owned(), "two.invalid:6374".to_owned()];
        let daemons: Vec<Daemon> = [HUB, ONE].map(|name| mesh.up(name)).into_iter().collect();
        connected_to_the_relay(&daemons);
        assert_eq!(ping(&one, "10.99.0.2", 1).received, 0, "it does not run");
        wait_until(Duration::from_secs(20), "what was tried", || {
            let text = daemons[1].meshd(&["status", "10.99.0.2"]).text();
            let line = |part: &str| text.lines().find(|line| line.contains(part)).unwrap_or_default().to_owned();
            line("direct 192.0.2.77:6374").contains("no answer to ")
                && line(&format!("relay {HUB}")).contains("refused by the relay")
                && line("two.invalid").contains("does not resolve")
        });
        let near = daemons[1].meshd(&["status", "there.tow"]);
        assert!(!near.is_ok() && near.stderr.contains(&format!("did you mean {TWO}?")), "{near}");
        assert!(near.stderr.trim().lines().count() == 1, "{near}");
    });
}

#[test]
fn netcheck_tells_udp_the_address_outside_and_the_relays_and_without_a_daemon_that_there_is_none() {
    in_lab(|lab| {
        let internet = Internet::new(lab);
        let (mesh, [one, _two]) = pair(&internet, lab);
        let daemons = mesh.up_all();
        connected_to_the_relay(&daemons);
        let text = daemons[1].meshd(&["netcheck"]).text();
        assert!(text.starts_with("UDP passes"), "{text}");
        let line = |part: &str| text.lines().find(|line| line.contains(part)).unwrap_or_default().to_owned();
        assert!(line("IPv4 outside").contains(&format!("seen by {HUB}")), "{text}");
        assert!(line(&format!("{HUB}  own")).contains(" ms"), "its latency: {text}");
        let report = json(&daemons[1], &["netcheck", "--json"]);
        assert!(report["verdict"].as_str().is_some_and(|verdict| verdict.starts_with("UDP passes")), "{report:#}");
        assert_eq!((report["port"].as_u64(), report["relays"][0]["name"].as_str()), (Some(6374), Some(HUB)));
        let nobody = lab.directory().join("nobody.sock");
        let mut command = std::process::Command::new(netns_tests::binary::meshd());
        let refused = one.output(command.args(["netcheck", "--socket"]).arg(nobody));
        assert!(!refused.is_ok() && refused.stderr.contains("no meshd is listening on"), "{refused}");
    });
}

#[test]
fn netcheck_where_udp_is_blocked_says_so() {
    in_lab(|lab| {
        let internet = Internet::new(lab);
        let (hub, _link) = internet.host("hub", 1);
        let mut mesh = Mesh::new(lab, "blocked");
        mesh.connector(HUB, &hub.host, &hub.v4[0].to_string()).address("10.99.0.254");
        let host = internet.premises("p1", Class::v4(NatKind::NoUdp)).host("p1").host;
        mesh.edge(ONE, &host, "").address("10.99.0.1");
        mesh.community("both", &[HUB, ONE]);
        let daemons = mesh.up_all();
        let text = daemons[1].meshd(&["netcheck"]).text();
        assert!(text.starts_with("Nothing outside answers over UDP") && text.contains("hints:"), "{text}");
    });
}
