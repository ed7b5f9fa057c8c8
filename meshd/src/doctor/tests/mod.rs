//! Judgements over made-up facts: a healthy gateway, and what is said when one thing about it is wrong.

mod files;
mod filters;
mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use config::Outline;
use insta::assert_snapshot;
use serde_json::json;

use super::facts::*;
use super::{Finding, Level, count, examine, json, render};
use crate::dataplane::device::OffloadLevel;
use crate::host::{MAIN_TABLE, Survey, SurveyAddress, SurveyLink, SurveyRoute};

/// A key that is none.
const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

const NODE: &str = r#"
node = { name = "a.gate", key_file = "/keys/private.key" }
interface = { name = "mesh0" }
endpoint = [
  { name = "a.gate", kind = "connector", public_key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
    address = "10.99.0.1", public_addresses = ["192.0.2.1"], subnets = ["10.50.0.0/16", "fd00:50::/48"] },
  { name = "b.gate", kind = "connector", public_key = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
    address = "10.99.0.2", public_addresses = ["198.51.100.1"], subnets = ["172.17.0.0/16"] } ]
community = [ { name = "both", members = ["a.gate", "b.gate"] } ]
"#;

pub(super) fn outline(text: &str) -> Box<Outline> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meshd.toml");
    std::fs::write(&path, text).unwrap();
    Box::new(config::outline(&path).unwrap())
}

fn link(name: &str, leads_out: bool, mtu: u32) -> SurveyLink {
    SurveyLink { index: 7, name: name.to_owned(), is_up: true, leads_out, mtu: Some(mtu) }
}

fn route(prefix: &str, interface: &str, is_connected: bool) -> SurveyRoute {
    let is_ours = interface == "mesh0";
    let interfaces = vec![interface.to_owned()];
    let prefix = prefix.parse().unwrap();
    SurveyRoute { prefix, table: MAIN_TABLE, interfaces, gateway: None, is_connected, is_ours, metric: 0 }
}

/// A gateway at which everything is right, with a daemon that runs as root.
fn healthy() -> Facts {
    let capabilities = Capabilities(1 << 1 | 1 << 10 | 1 << 12);
    let process = ProcessFacts { uid: 0, groups: vec![0], capabilities, descriptors: Ok(40), descriptor_limit: 4096 };
    let offloads = ["tun-tcp", "tun-udp", "udp-gso", "udp-gro"].map(str::to_owned).to_vec();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let alive =
        Alive { pid: Some(77), version, port: 6374, is_resting: false, offloads, health: vec![], process: Ok(process) };
    Facts {
        is_root: true,
        config: ConfigFacts { path: "/etc/meshd/meshd.toml".into(), outline: Ok(outline(NODE)), is_barred: false },
        kernel: KernelFacts {
            release: Ok("6.18.0".to_owned()),
            has_udp_segment: Ok(true),
            has_udp_gro: Ok(true),
            tun: Ok(()),
            tun_level: Ok(OffloadLevel::TcpUdp),
            capabilities: Ok(capabilities),
        },
        daemon: DaemonFacts {
            socket: "/run/meshd.sock".into(),
            has_socket_file: true,
            life: Life::Alive(Box::new(alive)),
        },
        clock: ClockFacts {
            now: Duration::from_secs(1_800_000_000),
            built: Some(Duration::from_secs(1_790_000_000)),
            is_synchronised: Ok(true),
            floor: Ok(Duration::from_secs(1_800_000_010)),
        },
        keys: vec![KeyFacts {
            kind: KeyKind::Private,
            path: "/keys/private.key".into(),
            owner: Some(0),
            content: KeyContent::Good { public_key: Some(KEY.to_owned()) },
        }],
        mesh_folder: None,
        state: Ok(StateFacts { dir: "/state".into(), writable: Ok(()), free: Some(1 << 30), leftover: Ok(None) }),
        network: Ok(Survey {
            links: vec![link("lo", false, 65_536), link("eth0", true, 1500), link("mesh0", false, 1420)],
            addresses: vec![SurveyAddress { interface: "eth0".to_owned(), address: "192.0.2.1/24".parse().unwrap() }],
            routes: vec![
                route("0.0.0.0/0", "eth0", false),
                route("192.0.2.0/24", "eth0", true),
                route("172.17.0.0/16", "mesh0", true),
            ],
            rules: vec![],
        }),
        sysctls: sysctls(&[
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv6/conf/all/disable_ipv6", "0"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/eth0/rp_filter", "2"),
            ("net/core/rmem_max", "212992"),
        ]),
        firewall: FirewallFacts { ruleset: Ok(json!({"nftables": []})), legacy_tables: Ok(vec![]) },
        port_holders: Ok(vec![]),
        managers: ManagerFacts {
            processes: BTreeSet::new(),
            networkd_link: None,
            keeps_foreign_routes: false,
            is_unmanaged_by_nm: false,
        },
    }
}

fn sysctls(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn network(facts: &mut Facts) -> &mut Survey {
    facts.network.as_mut().unwrap()
}

fn alive(facts: &mut Facts) -> &mut Alive {
    match &mut facts.daemon.life {
        Life::Alive(alive) => alive,
        Life::Absent | Life::Barred | Life::Silent { .. } => panic!("no daemon"),
    }
}

/// Everything that is not ok, as people read it.
fn told(facts: &Facts) -> String {
    let findings: Vec<Finding> = examine(facts).into_iter().filter(|finding| finding.level != Level::Ok).collect();
    assert!(findings.iter().all(|finding| finding.fix.is_some()), "something to do for each: {findings:?}");
    let text = render(&findings);
    text.rsplit_once("\n\n").map_or(text.clone(), |(lines, _)| format!("{lines}\n"))
}

/// What is said of a gateway once this was done to it.
fn after(change: impl FnOnce(&mut Facts)) -> String {
    let mut facts = healthy();
    change(&mut facts);
    told(&facts)
}

#[test]
fn a_healthy_gateway_is_ok_throughout() {
    assert_snapshot!(render(&examine(&healthy())), @r"
    ok       config      /etc/meshd/meshd.toml: a.gate in mesh default of 2
    ok       key         /keys/private.key: for its owner only, and the one that the mesh knows
    ok       state       /state can be written
    ok       kernel      Linux 6.18.0 has UDP_SEGMENT (4.18), UDP_GRO (5.0), TUN USO (6.2)
    ok       tun         /dev/net/tun opens
    ok       rights      the daemon has CAP_NET_ADMIN
    ok       daemon      it answers: version 0.1.0, pid 77
    ok       offloads    tun-tcp, tun-udp, udp-gso, udp-gro
    ok       files       the daemon may open 4096 files and has 40
    ok       port        the daemon listens on UDP port 6374
    ok       clock       something keeps it right
    ok       ipv6        on
    ok       forwarding  IPv4 on, for the subnets of this node
    ok       forwarding  IPv6 on, for the subnets of this node
    ok       rp_filter   drops nothing of the mesh
    ok       buffers     CAP_NET_ADMIN sets them whatever rmem_max and wmem_max say
    ok       mtu         1420 inside fits the 1500 of the widest link
    ok       firewall    no chain of nftables drops udp dport 6374 for certain
    ok       routes      nobody else has one for any of the mesh's 3 prefixes
    ok       rules       none but the kernel's
    ok       vpn         no other is up
    ok       managers    neither NetworkManager nor systemd-networkd is seen to run

    22 ok, 0 to look at, 0 failed, 0 not looked at
    ");
}

#[test]
fn scripts_get_the_verdict_and_every_finding_with_its_fix() {
    let findings =
        vec![Finding { check: "port", level: Level::Fail, found: "taken".into(), fix: Some("stop it".into()) }];
    assert_snapshot!(json(&findings).unwrap(), @r#"
    {
      "verdict": "fail",
      "checks": [
        {
          "check": "port",
          "level": "fail",
          "found": "taken",
          "fix": "stop it"
        }
      ]
    }
    "#);
}

#[test]
fn without_permission_nothing_fails_and_all_that_was_not_looked_at_is_said() {
    let mut facts = healthy();
    facts.is_root = false;
    facts.config = ConfigFacts { path: "/etc/meshd/meshd.toml".into(), outline: Err(vec![]), is_barred: true };
    facts.kernel.capabilities = Ok(Capabilities(0));
    facts.kernel.tun = Err(std::io::ErrorKind::PermissionDenied);
    facts.kernel.tun_level = Err("this user may not make interfaces".to_owned());
    facts.daemon.life = Life::Barred;
    facts.keys = vec![];
    facts.state = Err("the configuration does not say which".to_owned());
    facts.firewall.ruleset = Err("nft fails: Operation not permitted".to_owned());
    let findings = examine(&facts);
    assert_eq!(count(&findings, Level::Fail), 0, "{}", render(&findings));
    let skipped: BTreeSet<&str> =
        findings.iter().filter(|finding| finding.level == Level::Skipped).map(|finding| finding.check).collect();
    for check in ["config", "key", "state", "tun", "rights", "daemon", "port", "forwarding", "firewall", "routes"] {
        assert!(skipped.contains(check), "{check}: {}", render(&findings));
    }
}
