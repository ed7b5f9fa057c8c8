//! `meshd why`: for each cause the real binary names it, and the side that it is on.
#![allow(clippy::expect_used, clippy::panic, reason = "what the tests share is part of the tests")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use netns_tests::link::Link;
use netns_tests::mesh::new_key;
use netns_tests::nat::NatKind;
use netns_tests::site::{CONNECTOR, edge};
use netns_tests::sites::{ONE, Sites, TWO};
use netns_tests::{Daemon, Family, Lab, Mesh, Site, in_lab, ping, wait_for, wait_until};
use serde_json::Value;

/// What `meshd why --json` says, and its exit code.
struct Why {
    code: Option<i32>,
    json: Value,
}

impl Why {
    fn of(daemon: &Daemon, arguments: &[&str]) -> Self {
        let done = daemon.meshd(&[&["why", "--json"], arguments].concat());
        let json = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("no report: {done}"));
        Self { code: done.code, json }
    }

    /// Packets do not get through, for this cause, which is the business of these sides; the verdict has these words.
    #[track_caller]
    fn assert_fails(&self, cause: &str, sides: &[&str], words: &[&str]) {
        let json = &self.json;
        assert_eq!((self.code, json["cause"].as_str()), (Some(1), Some(cause)), "{json:#}");
        let told: Vec<&str> = json["sides"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert_eq!(told, sides, "{json:#}");
        let verdict = json["verdict"].as_str().unwrap_or_default();
        assert!(words.iter().all(|word| verdict.contains(word)), "{words:?} in {verdict}");
        assert!(json["next"].is_string(), "{json:#}");
    }

    #[track_caller]
    fn assert_reaches(&self, cause: &str) {
        assert_eq!((self.code, self.json["cause"].as_str()), (Some(0), Some(cause)), "{:#}", self.json);
    }

    fn next(&self) -> &str {
        self.json["next"].as_str().unwrap_or_default()
    }

    /// The text of a step.
    fn step(&self, name: &str) -> String {
        let steps = self.json["steps"].as_array().into_iter().flatten().filter(|step| step["step"] == name);
        steps.filter_map(|step| step["text"].as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// The connector and two edges that share a community.
fn trio(lab: &Lab) -> Site {
    Site::new(lab, 2).with_members(1..=2)
}

#[test]
fn a_member_in_reach_is_told_with_its_path_and_exit_code_0() {
    in_lab(|lab| {
        let site = trio(lab);
        let (one, _two) = (site.mesh.up(&edge(1)), site.mesh.up(&edge(2)));
        let why = Why::of(&one, &[&edge(2)]);
        why.assert_reaches("reachable_direct");
        assert!(why.step("policy").contains("all-edge-nodes"), "{:#}", why.json);
        let text = one.meshd(&["why", &site.address(2, Family::V4)]).text();
        assert!(text.contains("verdict: packets from this node reach the machine of beijing.edge2 directly"), "{text}");
        assert!(text.contains("next: on beijing.edge2: meshd doctor"), "{text}");
        assert_eq!(one.meshd(&["why", "what is this"]).code, Some(2));
    });
}

#[test]
fn names_and_addresses_that_nobody_has_are_told_with_the_nearest() {
    in_lab(|lab| {
        let mut site = trio(lab);
        site.mesh.endpoint_mut(CONNECTOR).subnets(&["10.233.0.0/17"]);
        let one = site.mesh.up(&edge(1));
        let why = Why::of(&one, &["beijing.egde2"]);
        why.assert_fails("unknown_name", &[&edge(1)], &["beijing.egde2"]);
        assert!(why.json["next"].as_str().is_some_and(|next| next.contains("beijing.edge2")));
        let why = Why::of(&one, &["10.233.200.1"]);
        why.assert_fails("unannounced_address", &[&edge(1)], &["10.233.200.1"]);
        assert!(why.step("target").contains("10.233.0.0/17, of beijing.connector"), "{:#}", why.json);
        assert!(why.next().contains("beijing.connector: subnets = [ \"10.233.200.0/24\" ]"), "{:#}", why.json);
        // What would be refused, or was not meant, is not proposed.
        for address in ["10.99.0.77", "8.8.8.8"] {
            let why = Why::of(&one, &[address]);
            why.assert_fails("unannounced_address", &[&edge(1)], &[address]);
            assert!(why.next().contains("the gateway before it: subnets = [ \"PREFIX\" ]"), "{:#}", why.json);
        }
        // The name of a node is enough where one cluster has it.
        let why = Why::of(&one, &["edge1"]);
        why.assert_fails("own_address", &[&edge(1)], &["own"]);
        assert_eq!(why.json["peer"].as_str(), Some(edge(1).as_str()));
        Why::of(&one, &[&site.address(1, Family::V4)]).assert_fails("own_address", &[&edge(1)], &["own"]);
    });
}

#[test]
fn no_community_is_told_with_those_that_each_is_in_and_the_stanza_to_add() {
    in_lab(|lab| {
        let mut site = Site::new(lab, 3).with_members([1, 3]);
        site.mesh.community("cameras", &[&edge(2)]);
        let one = site.mesh.up(&edge(1));
        let why = Why::of(&one, &[&edge(2)]);
        why.assert_fails("no_community", &[&edge(1), &edge(2)], &["no community has both"]);
        let policy = why.step("policy");
        assert!(policy.contains("edge1 is in all-edge-nodes") && policy.contains("edge2 is in cameras"), "{policy}");
        assert!(why.json["next"].as_str().is_some_and(|next| next.contains("[[community]]")), "{:#}", why.json);
    });
}

#[test]
fn a_community_in_one_mesh_file_only_is_told_by_the_other_side_through_the_connector() {
    in_lab(|lab| {
        let site = trio(lab);
        let mut other = site.mesh.clone();
        other.communities.clear();
        let (_hub, one, _two) = (site.mesh.up(CONNECTOR), site.mesh.up(&edge(1)), other.up(&edge(2)));
        Why::of(&one, &[&edge(2)]).assert_fails("denied_there", &[&edge(2)], &["does not let beijing.edge1 in"]);
    });
}

#[test]
fn what_another_senders_mesh_file_lacks_is_told_as_its_own_fault() {
    in_lab(|lab| {
        let site = Site::new(lab, 3).with_members(1..=3);
        let (third, mut other) = (edge(3), site.mesh.clone());
        other.communities.clear();
        let (hub, _two) = (site.mesh.up(CONNECTOR), other.up(&edge(2)));
        let why = Why::of(&hub, &[&third, "--from", &edge(2)]);
        why.assert_fails("no_community", &[&edge(2)], &["by the mesh file of beijing.edge2 no community has both"]);
        assert!(why.next().contains("copy the mesh file of this node to beijing.edge2"), "{:#}", why.json);
        assert!(!why.step("policy").contains("all-edge-nodes"), "{:#}", why.json);
        other.forget(&third);
        let _one = other.up(&edge(1));
        let why = Why::of(&hub, &[&third, "--from", &edge(1)]);
        why.assert_fails("unannounced_address", &[&edge(1)], &["by the mesh file of beijing.edge1"]);
        assert!(why.next().contains("the mesh file of beijing.edge1 lacks"), "{:#}", why.json);
    });
}

/// Writes an edge's files, and more at the end of its mesh file, and starts it.
fn up_with(site: &Site, number: usize, change: impl Fn(String) -> String) -> Daemon {
    let folder = site.mesh.write(&edge(number));
    let file = folder.join("mesh.toml");
    let text = fs::read_to_string(&file).expect("mesh.toml");
    fs::write(&file, change(text)).expect("mesh.toml");
    let mut daemon = Daemon::spawn(&edge(number), site.edge_host(number), &folder);
    daemon.wait_ready();
    daemon
}

#[test]
fn a_member_that_the_selector_leaves_out_is_told_by_others_and_by_itself() {
    in_lab(|lab| {
        let site = trio(lab);
        let select = |text: String| {
            let name = "name = \"beijing.edge1\"\n";
            text.replace(name, &format!("{name}labels = [\"site=hq\"]\n")) + "\n[selector]\nlabels = [\"site=hq\"]\n"
        };
        let (one, two) = (up_with(&site, 1, select), up_with(&site, 2, select));
        let remedy = "give beijing.edge2 the labels of [selector] (site=hq)";
        for (asked, target) in [(&one, edge(2)), (&two, edge(1))] {
            let why = Why::of(asked, &[&target]);
            why.assert_fails("not_selected", &[asked.name()], &["beijing.edge2 is left out by [selector]"]);
            assert!(why.next().contains(remedy), "{:#}", why.json);
        }
        let told = one.meshd(&["status", &edge(2)]);
        assert!(!told.is_ok() && told.stderr.contains("beijing.edge2 is left out by [selector]"), "{told}");
        let text = two.meshd(&["status"]).text();
        assert!(text.contains("idle, no interface") && !text.contains("UDP port"), "{text}");
        let text = two.meshd(&["netcheck"]).text();
        assert!(text.contains("not selected: nothing runs") && !text.contains("UDP is blocked"), "{text}");
    });
}

#[test]
fn who_is_invited_and_has_not_joined_is_told_so_and_until_when() {
    in_lab(|lab| {
        let site = trio(lab);
        let invite = |text: String| {
            let guest = |name: &str, until: &str| {
                let key = new_key().public_key();
                format!("\n[[endpoint]]\nname = {name:?}\npublic_key = \"{key}\"\ninvited_until = {until:?}\n")
            };
            text + &guest("beijing.till", "2999-01-01T00:00:00Z") + &guest("beijing.late", "2020-01-01T00:00:00Z")
        };
        let one = up_with(&site, 1, invite);
        let why = Why::of(&one, &["beijing.till"]);
        why.assert_fails("invited", &["beijing.till"], &["is invited until 2999-01-01T00:00:00Z", "not joined"]);
        let why = Why::of(&one, &[&edge(2), "--from", "beijing.late"]);
        why.assert_fails("invited", &[&edge(1)], &["was invited until 2020-01-01T00:00:00Z"]);
        assert!(why.next().contains("meshd invite beijing.late"), "{:#}", why.json);
        let text = one.meshd(&["status"]).text();
        let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        assert!(row("beijing.till").contains(" invited ") && !text.contains("denied"), "{text}");
        assert!(text.contains("the invitation of \"beijing.late\" has expired"), "{text}");
        let text = one.meshd(&["status", "till"]).text();
        assert!(text.contains("beijing.till (edge), invited: it is invited until 2999"), "{text}");
    });
}

#[test]
fn a_wrong_key_is_told_with_the_side_whose_mesh_file_has_it() {
    in_lab(|lab| {
        let site = trio(lab);
        let hub = site.mesh.up(CONNECTOR);
        let mut wrong = site.mesh.clone();
        wrong.endpoint_mut(&edge(2)).key = new_key();
        {
            let (one, two) = (wrong.up(&edge(1)), site.mesh.up(&edge(2)));
            Why::of(&one, &[&edge(2)]).assert_fails(
                "peer_key_differs",
                &[&edge(1)],
                &["wrong public key of beijing.edge2"],
            );
            Why::of(&two, &[&edge(1)]).assert_fails("own_key_differs", &[&edge(1)], &["mesh file of beijing.edge1"]);
            // One whose invitation was replaced shows such a key too.
            let text = one.meshd(&["status"]).text();
            assert!(text.contains("belongs to no endpoint") && text.contains("`meshd invite` makes another"), "{text}");
        }
        drop(hub);
    });
}

#[test]
fn udp_that_is_dropped_on_the_path_is_passed_by_through_a_relay_or_told_as_silence() {
    in_lab(|lab| {
        let site = trio(lab);
        let drop = "table inet wall {\nchain input { type filter hook input priority 0;\nip saddr 192.0.2.1 udp dport 6374 drop\n}\n}\n";
        let _ = site.edge_host(2).output(Command::new("nft").arg(drop)).text();
        let (one, _two) = (site.mesh.up(&edge(1)), site.mesh.up(&edge(2)));
        Why::of(&one, &[&edge(2)]).assert_fails(
            "unanswered",
            &[],
            &["beijing.edge2 does not answer", "UDP is blocked"],
        );
        let _hub = site.mesh.up(CONNECTOR);
        // What was tried before the relay was up has to be given up first.
        let reached = || Some(Why::of(&one, &[&edge(2)])).filter(|why| why.code == Some(0));
        let why = wait_for(Duration::from_secs(30), "the relay is used", reached);
        why.assert_reaches("reachable_relay");
        assert!(why.step("path").contains("relay beijing.connector"), "{:#}", why.json);
    });
}

#[test]
fn a_subnet_that_a_local_interface_has_is_told_with_that_interface() {
    in_lab(|lab| {
        let mut site = trio(lab);
        site.mesh.endpoint_mut(CONNECTOR).subnets(&["10.233.0.0/17"]);
        let host = site.edge_host(1);
        host.ok("ip link add docker0 type bridge");
        host.add_address("docker0", "10.233.0.1/17");
        host.ok("ip link set docker0 up");
        let (one, _hub) = (site.mesh.up(&edge(1)), site.mesh.up(CONNECTOR));
        let why = Why::of(&one, &["10.233.1.7"]);
        why.assert_fails("route_shadowed", &[&edge(1)], &["docker0"]);
        assert!(why.step("machine").contains("left out"), "{:#}", why.json);
    });
}

#[test]
fn a_peer_that_is_down_is_told_by_the_connector_that_does_not_reach_it_either() {
    in_lab(|lab| {
        let site = trio(lab);
        let (_hub, one) = (site.mesh.up(CONNECTOR), site.mesh.up(&edge(1)));
        Why::of(&one, &[&edge(2)]).assert_fails("peer_down", &[&edge(2)], &["nor beijing.connector", "down"]);
    });
}

#[test]
fn a_clock_that_went_back_is_told_by_who_refuses_its_handshakes() {
    in_lab(|lab| {
        let site = trio(lab);
        // Its clock ran ahead by an hour, and its state is lost with it.
        let state = site.mesh.write(&edge(1)).join("state/timestamp");
        let nanos = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() + 3_600_000_000_000;
        fs::write(&state, nanos.to_string()).expect("a floor in the future");
        let (hub, two) = (site.mesh.up(CONNECTOR), site.mesh.up(&edge(2)));
        let one = site.mesh.up(&edge(1));
        assert_eq!(ping(site.edge_host(1), &site.address(2, Family::V4), 2).lost(), 0);
        // With a goodbye: one that had something to say would dial, and be let in.
        one.stop();
        fs::remove_file(&state).expect("its state is lost");
        let one = site.mesh.up(&edge(1));
        Why::of(&one, &[&edge(2)]).assert_fails("clock_behind", &[&edge(1)], &["beijing.edge2 refuses", "clock"]);
        drop((hub, two));
    });
}

/// The first edge with a pre-shared key that nobody else has.
fn with_psk(site: &Site) -> Daemon {
    let folder = site.mesh.write(&edge(1));
    let (psk, file) = (folder.join("psk"), folder.join("meshd.toml"));
    fs::write(&psk, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n").expect("a file");
    fs::set_permissions(&psk, Permissions::from_mode(0o600)).expect("its mode");
    let text = fs::read_to_string(&file).expect("its configuration");
    fs::write(&file, text.replacen("[node]\n", &format!("[node]\npsk_file = {psk:?}\n"), 1))
        .expect("its configuration");
    let mut daemon = Daemon::spawn(&edge(1), site.edge_host(1), &folder);
    daemon.wait_ready();
    daemon
}

#[test]
fn other_secrets_and_other_mesh_names_are_told_apart() {
    in_lab(|lab| {
        let site = trio(lab);
        let mut renamed = site.mesh.clone();
        renamed.name = "elsewhere".to_owned();
        let two = site.mesh.up(&edge(2));
        {
            let one = renamed.up(&edge(1));
            Why::of(&one, &[&edge(2)]).assert_fails("unanswered", &[], &["mesh name"]);
            let why = Why::of(&two, &[&edge(1)]);
            why.assert_fails("mesh_name_differs", &[&edge(2), &edge(1)], &["different mesh names"]);
            assert!(why.json["next"].as_str().is_some_and(|next| next.contains("\"demo\"")), "{:#}", why.json);
        }
        let one = with_psk(&site);
        Why::of(&one, &[&edge(2)]).assert_fails("psk_differs", &[&edge(1), &edge(2)], &["pre-shared key"]);
    });
}

#[test]
fn a_gateway_that_does_not_forward_says_so_itself() {
    in_lab(|lab| {
        let mut site = trio(lab);
        let gateway = site.mesh.endpoint_mut(CONNECTOR).subnets(&["10.233.0.0/17"]).host.clone();
        let behind = lab.host("behind");
        lab.cable(&gateway, &["10.233.0.1/17"], &behind, &["10.233.1.7/17"]);
        behind.ok("ip route add default via 10.233.0.1");
        let (one, two) = (site.mesh.up(&edge(1)), site.mesh.up(&edge(2)));
        let _hub = site.mesh.up(CONNECTOR);
        Why::of(&one, &["10.233.1.7"]).assert_reaches("reachable_direct");
        gateway.set_sysctl("net/ipv4/ip_forward", "0");
        Why::of(&one, &["10.233.1.7"]).assert_fails("forwarding_off", &[CONNECTOR], &["does not forward"]);
        // And another member is told the same of it.
        let why = Why::of(&two, &["10.233.1.7", "--from", &edge(1)]);
        why.assert_fails("forwarding_off", &[CONNECTOR], &["does not forward"]);
        assert_eq!(why.json["from"].as_str(), Some(edge(1).as_str()));
    });
}

#[test]
fn a_path_that_swallows_large_packets_is_told_with_the_size_that_passes() {
    in_lab(|lab| {
        let (one, two) = (lab.host("one"), lab.host("two"));
        let link = Link::between(lab, "wire", [(&one, &["192.0.2.1/24"]), (&two, &["192.0.2.2/24"])]);
        link.set_silent_mtu(1400);
        let mut mesh = Mesh::new(lab, "narrow");
        mesh.edge("here.one", &one, "192.0.2.1").address("10.99.0.1");
        mesh.edge("there.two", &two, "192.0.2.2").address("10.99.0.2");
        mesh.community("both", &["here.one", "there.two"]);
        let daemons = mesh.up_all();
        assert_eq!(ping(&one, "10.99.0.2", 2).lost(), 0);
        wait_until(Duration::from_secs(10), "the path's size is known and told", || {
            let why = Why::of(&daemons[0], &["there.two"]);
            why.assert_reaches("reachable_direct");
            why.step("size").contains("too big") && why.json["verdict"].as_str().is_some_and(|v| v.contains("1340"))
        });
    });
}

#[test]
fn two_edges_behind_nats_without_a_relay_have_no_address_for_each_other() {
    in_lab(|lab| {
        let sites = Sites::new(lab, 0, [NatKind::PortRestricted; 2]);
        let running = sites.start();
        let why = Why::of(&running.one, &[TWO]);
        why.assert_fails("no_address", &[TWO], &["no address", "no relay"]);
        assert!(why.json["next"].as_str().is_some_and(|next| next.contains("public_addresses")), "{:#}", why.json);
    });
}

#[test]
fn two_edges_behind_nats_that_need_a_relay_are_told_it_and_from_either_side() {
    in_lab(|lab| {
        let sites = Sites::new(lab, 1, [NatKind::PortRestricted; 2]);
        sites.keep_apart();
        let running = sites.start();
        let why = Why::of(&running.one, &[TWO]);
        why.assert_reaches("reachable_relay");
        assert!(why.step("path").contains("hub.connector0"), "{:#}", why.json);
        let other = Why::of(&running.one, &["10.99.0.1", "--from", TWO]);
        other.assert_reaches("reachable_relay");
        assert_eq!(other.json["peer"].as_str(), Some(ONE));
    });
}
