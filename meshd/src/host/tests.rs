//! The claims of this folder, each proved in a network namespace of its own.
//!
//! A test runs its own program again under `unshare`; where the machine allows no user namespaces it is skipped, and says so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};

use super::plan::MAIN_TABLE;
use super::*;
use crate::underlay::Way;

const INSIDE: &str = "MESHD_TEST_NAMESPACE";
const UNSHARE: [&str; 8] =
    ["--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Runs `body` in a fresh namespace: outside it starts this test again, inside it is that test.
fn in_namespace<F: Future<Output = ()>>(test: &str, body: impl FnOnce(PathBuf) -> F) {
    if std::env::var_os(INSIDE).is_some() {
        let state = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(body(state.path().to_owned()));
    }
    if !Command::new("unshare").args(UNSHARE).arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no user namespaces here");
        return;
    }
    let test = format!("host::tests::{test}");
    let mut again = Command::new("unshare");
    again.args(UNSHARE).arg(std::env::current_exe().unwrap()).args(["--exact", &test, "--nocapture"]).env(INSIDE, "1");
    let output = again.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A LAN at eth0 with a gateway, behind it 10.0.0.0/8; and a TUN device as the data plane makes it.
fn network() {
    for command in [
        "link set lo up",
        "link add eth0 type veth peer name peer0",
        "link set eth0 addrgenmode none",
        "link set peer0 addrgenmode none",
        "link set eth0 up",
        "link set peer0 up",
        "addr add 192.168.1.2/24 dev eth0",
        "addr add fd77::2/64 dev eth0 nodad",
        "route add default via 192.168.1.1",
        "route add 10.0.0.0/8 via 192.168.1.1",
        "route add 10.1.5.0/24 via 192.168.1.1 proto static",
        "route add blackhole 10.1.6.0/26 proto 80",
        "-6 route add default via fd77::1",
        "-6 route add fd01:0:5::/48 via fd77::1",
        "tuntap add mode tun t0",
    ] {
        ip(command);
    }
    settled();
}

fn settings(state: &Path) -> HostSettings {
    HostSettings::new("t0", state)
}

fn own_table(state: &Path) -> HostSettings {
    HostSettings { table: 6374, ..settings(state) }
}

fn open(settings: HostSettings) -> Host {
    Host::new(settings, Underlay::default()).unwrap()
}

fn plan(prefixes: &[&str]) -> Plan {
    let net = |text: &&str| text.parse::<IpNet>().unwrap();
    let routes = prefixes.iter().map(|text| PlannedRoute { prefix: net(text), owner: "paris.edge1".parse().unwrap() });
    Plan {
        addresses: ["10.99.0.1/32", "fd00::1/128"].iter().map(net).collect(),
        mtu: 1_400,
        txqueuelen: 1_000,
        gso_max_segs: Some(45),
        routes: routes.collect(),
        underlay: vec![],
        forward_v4: false,
        forward_v6: false,
    }
}

fn forwarding(prefixes: &[&str]) -> Plan {
    Plan { forward_v4: true, forward_v6: true, ..plan(prefixes) }
}

/// All that meshd could have changed. The queue discipline of a device that was up once stays: the kernel keeps it.
fn snapshot() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for what in ["-d link", "addr", "-4 rule", "-6 rule", "-4 route show table all", "-6 route show table all"] {
        let mut lines = Vec::new();
        for mut object in serde_json::from_str::<Vec<serde_json::Value>>(&ip(&format!("-j {what}"))).unwrap() {
            let object = object.as_object_mut().unwrap();
            object.remove("qdisc");
            lines.push(format!("{object:?}"));
        }
        all.insert(what.to_owned(), lines.join("\n"));
    }
    for family in ["ipv4", "ipv6"] {
        read_tree(&Path::new("/proc/sys/net").join(family), &mut all);
    }
    all
}

fn read_tree(directory: &Path, all: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            read_tree(&entry.path(), all);
        } else {
            let value = std::fs::read_to_string(entry.path()).unwrap_or_else(|error| error.kind().to_string());
            all.insert(entry.path().display().to_string(), value);
        }
    }
}

/// The kernel reports carrier in its own time; waits until nothing moves, and gives what is then.
fn settled() -> BTreeMap<String, String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let (mut last, mut same) = (snapshot(), 0);
    while same < 3 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(60));
        let next = snapshot();
        same = if next == last { same + 1 } else { 0 };
        last = next;
    }
    last
}

fn assert_same(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    for key in before.keys().chain(after.keys()) {
        assert_eq!(before.get(key), after.get(key), "{key}");
    }
}

fn device_to(target: &str) -> String {
    let text = ip(&format!("route get {target}"));
    let device = text.split_whitespace().skip_while(|word| *word != "dev").nth(1);
    device.unwrap_or_default().to_owned()
}

#[test]
fn packets_go_into_the_mesh_except_where_this_machine_knows_better() {
    in_namespace("packets_go_into_the_mesh_except_where_this_machine_knows_better", |state| async move {
        network();
        let rules = || [ip("rule"), ip("-6 rule")];
        let before = rules();
        let prefixes = ["10.1.0.0/16", "192.168.1.7/32", "192.168.0.0/16", "172.16.0.0/12", "fd01::/16", "fd77::9/128"];
        for settings in [settings(&state), own_table(&state)] {
            let is_own = settings.has_own_table();
            let mut host = open(settings);
            host.recover().await.unwrap();
            host.configure(&plan(&prefixes)).await.unwrap();
            for (target, device) in [
                ("10.1.2.3", "t0"),
                ("10.2.2.3", "eth0"),
                ("10.1.5.1", "eth0"),
                ("192.168.1.7", "eth0"),
                ("192.168.1.9", "eth0"),
                ("192.168.2.9", "t0"),
                ("172.16.0.1", "t0"),
                ("8.8.8.8", "eth0"),
                ("10.99.0.1", "lo"),
                ("192.168.1.2", "lo"),
                ("fd01:0:4::1", "t0"),
                ("fd01:0:5::1", "eth0"),
                ("fd77::9", "eth0"),
            ] {
                assert_eq!(device_to(target), device, "{target}");
            }
            assert!(!Command::new("ip").args(["route", "get", "10.1.6.1"]).status().unwrap().success());
            assert!(ip("route get 10.1.2.3").contains("src 10.99.0.1"));
            assert!(ip("route get fd01:0:4::1").contains("src fd00::1"));
            let notes: Vec<String> = host.notes().iter().map(ToString::to_string).collect();
            assert_eq!(notes.len(), 2, "{notes:?}");
            for words in [["192.168.1.7/32", "192.168.1.0/24"], ["fd77::9/128", "fd77::/64"]] {
                let all = [words[0], words[1], "eth0", "paris.edge1"];
                assert!(notes.iter().any(|note| all.iter().all(|word| note.contains(word))), "{notes:?}");
            }
            if is_own {
                for rules in rules() {
                    assert!(rules.contains("6374:\tnot from all fwmark 0x18e6 lookup 6374 proto 109"), "{rules}");
                }
                for target in ["172.16.0.1 mark 6374", "fd01:0:4::1 mark 6374"] {
                    assert_eq!(device_to(target), "eth0", "{target}");
                }
                assert_eq!(device_to("172.16.0.1 mark 7"), "t0");
            } else {
                assert_eq!(rules(), before);
                let eth0 = nix::net::if_::if_nametoindex("eth0").ok().and_then(std::num::NonZeroU32::new).unwrap();
                for (target, way) in [
                    ("10.1.2.3", Way::By(eth0)),
                    ("10.1.6.1", Way::Nowhere),
                    ("172.16.0.1", Way::By(eth0)),
                    ("8.8.8.8", Way::Kernel),
                    ("192.168.1.7", Way::By(eth0)),
                    ("fd01:0:4::1", Way::By(eth0)),
                ] {
                    assert_eq!(host.underlay.to(target.parse().unwrap()), way, "{target}");
                }
                for target in ["172.16.0.1 oif eth0", "fd01:0:4::1 oif eth0", "10.1.2.3 oif eth0"] {
                    assert_eq!(device_to(target), "eth0", "{target}");
                }
            }
            let link = ip("-j -d link show t0");
            for part in
                ["\"mtu\":1400", "\"txqlen\":1000", "\"gso_max_segs\":45", "\"inet6_addr_gen_mode\":\"none\"", "\"UP\""]
            {
                assert!(link.contains(part), "{part} in {link}");
            }
            host.revert().await.unwrap();
            assert_eq!(rules(), before);
        }
    });
}

#[test]
fn a_default_route_into_the_mesh_takes_all_but_what_the_machine_itself_knows() {
    in_namespace("a_default_route_into_the_mesh_takes_all_but_what_the_machine_itself_knows", |state| async move {
        network();
        for settings in [settings(&state), own_table(&state)] {
            let mut host = open(settings);
            host.recover().await.unwrap();
            host.configure(&plan(&["0.0.0.0/0", "::/0"])).await.unwrap();
            assert_eq!(host.notes(), []);
            for (target, device) in [
                ("8.8.8.8", "t0"),
                ("223.1.1.1", "t0"),
                ("10.2.2.3", "eth0"),
                ("192.168.1.9", "eth0"),
                ("2001:db8::1", "t0"),
                ("fd01:0:5::1", "eth0"),
            ] {
                assert_eq!(device_to(target), device, "{target}");
            }
            host.revert().await.unwrap();
        }
    });
}

#[test]
fn revert_leaves_everything_as_it_was() {
    in_namespace("revert_leaves_everything_as_it_was", |state| async move {
        network();
        // What turning the switches off would not bring back by itself.
        std::fs::write("/proc/sys/net/ipv4/conf/eth0/forwarding", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/all/accept_redirects", "0").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/peer0/forwarding", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/default/forwarding", "1").unwrap();
        let before = settled();
        let mut host = open(settings(&state));
        host.recover().await.unwrap();
        host.configure(&forwarding(&["10.1.0.0/16", "fd01::/16"])).await.unwrap();
        assert_eq!(host.notes(), []);
        let during = snapshot();
        for (key, value) in [
            ("ipv4/ip_forward", "1\n"),
            ("ipv6/conf/all/forwarding", "1\n"),
            ("ipv6/conf/eth0/accept_ra", "2\n"),
            ("ipv6/conf/peer0/accept_ra", "1\n"),
        ] {
            assert_eq!(during[&format!("/proc/sys/net/{key}")], value, "{key}");
        }
        host.configure(&plan(&["10.3.0.0/16"])).await.unwrap();
        assert_eq!(snapshot()["/proc/sys/net/ipv4/ip_forward"], "0\n");
        host.configure(&forwarding(&["10.3.0.0/16"])).await.unwrap();
        host.revert().await.unwrap();
        assert_same(&before, &settled());
        assert!(!state.join("undo.json").exists());
    });
}

#[test]
fn the_next_start_undoes_what_a_killed_process_left() {
    in_namespace("the_next_start_undoes_what_a_killed_process_left", |state| async move {
        network();
        ip("route add 10.77.0.0/16 via 192.168.1.1 table 6374 proto static");
        ip("rule add from 10.77.0.1 lookup 6374 priority 6374");
        let before = settled();
        for is_corrupt in [false, true] {
            let mut host = open(own_table(&state));
            host.recover().await.unwrap();
            let wanted = if is_corrupt { plan(&["10.1.0.0/16"]) } else { forwarding(&["10.1.0.0/16", "fd01::/16"]) };
            host.configure(&wanted).await.unwrap();
            assert!(matches!(host.notes()[..], [HostNote::TableShared { table: 6374, others: 1 }]));
            drop(host);
            if is_corrupt {
                std::fs::write(state.join("undo.json"), "{").unwrap();
                ip("link del t0");
            }
            // The next start may have another table, if the journal tells of this one's.
            let mut host = open(if is_corrupt { own_table(&state) } else { settings(&state) });
            host.recover().await.unwrap();
            if is_corrupt {
                assert!(matches!(host.notes()[..], [HostNote::JournalUnreadable { .. }]));
                assert_eq!(ip("route show table 6374"), "10.77.0.0/16 via 192.168.1.1 dev eth0 proto static \n");
                assert_eq!(before["-4 rule"], snapshot()["-4 rule"]);
            } else {
                assert_same(&before, &settled());
            }
            assert!(!state.join("undo.json").exists());
        }
    });
}

#[test]
fn a_journal_that_somebody_else_wrote_touches_no_file_and_no_interface_but_a_tun_device() {
    let name = "a_journal_that_somebody_else_wrote_touches_no_file_and_no_interface_but_a_tun_device";
    in_namespace(name, |state| async move {
        network();
        let victim = state.join("victim");
        std::fs::write(&victim, "1").unwrap();
        open(settings(&state)).configure(&plan(&[])).await.unwrap();
        let path = state.join("undo.json");
        let journal: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        ip("link del t0");
        let before = settled();

        let mut file = journal.clone();
        let switch = serde_json::json!({ "key": victim, "before": "0", "set": "1" });
        file["forward_v4"] = serde_json::json!({ "alone": [], "switch": switch, "coupled": [] });
        let mut link = journal;
        link["interface"] = "eth0".into();
        link["addresses"] = serde_json::json!(["192.168.1.2/24"]);
        link["link"]["index"] = nix::net::if_::if_nametoindex("eth0").unwrap().into();
        link["link"]["is_up"] = false.into();
        for written in [file, link] {
            std::fs::write(&path, written.to_string()).unwrap();
            open(settings(&state)).recover().await.unwrap();
            assert_eq!(std::fs::read_to_string(&victim).unwrap(), "1");
            assert_same(&before, &settled());
        }
        assert!(state.join("undo.json.unreadable").exists());
    });
}

#[test]
fn a_journal_from_before_a_reboot_changes_no_sysctl() {
    in_namespace("a_journal_from_before_a_reboot_changes_no_sysctl", |state| async move {
        network();
        let mut host = open(settings(&state));
        host.configure(&forwarding(&[])).await.unwrap();
        drop(host);
        let path = state.join("undo.json");
        let mut undo: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        undo["kernel"]["boot"] = "another".into();
        std::fs::write(&path, undo.to_string()).unwrap();
        let mut host = open(settings(&state));
        host.recover().await.unwrap();
        assert_eq!(snapshot()["/proc/sys/net/ipv4/ip_forward"], "1\n");
        assert!(!ip("rule").contains("6374"));
    });
}

#[test]
fn a_route_that_appears_later_is_respected_after_reconcile_and_only_differences_are_sent() {
    let name = "a_route_that_appears_later_is_respected_after_reconcile_and_only_differences_are_sent";
    in_namespace(name, |state| async move {
        network();
        let mut host = open(settings(&state));
        host.configure(&plan(&["10.1.0.0/16", "10.50.0.0/16", "fd01::/16"])).await.unwrap();
        assert_eq!(device_to("10.1.9.1"), "t0");
        ip("route add 10.1.9.0/24 via 192.168.1.1 proto dhcp");
        ip("addr add 10.50.0.9/16 dev peer0");
        host.reconcile().await.unwrap();
        assert_eq!(device_to("10.1.9.1"), "eth0");
        assert_eq!(device_to("10.50.0.7"), "peer0");
        assert!(matches!(&host.notes()[..], [HostNote::Connected { interface, .. }] if interface == "peer0"));
        let mut monitor = super::netlink::EventSocket::open().unwrap();
        host.reconcile().await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), monitor.receive()).await.is_err());
        ip("route del 10.1.9.0/24");
        ip("addr del 10.50.0.9/16 dev peer0");
        host.reconcile().await.unwrap();
        assert_eq!((device_to("10.1.9.1"), device_to("10.50.0.7")), ("t0".into(), "t0".into()));
        ip("link set t0 down");
        host.reconcile().await.unwrap();
        assert!(matches!(&host.notes()[..], [HostNote::InterfaceDown { .. }]));
        ip("link set t0 up");
        host.reconcile().await.unwrap();
        assert_eq!((device_to("10.1.9.1"), device_to("fd01:0:4::1")), ("t0".into(), "t0".into()));
    });
}

#[test]
fn another_plan_leaves_an_interface_down_that_somebody_set_down_and_holds_once_it_is_up() {
    let name = "another_plan_leaves_an_interface_down_that_somebody_set_down_and_holds_once_it_is_up";
    in_namespace(name, |state| async move {
        network();
        let mut host = open(settings(&state));
        host.reconfigure(&plan(&["10.50.0.0/16"])).await.unwrap();
        assert_eq!(device_to("10.50.0.7"), "t0", "the first is configured whole");
        ip("link set t0 down");
        for prefix in ["10.50.0.0/16", "10.60.0.0/16"] {
            host.reconfigure(&plan(&[prefix])).await.unwrap();
            assert!(!ip("link show t0").contains("UP"), "{prefix}");
        }
        ip("link set t0 up");
        host.reconcile().await.unwrap();
        assert_eq!((device_to("10.60.0.7"), device_to("10.50.0.7")), ("t0".into(), "eth0".into()));
    });
}

#[test]
fn two_thousand_routes_are_installed_at_once() {
    in_namespace("two_thousand_routes_are_installed_at_once", |state| async move {
        network();
        let subnets = "172.16.0.0/12".parse::<Ipv4Net>().unwrap().subnets(24).unwrap().take(2_000);
        let routes = subnets.map(|net| PlannedRoute { prefix: net.into(), owner: "a.b".parse().unwrap() }).collect();
        let many = Plan { routes, ..plan(&[]) };
        let mut host = open(settings(&state));
        let mut timed = Vec::new();
        let start = Instant::now();
        host.configure(&many).await.unwrap();
        timed.push(("configure", start.elapsed()));
        assert_eq!(ip("route show proto 109").lines().count(), 2_000);
        let start = Instant::now();
        host.reconcile().await.unwrap();
        timed.push(("reconcile", start.elapsed()));
        let start = Instant::now();
        host.revert().await.unwrap();
        timed.push(("revert", start.elapsed()));
        println!("2000 routes: {timed:?}");
        assert_eq!(ip("route show table all").matches("proto 109").count(), 0);
        assert!(timed.iter().all(|(_, took)| *took < Duration::from_secs(3)), "{timed:?}");
    });
}

#[test]
fn an_interface_without_ipv6_gets_its_ipv4_and_a_note() {
    in_namespace("an_interface_without_ipv6_gets_its_ipv4_and_a_note", |state| async move {
        network();
        std::fs::write("/proc/sys/net/ipv6/conf/t0/disable_ipv6", "1").unwrap();
        let mut host = open(settings(&state));
        host.configure(&forwarding(&["10.1.0.0/16", "fd01::/16"])).await.unwrap();
        assert_eq!(device_to("10.1.0.1"), "t0");
        assert!(matches!(host.notes()[..], [HostNote::Ipv6Off { .. }]));
        let mut host = open(HostSettings { table: 7, ..HostSettings::new("nope", state.join("b")) });
        assert!(matches!(host.configure(&plan(&[])).await, Err(HostError::NoInterface(_))));
    });
}

#[test]
fn a_strict_filter_that_would_drop_a_peers_datagrams_is_told() {
    in_namespace("a_strict_filter_that_would_drop_a_peers_datagrams_is_told", |state| async move {
        network();
        let outer = |plan: Plan, text: &str| Plan { underlay: vec![text.parse().unwrap()], ..plan };
        let mut host = open(settings(&state));
        host.configure(&outer(plan(&["10.1.0.0/16"]), "10.1.2.3")).await.unwrap();
        assert_eq!(host.notes(), []);
        std::fs::write("/proc/sys/net/ipv4/conf/eth0/rp_filter", "1").unwrap();
        host.reconcile().await.unwrap();
        assert!(host.notes()[0].to_string().starts_with("eth0 will drop datagrams from the peer at 10.1.2.3"));
        host.configure(&outer(plan(&["10.1.0.0/16"]), "10.1.5.3")).await.unwrap();
        assert_eq!(host.notes(), []);
    });
}

#[test]
fn read_only_sysctls_become_notes_that_name_them() {
    in_namespace("read_only_sysctls_become_notes_that_name_them", |state| async move {
        network();
        let mount =
            |arguments: &str| Command::new("mount").args(arguments.split_whitespace()).status().unwrap().success();
        assert!(mount("--bind /proc/sys /proc/sys") && mount("-o remount,ro,bind /proc/sys"));
        let mut host = open(settings(&state));
        host.configure(&forwarding(&["10.1.0.0/16"])).await.unwrap();
        let notes: Vec<String> = host.notes().iter().map(ToString::to_string).collect();
        assert!(notes[0].starts_with("set net.ipv4.ip_forward=1 yourself"), "{notes:?}");
        assert!(notes[1].starts_with("set net.ipv6.conf.all.forwarding=1 yourself"), "{notes:?}");
        host.revert().await.unwrap();
    });
}

#[test]
fn a_second_instance_on_the_same_interface_is_refused_and_one_on_another_is_not() {
    let name = "a_second_instance_on_the_same_interface_is_refused_and_one_on_another_is_not";
    in_namespace(name, |state| async move {
        network();
        let mut first = open(settings(&state));
        first.recover().await.unwrap();
        first.configure(&plan(&["10.1.0.0/16"])).await.unwrap();
        for state in [state.clone(), state.join("other")] {
            let error = open(settings(&state)).recover().await.unwrap_err();
            let wanted = format!("another meshd (pid {}) is using interface t0", std::process::id());
            assert!(error.to_string().starts_with(&wanted), "{error}");
        }
        ip("tuntap add mode tun t1");
        let mut second = open(HostSettings::new("t1", state.join("other")));
        second.recover().await.unwrap();
        second.configure(&Plan { addresses: vec![], ..plan(&["10.2.0.0/16"]) }).await.unwrap();
        first.reconcile().await.unwrap();
        assert_eq!((device_to("10.1.0.1"), device_to("10.2.0.1")), ("t0".into(), "t1".into()));
        first.revert().await.unwrap();
        assert_eq!((device_to("10.1.0.1"), device_to("10.2.0.1")), ("eth0".into(), "t1".into()));
    });
}

#[test]
fn a_route_that_another_program_adds_for_a_mesh_prefix_is_not_refused_and_wins() {
    in_namespace("a_route_that_another_program_adds_for_a_mesh_prefix_is_not_refused_and_wins", |state| async move {
        network();
        let mut host = open(settings(&state));
        host.configure(&plan(&["10.1.0.0/16", "fd01::/16"])).await.unwrap();
        ip("route add 10.1.0.0/16 via 192.168.1.1 metric 600");
        ip("-6 route add fd01::/16 via fd77::1");
        assert_eq!((device_to("10.1.0.1"), device_to("fd01::1")), ("eth0".into(), "eth0".into()));
        host.reconcile().await.unwrap();
        assert!(matches!(&host.notes()[..], [HostNote::LocalRoute { .. }, HostNote::LocalRoute { .. }]));
        ip("route del 10.1.0.0/16");
        ip("-6 route del fd01::/16");
        host.reconcile().await.unwrap();
        assert_eq!((device_to("10.1.0.1"), device_to("fd01::1")), ("t0".into(), "t0".into()));
    });
}

#[test]
fn changes_of_the_machine_are_told_once_and_our_own_are_not() {
    in_namespace("changes_of_the_machine_are_told_once_and_our_own_are_not", |state| async move {
        network();
        let mut watch = Watch::new("t0", MAIN_TABLE).unwrap();
        let mut host = open(settings(&state));
        host.configure(&plan(&["10.1.0.0/16", "fd01::/16"])).await.unwrap();
        let soon = Duration::from_millis(400);
        // Setting our interface up is told, as anyone's doing so would be; nothing else of this is.
        let told = tokio::time::timeout(soon, watch.changed()).await;
        assert!(told.is_err() || told.unwrap().unwrap() == Changes { links: true, ..Changes::default() });
        assert!(tokio::time::timeout(soon, watch.changed()).await.is_err());
        ip("route add 10.8.0.0/16 via 192.168.1.1");
        ip("addr add 192.168.7.1/32 dev eth0");
        let told = tokio::time::timeout(soon, watch.changed()).await.unwrap().unwrap();
        assert_eq!(told, Changes { addresses: true, routes: true, ..Changes::default() });
        ip("route del 10.1.0.0/16 proto 109");
        let told = tokio::time::timeout(soon, watch.changed()).await.unwrap().unwrap();
        assert_eq!(told, Changes { ours: true, ..Changes::default() });
        ip("link set eth0 down");
        assert!(tokio::time::timeout(soon, watch.changed()).await.unwrap().unwrap().links);
    });
}

#[test]
fn more_events_than_the_socket_holds_count_as_changes_of_everything() {
    in_namespace("more_events_than_the_socket_holds_count_as_changes_of_everything", |state| async move {
        network();
        let mut watch = Watch::new("t0", 6374).unwrap();
        let batch: String =
            (0..4_000).map(|n| format!("route add 10.9.{}.{}/32 dev eth0\n", n / 250, n % 250)).collect();
        let file = state.join("routes");
        std::fs::write(&file, batch).unwrap();
        ip(&format!("-batch {}", file.display()));
        let told = tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.unwrap().unwrap();
        assert_eq!(told, Changes { links: true, addresses: true, routes: true, ours: true });
    });
}
