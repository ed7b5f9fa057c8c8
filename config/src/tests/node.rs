//! Refusals of `meshd.toml`.

use super::{endpoint, node_problems};

/// Asserts that a `meshd.toml` of a good `[node]` and `text` below it has exactly this problem. `text` begins in line 3.
fn refuses(text: &str, expected: &str) {
    assert_eq!(node_problems(&format!("[node]\nname = \"a.b\"\n{text}")), [expected]);
}

#[test]
fn the_name_is_enough() {
    assert_eq!(node_problems("[node]\nname = \"a.b\""), [""; 0]);
}

#[test]
fn the_node_has_a_name() {
    assert_eq!(
        node_problems(""),
        ["meshd.toml:1:1: there is no [node]; add [node], and below it name = \"<cluster>.<node>\", as in the mesh"]
    );
    assert_eq!(
        node_problems("\n[node]\n"),
        ["meshd.toml:2:1: [node] has no \"name\"; add name = \"<cluster>.<node>\", as in the mesh"]
    );
    assert!(
        node_problems("[node]\nname = \"b\"")[0]
            .starts_with("meshd.toml:2:8: [node] name: \"b\" is not <cluster>.<node>")
    );
}

#[test]
fn unknown_names_are_refused_with_the_nearest_one() {
    refuses("key-file = \"x\"", "meshd.toml:3:1: unknown key \"key-file\" in [node]; did you mean \"key_file\"?");
    refuses("mtu = 1400", "meshd.toml:3:1: unknown key \"mtu\" in [node]; it belongs in [interface]");
    refuses(
        "[sesion]\nrekey = \"5s\"",
        "meshd.toml:3:2: unknown table \"sesion\" at the top of the file; did you mean \"session\"?",
    );
}

#[test]
fn the_interface_has_a_name_that_the_kernel_takes() {
    for name in ["a23456789012345x", "", "mesh 0", "mesh/0", "lo", "..", "méx", "a:b", "a%d"] {
        let problems = node_problems(&format!("[node]\nname = \"a.b\"\n[interface]\nname = \"{name}\""));
        assert!(problems[0].starts_with(&format!("meshd.toml:4:8: [interface] name: {name:?} is no interface name; ")));
    }
    for name in ["mesh0", "wg-1_a.2", "a23456789012345"] {
        assert_eq!(node_problems(&format!("[node]\nname = \"a.b\"\n[interface]\nname = \"{name}\"")), [""; 0]);
    }
}

#[test]
fn numbers_have_bounds() {
    refuses("[interface]\nmtu = 1279", "meshd.toml:4:7: [interface] mtu: 1279 is out of range; use 1280 to 9000");
    refuses("[interface]\nmtu = 9001", "meshd.toml:4:7: [interface] mtu: 9001 is out of range; use 1280 to 9000");
    refuses(
        "[interface]\nmtu = \"1400\"",
        "meshd.toml:4:7: [interface] mtu: must be an integer, not a text; write 1400 without quotes",
    );
    refuses("[interface]\nmark = 0", "meshd.toml:4:8: [interface] mark: 0 is out of range; use 1 to 4294967295");
    refuses("[listen]\nport = 65536", "meshd.toml:4:8: [listen] port: 65536 is out of range; use 0 to 65535");
    refuses("[dataplane]\nworkers = 65", "meshd.toml:4:11: [dataplane] workers: 65 is out of range; use 1 to 64");
    for table in [0, 253, 254, 255] {
        refuses(
            &format!("[interface]\ntable = {table}"),
            &format!(
                "meshd.toml:4:9: [interface] table: {table} is one of the kernel's own routing tables\n    \
                help: write \"main\", or the number of a free one, such as 6374"
            ),
        );
    }
    refuses(
        "[interface]\ntable = \"mian\"",
        "meshd.toml:4:9: [interface] table: must be an integer, not a text; \
         write \"main\", or the number of a free one, such as 6374",
    );
    assert_eq!(
        node_problems("[node]\nname = \"a.b\"\n[interface]\nmtu = 9000\ntable = 4294967295\nmark = 0xffff_ffff"),
        [""; 0]
    );
}

#[test]
fn durations_have_units_and_bounds() {
    refuses("[session]\nrekey = \"181s\"", "meshd.toml:4:9: [session] rekey: \"181s\" is too long; use 1s to 3m");
    refuses("[session]\nidle = \"4s\"", "meshd.toml:4:8: [session] idle: \"4s\" is too short; use 5s to 8760h");
    refuses(
        "[session]\nrekey = 120",
        "meshd.toml:4:9: [session] rekey: must be a duration with a unit, not an integer; write \"120s\" for seconds; 1s to 3m are possible",
    );
    refuses(
        "[session]\nkeepalive = \"no\"",
        "meshd.toml:4:13: [session] keepalive: \"no\" does not begin with a whole number\n    help: write a whole number and ms, s, m or h, such as \"25s\", \"auto\" or \"off\"",
    );
    assert_eq!(
        node_problems("[node]\nname = \"a.b\"\n[session]\nrekey = \"1s\"\nidle = \"5s\"\nkeepalive = \"off\""),
        [""; 0]
    );
}

#[test]
fn words_and_switches_are_from_their_set() {
    refuses(
        "[dataplane]\ncipher = \"aes-256-gmc\"",
        "meshd.toml:4:10: [dataplane] cipher: unknown value \"aes-256-gmc\"; did you mean \"aes-256-gcm\"?",
    );
    refuses(
        "[dataplane]\noffload = \"true\"",
        "meshd.toml:4:11: [dataplane] offload: must be true or false, not a text; write true or false, without quotes",
    );
    refuses(
        "[dataplane]\nwithout = [\"udp-gsro\"]",
        "meshd.toml:4:12: [dataplane] without: unknown value \"udp-gsro\"; did you mean \"udp-gso\"?",
    );
    refuses(
        "[dataplane]\nwithout = \"udp-gso\"",
        "meshd.toml:4:11: [dataplane] without: must be a list, not a text; write [\"udp-gso\"]",
    );
    refuses(
        "[log]\nlevel = \"verbose\"",
        "meshd.toml:4:9: [log] level: unknown value \"verbose\"; use \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
    );
}

#[test]
fn ciphers_are_known_names() {
    refuses(
        "[dataplane]\ncipher = [\"auto\", \"aegis128x2\"]",
        "meshd.toml:4:19: [dataplane] cipher: unknown value \"aegis128x2\"; did you mean \"aegis-128x2\"?",
    );
    refuses(
        "[dataplane]\ncipher = \"none\"",
        "meshd.toml:4:10: [dataplane] cipher: unknown value \"none\"\n    help: use \"auto\", \"aes-256-gcm\", \
         \"chacha20-poly1305\", \"aes-128-gcm\", \"aegis-128l\", \"aegis-128x2\"",
    );
    refuses(
        "[dataplane]\ncipher = []",
        "meshd.toml:4:10: [dataplane] cipher: names no cipher; write [\"auto\"], or leave the key out",
    );
    refuses(
        "[dataplane]\ncipher = [128]",
        "meshd.toml:4:11: [dataplane] cipher: must be a text, not an integer; put it in quotes: \"128\"",
    );
}

#[test]
fn stun_servers_are_a_few_that_can_be_dialled() {
    refuses(
        "[nat]\nstun_servers = \"stun.example\"",
        "meshd.toml:4:16: [nat] stun_servers: must be a list, not a text; write [\"stun.example\"]",
    );
    refuses(
        "[nat]\nstun_servers = [\"stun:stun.example\"]",
        "meshd.toml:4:17: [nat] stun_servers: \"stun:stun.example\" is neither an address nor a DNS name, with or without a \
         port\n    help: write \"stun.example:3478\", \"192.0.2.1:3478\" or \"[2001:db8::1]:3478\"",
    );
    refuses(
        &format!("[nat]\nstun_servers = [{}]", "\"a\", ".repeat(9)),
        "meshd.toml:4:57: [nat] stun_servers: names more than 8 servers; keep two or three that answer reliably",
    );
    refuses(
        "[nat]\npunch = \"no\"",
        "meshd.toml:4:9: [nat] punch: must be true or false, not a text; write true or false, without quotes",
    );
    assert_eq!(
        node_problems(
            "[node]\nname = \"a.b\"\n[nat]\nport_mapping = false\nstun_servers = [\"stun.example\", \"[::1]:7\"]"
        ),
        [""; 0]
    );
}

#[test]
fn paths_are_usable() {
    refuses("key_file = \"\"", "meshd.toml:3:12: [node] key_file: is empty; write a path, or leave the key out");
    refuses(
        &format!("[api]\nsocket = \"/{}\"", "x".repeat(107)),
        "meshd.toml:4:10: [api] socket: has 108 bytes; a socket's path has at most 107; use a shorter path",
    );
}

#[test]
fn a_mesh_is_either_here_or_in_its_file() {
    let text = format!("[node]\nname = \"a.b\"\nmesh = \"mesh.toml\"\n{}", endpoint("a.b", 1, ""));
    assert_eq!(
        node_problems(&text),
        [
            "meshd.toml:3:8: [node] mesh: names a mesh file, but this file has the mesh itself (line 4); remove one of the two"
        ]
    );
}

#[test]
fn the_node_is_in_its_inline_mesh() {
    let text = |name: &str| format!("[node]\nname = \"{name}\"\n{}", endpoint("beijing.edge1", 1, ""));
    assert_eq!(
        node_problems(&text("beijing.egde1")),
        [
            "meshd.toml:2:8: [node] name: \"beijing.egde1\" is no endpoint of meshd.toml; did you mean \"beijing.edge1\"?"
        ]
    );
    assert_eq!(
        node_problems(&text("far.away")),
        [
            "meshd.toml:2:8: [node] name: \"far.away\" is no endpoint of meshd.toml; add an [[endpoint]] of this name to it"
        ]
    );
}

#[test]
fn syntax_errors_hide_only_what_they_damage() {
    let problems = node_problems("[node]\nnmae = \"a.b\"\n[log]\nlevel = info\n[zebra]\n");
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].starts_with("meshd.toml:2:1: unknown key \"nmae\" in [node]"));
    assert!(problems[1].starts_with("meshd.toml:4:9: not TOML: "));
    assert!(problems[2].starts_with("meshd.toml:5:2: unknown table \"zebra\""));
    let problems = node_problems("[node]\nname = \"a.b\nkey_file = \"x\"\n[log]\nlevel = \"info");
    assert_eq!(problems.len(), 2, "one per broken line: {problems:?}");
    assert!(problems[0].starts_with("meshd.toml:2:12: not TOML: ") && problems[1].starts_with("meshd.toml:5:"));
}

#[test]
fn what_is_not_toml_at_all_is_not_reported_line_by_line() {
    let problems = node_problems(&"level = !\n".repeat(50));
    let syntax = problems.iter().filter(|problem| problem.contains("not TOML")).count();
    assert_eq!(syntax, 10, "{problems:?}");
    let doubled = "name = \"a.b\"\n".repeat(40);
    assert_eq!(node_problems(&format!("[node]\n{doubled}")).len(), 39, "keys that stand twice are all reported");
}

#[test]
fn places_are_right_behind_a_byte_order_mark_and_in_dos_files() {
    assert_eq!(
        node_problems("\u{feff}[node]\r\nname = \"a.b\"\r\nmark = 1\r\n"),
        ["meshd.toml:3:1: unknown key \"mark\" in [node]; it belongs in [interface]"]
    );
}

#[test]
fn every_broken_header_is_reported() {
    let problems = node_problems("[node\nname = \"a.b\"\n[log\nlevel = \"info\"\n");
    let places: Vec<_> = problems.iter().map(|p| p.split(": ").next().unwrap_or_default()).collect();
    assert_eq!(places, ["meshd.toml:1:6", "meshd.toml:3:5"]);
}

#[test]
fn an_unclosed_list_is_one_problem() {
    let text = format!("{}[[community]]\nname = \"c\"\nmembers = [\"a.b\"\n{0}", endpoint("a.b", 1, ""));
    let problems = super::mesh_problems(&text);
    assert_eq!(problems, ["mesh.toml:8:1: not TOML: missing comma between array elements, expected `,`"]);
}

#[test]
fn what_stands_twice_is_refused_and_the_rest_still_checked() {
    assert_eq!(
        node_problems("[node]\nname = \"a.b\"\nname = \"a.c\"\n[log]\n[log]\nlevel = 7\n"),
        [
            "meshd.toml:3:1: key \"name\" is given twice; keep one of the two",
            "meshd.toml:5:2: [log] stands twice; merge the two",
            "meshd.toml:6:9: [log] level: must be a text, not an integer; put it in quotes: \"7\"",
        ]
    );
}
