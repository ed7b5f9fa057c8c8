//! What is said of configuration, keys, daemon, clock, sysctls, routes and managers.

use std::io::ErrorKind;

use super::*;
use crate::host::{Leftover, SurveyRule};

#[test]
fn every_problem_of_a_configuration_is_a_failure_with_its_place() {
    let problem = config::Problem {
        file: "/etc/meshd/meshd.toml".into(),
        line: 3,
        column: 1,
        key: "interface.mtuu".to_owned(),
        message: "unknown key \"mtuu\" in [interface]".to_owned(),
        help: Some("did you mean \"mtu\"?".to_owned()),
    };
    let said = after(|facts| {
        facts.config.outline = Err(vec![problem]);
        facts.keys = vec![];
    });
    assert_snapshot!(said, @r#"
    fail     config      /etc/meshd/meshd.toml:3:1: unknown key "mtuu" in [interface]
                         -> did you mean "mtu"?
    skipped  key         the configuration does not say which
                         -> mend the configuration first
    skipped  port        the configuration does not say which
                         -> mend the configuration first
    skipped  forwarding  the configuration does not say whether it is needed
                         -> mend it first
    skipped  routes      configuration or routes cannot be read
                         -> mend the configuration first
    "#);
}

#[test]
fn keys_that_others_may_read_that_are_not_the_mesh_s_or_not_the_daemon_s_fail() {
    let said = after(|facts| {
        let bad = KeyContent::Bad {
            reason: "/k is open to group or others (mode 0644)".into(),
            help: Some("chmod 600 /k".into()),
        };
        facts.keys[0].content = bad;
    });
    assert_snapshot!(said, @r"
    fail     key  /k is open to group or others (mode 0644)
                  -> chmod 600 /k
    ");
    let said = after(|facts| facts.keys[0].content = KeyContent::Good { public_key: Some("AgIC=".into()) });
    assert!(said.contains("is the key of AgIC=, and the mesh has AQEB"), "{said}");
    let said = after(|facts| alive(facts).process.as_mut().unwrap().uid = 998);
    assert!(said.contains("belongs to user 0, and the daemon runs as 998") && said.contains("chown 998"), "{said}");
}

#[test]
fn a_port_that_another_program_has_fails_with_its_name() {
    let said = after(|facts| {
        facts.daemon = DaemonFacts { socket: "/run/meshd.sock".into(), has_socket_file: false, life: Life::Absent };
        facts.port_holders = Ok(vec![PortHolder { uid: 0, process: Some((12, "python3".into())) }]);
    });
    assert_snapshot!(said, @r"
    warn     daemon  no daemon listens on /run/meshd.sock
                     -> start it: systemctl start meshd, or `meshd up`
    fail     port    UDP port 6374 is taken by python3 (pid 12)
                     -> stop that program, or choose another [listen] port and tell the peers
    ");
}

#[test]
fn a_daemon_that_hangs_is_old_lacks_rights_or_complains_is_told() {
    let said = after(|facts| facts.daemon.life = Life::Silent { pid: Some(9) });
    assert!(said.contains("(pid 9) listens on /run/meshd.sock and does not answer"), "{said}");
    let said = after(|facts| {
        let alive = alive(facts);
        alive.version = "0.0.9".into();
        alive.health = vec!["the state folder is full".into(), "b".into()];
        alive.offloads.retain(|name| name != "tun-udp");
        let process = alive.process.as_mut().unwrap();
        (process.capabilities, process.descriptor_limit) = (Capabilities(0), 256);
    });
    assert_snapshot!(said, @r"
    fail     rights    the daemon lacks CAP_NET_ADMIN: no interface, no routes
                       -> run `meshd up` as root, or give its unit AmbientCapabilities=CAP_NET_ADMIN
    warn     daemon    it is version 0.0.9, and this program 0.1.0
                       -> restart it: systemctl restart meshd
    warn     daemon    it reports: the state folder is full (and 1 more)
                       -> meshd status
    warn     offloads  tun-udp off: large transfers cost more CPU
                       -> see the line of the kernel above, and [dataplane] offload and without in meshd.toml
    warn     files     the daemon may open 256 files: a spray or many members over TLS take more
                       -> set LimitNOFILE=4096 in its unit, or `ulimit -n 4096` before `meshd up`
    warn     buffers   the socket's buffers are smaller than meshd asks for
                       -> sysctl -w net.core.rmem_max=1572864
    ");
}

#[test]
fn offloads_that_are_off_by_choice_are_all_right() {
    let chosen = format!("dataplane = {{ without = [\"tun-udp\"] }}\n{NODE}");
    let said = after(|facts| {
        facts.config.outline = Ok(outline(&chosen));
        alive(facts).offloads.retain(|name| name != "tun-udp");
    });
    assert_eq!(said.trim(), "0 ok, 0 to look at, 0 failed, 0 not looked at");
}

#[test]
fn a_privileged_port_needs_its_capability() {
    let low = NODE.replace("interface = ", "listen = { port = 443 }\ninterface = ");
    let said = after(|facts| {
        facts.config.outline = Ok(outline(&low));
        let alive = alive(facts);
        alive.port = 443;
        alive.process.as_mut().unwrap().capabilities = Capabilities(1 << 12);
    });
    assert!(said.contains("lacks CAP_NET_BIND_SERVICE, which port 443 needs"), "{said}");
}

#[test]
fn a_clock_that_is_wrong_adrift_or_behind_the_last_handshake_is_told() {
    let said = after(|facts| {
        let clock = &mut facts.clock;
        clock.now = Duration::from_secs(1_000);
        clock.is_synchronised = Ok(false);
        clock.floor = Ok(Duration::from_secs(1_000 + 3600));
    });
    assert_snapshot!(said, @r"
    fail     clock  it is set to a time before this program was written: a machine without a battery?
                    -> set it: timedatectl set-ntp true, or date -s
    warn     clock  it is 1h00m behind the last handshake of this node (the file timestamp in [state] dir)
                    -> set it: timedatectl set-ntp true, or date -s
    warn     clock  nothing keeps it right (adjtimex says unsynchronised)
                    -> timedatectl set-ntp true
    ");
}

#[test]
fn forwarding_that_is_off_fails_at_a_gateway_whose_daemon_runs() {
    let off = |facts: &mut Facts| drop(facts.sysctls.insert("net/ipv4/ip_forward".into(), "0".into()));
    assert_snapshot!(after(off), @r"
    fail     forwarding  IPv4 is off, and this node announces subnets: nothing gets there
                         -> sysctl -w net.ipv4.ip_forward=1
    ");
    let mut facts = healthy();
    off(&mut facts);
    facts.daemon.life = Life::Absent;
    let findings = examine(&facts);
    assert!(findings.iter().any(|finding| finding.level == Level::Ok && finding.found.contains("turns it on")));
}

#[test]
fn a_default_route_that_forwarding_took_away_is_told() {
    let said = after(|facts| {
        facts.sysctls.extend(sysctls(&[("net/ipv6/conf/eth0/forwarding", "1"), ("net/ipv6/conf/eth0/accept_ra", "1")]));
        let address = "2001:db8::7/64".parse().unwrap();
        network(facts).addresses.push(SurveyAddress { interface: "eth0".into(), address });
    });
    assert!(said.contains("eth0 ignores router advertisements") && said.contains("accept_ra=2"), "{said}");
}

#[test]
fn strict_reverse_path_filters_are_told_where_they_drop_something() {
    let strict = |facts: &mut Facts| drop(facts.sysctls.insert("net/ipv4/conf/eth0/rp_filter".into(), "1".into()));
    assert_eq!(after(strict).trim(), "0 ok, 0 to look at, 0 failed, 0 not looked at", "one way out only");
    let said = after(|facts| {
        strict(facts);
        network(facts).links.push(link("wwan0", true, 1500));
        network(facts).routes.push(route("0.0.0.0/0", "wwan0", false));
    });
    assert!(said.contains("eth0 is strict, and there are several default routes"), "{said}");
}

#[test]
fn ipv6_that_is_off_narrow_links_and_changed_sizes_are_told() {
    let said = after(|facts| {
        facts.sysctls.insert("net/ipv6/conf/all/disable_ipv6".into(), "1".into());
        network(facts).links[1].mtu = Some(1400);
    });
    assert_snapshot!(said, @r"
    warn     ipv6  it is off (all): mesh addresses and routes of IPv6 are left out
                   -> sysctl -w net.ipv6.conf.all.disable_ipv6=0
    warn     mtu   1420 inside needs 1500 outside, and the widest link has 1400
                   -> set [interface] mtu = 1320 in meshd.toml, to spare senders from finding out
    ");
}

#[test]
fn networks_of_containers_and_vpns_that_take_prefixes_of_the_mesh_are_named() {
    let said = after(|facts| {
        network(facts).links.push(link("wg0", false, 1420));
        network(facts).routes.extend([
            route("172.17.0.0/16", "docker0", true),
            route("172.17.9.0/24", "wg0", true),
            route("10.99.0.0/24", "tun0", false),
        ]);
    });
    assert_snapshot!(said, @r"
    warn     routes  10.99.0.2/32 of b.gate is taken out of 10.99.0.0/24 at tun0 (another VPN): the mesh wins
                     -> take the prefix out of the VPN at tun0, or stop that
    warn     routes  the route for 172.17.0.0/16 of b.gate is left out: 172.17.0.0/16 at docker0 (container network) wins
                     -> give docker other networks (default-address-pools in /etc/docker/daemon.json), or the mesh another prefix
    warn     routes  part of 172.17.0.0/16 of b.gate is not reached through the mesh: 172.17.9.0/24 at wg0 (another VPN) wins
                     -> take the prefix out of the VPN at wg0, or stop that
    ");
    let said = after(|facts| network(facts).routes.push(route("172.17.9.0/24", "eth1", true)));
    assert_eq!(said.trim(), "0 ok, 0 to look at, 0 failed, 0 not looked at", "a site that both are in");
    let said = after(|facts| {
        let address = "10.99.0.1/32".parse().unwrap();
        network(facts).addresses.push(SurveyAddress { interface: "wg0".into(), address });
    });
    assert!(said.contains("fail     routes  10.99.0.1, this node's address in the mesh, is at wg0 too"), "{said}");
}

#[test]
fn a_route_that_is_left_out_is_told_as_the_status_tells_it_and_by_what_it_really_is() {
    let said = after(|facts| {
        let by = |prefix, gateway: &str| SurveyRoute { gateway: gateway.parse().ok(), ..route(prefix, "eth0", false) };
        network(facts).routes.extend([by("10.99.0.2/32", "192.0.2.9"), route("172.16.0.0/12", "eth1", true)]);
    });
    assert_snapshot!(said, @r"
    warn     routes  the route for 10.99.0.2/32 of b.gate is left out: 10.99.0.2/32 at eth0 (a route by 192.0.2.9) wins
                     -> where that is not meant, remove it or narrow the subnet in the mesh file: ip route show dev eth0
    warn     routes  the route for 172.17.0.0/16 of b.gate is left out: 172.16.0.0/12 at eth1 (a network of this machine) wins
                     -> where that is not meant, remove it or narrow the subnet in the mesh file: ip route show dev eth1
    ");
}

#[test]
fn rules_that_lead_out_of_the_mesh_are_told_and_others_only_counted() {
    let rule = |table, is_ours| SurveyRule { v6: false, priority: 5209, table, is_selective: false, is_ours };
    let said = after(|facts| {
        let table = 51_820;
        network(facts).rules.push(rule(table, false));
        network(facts).routes.push(SurveyRoute { table, ..route("0.0.0.0/0", "wg0", true) });
    });
    assert_snapshot!(said, @r"
    warn     rules  rule 5209 sends packets for 10.99.0.2/32 of b.gate to 0.0.0.0/0 at wg0 (table 51820), before the mesh
                    -> ip rule add to 10.99.0.2/32 lookup main priority 5208
    ");
    let mut facts = healthy();
    network(&mut facts).rules.extend([rule(52, false), rule(6374, true)]);
    let findings = examine(&facts);
    assert!(
        findings.iter().any(|f| f.level == Level::Ok && f.found.starts_with("1 of other programs")),
        "{findings:?}"
    );
}

#[test]
fn managers_that_may_strip_the_interface_are_told_with_what_keeps_them_away() {
    let said = after(|facts| {
        let managers = &mut facts.managers;
        managers.processes.extend(["NetworkManager".to_owned(), "systemd-network".to_owned()]);
        managers.networkd_link = Some("configured".into());
    });
    assert_snapshot!(said, @r"
    warn     managers  systemd-networkd manages mesh0 (configured) and may remove its routes
                       -> printf '[Match]\nName=mesh0\n[Link]\nUnmanaged=yes\n' > /etc/systemd/network/05-meshd.network && networkctl reload
    warn     managers  NetworkManager runs and was not told to leave mesh0 alone
                       -> printf '[keyfile]\nunmanaged-devices=interface-name:mesh0\n' > /etc/NetworkManager/conf.d/90-meshd.conf && nmcli general reload
    ");
}

#[test]
fn a_full_or_barred_state_folder_and_what_a_killed_daemon_left_are_told() {
    let state = |facts: &mut Facts, free, writable| {
        let state = facts.state.as_mut().unwrap();
        (state.free, state.writable) = (Some(free), writable);
    };
    assert!(after(|facts| state(facts, 1000, Ok(()))).contains("fail     state  /state is full"));
    let said = after(|facts| state(facts, 1 << 30, Err(ErrorKind::ReadOnlyFilesystem)));
    assert!(said.contains("fail     state  /state cannot be written"), "{said}");
    let left = |is_present| {
        after(|facts| {
            facts.daemon.life = Life::Absent;
            facts.state.as_mut().unwrap().leftover = Ok(Some(Leftover { interface: "mesh0".into(), is_present }));
        })
    };
    assert!(
        left(true).contains("warn     state   a daemon was killed: its forwarding and routes (mesh0)"),
        "{}",
        left(true)
    );
    assert!(!left(false).contains("state"), "a boot undid them: {}", left(false));
}

#[test]
fn an_old_kernel_or_one_without_tun_is_told_by_what_it_lacks() {
    let said = after(|facts| {
        facts.kernel.tun_level = Ok(OffloadLevel::Tcp);
        facts.kernel.tun = Err(ErrorKind::NotFound);
    });
    assert_snapshot!(said, @r"
    warn     kernel  Linux 6.18.0 lacks TUN USO (6.2): it works, and more slowly
                     -> use a newer kernel where speed matters; the number is the first that has it
    fail     tun     there is no /dev/net/tun
                     -> modprobe tun; in a container pass the device (--device /dev/net/tun)
    ");
}
