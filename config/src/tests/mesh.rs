//! Refusals and warnings of the mesh.

use std::path::Path;

use proto::member::{Host, Kind};

use super::{endpoint, key, mesh_problems};
use crate::parse_mesh;

/// Asserts that a mesh of two good endpoints and `text` below them has exactly this problem. `text` begins in line 9.
fn refuses(text: &str, expected: &str) {
    let whole = format!("{}{}{text}", endpoint("a.one", 1, ""), endpoint("a.two", 2, ""));
    assert_eq!(mesh_problems(&whole), [expected]);
}

fn warnings(text: &str) -> Vec<String> {
    parse_mesh(Path::new("mesh.toml"), text).unwrap().warnings
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    refuses(
        &endpoint("a.x", 3, "subnet = [\"10.0.0.0/8\"]"),
        "mesh.toml:12:1: unknown key \"subnet\" in [[endpoint]]; did you mean \"subnets\"?",
    );
    refuses(
        &endpoint("a.x", 3, "mtu = 1400"),
        "mesh.toml:12:1: unknown key \"mtu\" in [[endpoint]]; it belongs in [interface]",
    );
    refuses(
        "[[community]]\nname = \"c\"\nmembers = []\ncolour = 1",
        "mesh.toml:12:1: unknown key \"colour\" in [[community]]; known keys: name, members",
    );
}

#[test]
fn an_unknown_table_is_refused_with_the_nearest_one() {
    refuses(
        "[[comunity]]\nname = \"c\"",
        "mesh.toml:9:3: unknown table \"comunity\" at the top of the file; did you mean \"community\"?",
    );
    refuses(
        "[node]\nname = \"a.one\"",
        "mesh.toml:10:1: unknown key \"name\" in [node] of a mesh file\n    help: it belongs in meshd.toml; \
         what nodes take from here is [node.\"<cluster>.<node>\".args]",
    );
    let text = format!("members = []\n{}", endpoint("a.one", 1, ""));
    assert_eq!(
        mesh_problems(&text),
        ["mesh.toml:1:1: unknown key \"members\" at the top of the file; it belongs in [[community]]"]
    );
    refuses(
        "[zebra]",
        "mesh.toml:9:2: unknown table \"zebra\" at the top of the file\n    help: known tables: [mesh], [[endpoint]], [[community]], [defaults], [node], [selector]",
    );
}

#[test]
fn tables_have_the_right_number_of_brackets() {
    assert_eq!(
        mesh_problems("[endpoint]\nname = \"a.b\"")[0],
        "mesh.toml:1:1: endpoint must be a list of tables, not a table; write [[endpoint]], with two brackets"
    );
    refuses("[[mesh]]\nname = \"x\"", "mesh.toml:9:1: mesh must be one table, not a list; write [mesh], once");
    assert_eq!(
        mesh_problems("endpoint = [1]")[0],
        "mesh.toml:1:1: the mesh has no [[endpoint]]; add one for every node, this one included"
    );
    assert!(mesh_problems("endpoint = [1]")[1].starts_with("mesh.toml:1:13: endpoint must be a table, not an integer"));
}

#[test]
fn wrong_types_say_what_is_wanted() {
    refuses(
        &endpoint("a.x", 3, "zone = 7"),
        "mesh.toml:12:8: [[endpoint]] zone: must be a text, not an integer; put it in quotes: \"7\"",
    );
    refuses(
        &endpoint("a.x", 3, "subnets = \"10.0.0.0/8\""),
        "mesh.toml:12:11: [[endpoint]] subnets: must be a list, not a text; write [\"10.0.0.0/8\"]",
    );
    refuses(
        &endpoint("a.x", 3, "subnets = [\"10.0.0.0/8\", 7]"),
        "mesh.toml:12:26: [[endpoint]] subnets: must be a text, not an integer; put it in quotes: \"7\"",
    );
    refuses(
        &endpoint("a.x", 3, "kind = \"conector\""),
        "mesh.toml:12:8: [[endpoint]] kind: unknown value \"conector\"; did you mean \"connector\"?",
    );
}

#[test]
fn names_have_two_parts() {
    refuses(
        &endpoint("edge1", 3, ""),
        "mesh.toml:10:8: [[endpoint]] name: \"edge1\" is not <cluster>.<node>; \
         write two parts and one dot, such as \"beijing.edge1\"",
    );
    refuses(
        &endpoint("Beijing.edge1", 3, ""),
        "mesh.toml:10:8: [[endpoint]] name: \"Beijing.edge1\" is not <cluster>.<node>; use a-z, 0-9 and inner hyphens",
    );
    refuses(
        "[[community]]\nname = \"c\"\nmembers = [\"one\"]",
        "mesh.toml:11:12: [[community]] members: \"one\" is not <cluster>.<node>; \
         write two parts and one dot, such as \"beijing.edge1\"",
    );
}

#[test]
fn required_keys_are_asked_for() {
    let text = format!("{}[[endpoint]]\n[[community]]\n", endpoint("a.one", 1, ""));
    assert_eq!(
        mesh_problems(&text),
        [
            "mesh.toml:5:1: [[endpoint]] has no \"name\"; add name = \"<cluster>.<node>\"",
            "mesh.toml:5:1: [[endpoint]] has no \"public_key\"; add public_key = \"…\", which `meshd key show` prints on that node",
            "mesh.toml:6:1: [[community]] has no \"name\"; add name = \"…\"",
            "mesh.toml:6:1: [[community]] has no \"members\"; add members = [\"<cluster>.<node>\", …]",
        ]
    );
    assert!(mesh_problems("")[0].contains("the mesh has no [[endpoint]]"));
}

#[test]
fn a_bad_public_key_is_not_repeated() {
    let problems = mesh_problems("[[endpoint]]\nname = \"a.b\"\npublic_key = \"c2VjcmV0\"");
    assert_eq!(
        problems,
        ["mesh.toml:3:14: [[endpoint]] public_key: is not a key: 32 bytes in base64, 44 characters ending in =\n    \
          help: copy what `meshd key show` prints on that node"]
    );
    assert!(!mesh_problems("[[endpoint]]\nname = \"a.b\"\npublic_key = 4711")[0].contains("4711"));
}

#[test]
fn names_keys_and_communities_are_unique() {
    refuses(
        &endpoint("a.one", 3, ""),
        "mesh.toml:10:8: endpoint \"a.one\" stands twice, first in line 2; rename or remove one of the two",
    );
    refuses(
        &endpoint("a.x", 2, ""),
        "mesh.toml:11:14: [[endpoint]] public_key: \"a.x\" has the key of \"a.two\" (line 6)\n    \
         help: every node has its own: run `meshd key generate` on one of the two",
    );
    let community = "[[community]]\nname = \"c\"\nmembers = [\"a.one\", \"a.two\"]\n";
    refuses(
        &format!("{community}{community}"),
        "mesh.toml:13:8: community \"c\" stands twice, first in line 10; rename one, or merge their members",
    );
}

#[test]
fn members_of_a_community_are_known_and_named_once() {
    refuses(
        "[[community]]\nname = \"c\"\nmembers = [\"a.one\", \"a.tow\"]",
        "mesh.toml:11:21: [[community]] members: \"a.tow\" in community \"c\" is no endpoint of this mesh; did you mean \"a.two\"?",
    );
    refuses(
        "[[community]]\nname = \"c\"\nmembers = [\"a.one\", \"far.away\"]",
        "mesh.toml:11:21: [[community]] members: \"far.away\" in community \"c\" is no endpoint of this mesh\n    \
         help: add an [[endpoint]] of this name, or remove it",
    );
    refuses(
        "[[community]]\nname = \"c\"\nmembers = [\n  \"a.one\",\n  \"a.one\",\n]",
        "mesh.toml:13:3: [[community]] members: \"a.one\" stands twice in community \"c\"; remove one of the two",
    );
}

#[test]
fn a_prefix_has_one_owner() {
    let mesh = |left: &str, right: &str| format!("{}{}", endpoint("a.one", 1, left), endpoint("b.two", 2, right));
    assert_eq!(
        mesh_problems(&mesh("subnets = [\"10.0.0.0/8\"]", "subnets = [\"11.0.0.0/8\", \"10.3.0.0/16\"]")),
        [
            "mesh.toml:8:26: [[endpoint]] subnets: 10.3.0.0/16 of \"b.two\" overlaps 10.0.0.0/8 of \"a.one\" (line 4)\n    \
          help: a prefix has one owner, or connectors that all announce the very same one: narrow or remove one of the two"
        ]
    );
    // The addition is the later one, even where it is the wider one.
    let wide = mesh_problems(&mesh("node_subnets = [\"10.3.0.9\"]", "subnets = [\"10.0.0.0/8\"]"));
    assert!(wide[0].starts_with(
        "mesh.toml:8:12: [[endpoint]] subnets: 10.0.0.0/8 of \"b.two\" overlaps 10.3.0.9/32 of \"a.one\" (line 4)"
    ));
    let inside = mesh_problems(&mesh("subnets = [\"10.99.0.0/16\"]", "address = \"10.99.0.1\""));
    assert!(inside[0].starts_with(
        "mesh.toml:8:11: [[endpoint]] address: 10.99.0.1 of \"b.two\" overlaps 10.99.0.0/16 of \"a.one\" (line 4)"
    ));
    let derived = mesh_problems(&mesh("subnets = [\"fc00::/7\"]", ""));
    assert!(derived[0].starts_with("mesh.toml:7:14: [[endpoint]] public_key: its address fd"), "{derived:?}");
    assert!(derived[0].contains(" of \"b.two\" overlaps fc00::/7 of \"a.one\" (line 4)"));
    assert_eq!(
        mesh_problems(&mesh("subnets = [\"10.0.0.0/8\", \"10.1.0.0/16\"]\naddress = \"10.0.0.1\"", "")),
        [""; 0]
    );
}

#[test]
fn connectors_may_share_the_very_same_subnet_and_nothing_else_is_shared() {
    let of = |kind: &str, subnets: &str| format!("kind = \"{kind}\"\n{subnets}");
    let subnets = |net: &str| format!("subnets = [\"{net}\"]");
    let problems = |left: &str, right: &str| {
        mesh_problems(&format!("{}{}", endpoint("a.one", 1, left), endpoint("b.two", 2, right))).len()
    };
    let shared = of("connector", &subnets("10.0.0.0/8"));
    assert_eq!(problems(&shared, &format!("{shared}\npriority = 7")), 0);
    assert_eq!(problems(&shared, &of("connector", &subnets("10.1.0.0/16"))), 1, "another prefix");
    assert_eq!(problems(&shared, &of("edge", &subnets("10.0.0.0/8"))), 1, "an edge");
    assert_eq!(problems(&shared, &of("connector", "node_subnets = [\"10.0.0.0/8\"]")), 1, "another key");
    assert_eq!(problems(&shared, &format!("{shared}\npriority = 65536")), 1);
    let three = ["a.one", "b.two", "c.three"].into_iter().zip(1..).map(|(name, key)| endpoint(name, key, &shared));
    assert_eq!(mesh_problems(&three.collect::<String>()), [""; 0]);
}

#[test]
fn a_mesh_address_belongs_to_one_endpoint() {
    let mesh = |left: &str, right: &str| format!("{}{}", endpoint("a.one", 1, left), endpoint("b.two", 2, right));
    assert_eq!(
        mesh_problems(&mesh("address = \"10.9.0.1\"", "address = [\"10.9.0.1\"]")),
        ["mesh.toml:8:12: [[endpoint]] address: 10.9.0.1 of \"b.two\" is also the address of \"a.one\" (line 4); \
         give each endpoint its own"]
    );
    let mesh_id = proto::id::MeshId::from_name("default");
    let derived = proto::member::derived_address(&mesh_id, &proto::id::PublicKey([1; 32]));
    let problems = mesh_problems(&mesh("", &format!("address = \"{derived}\"")));
    assert!(
        problems[0].contains(&format!("address: {derived} of \"b.two\" is also the address of \"a.one\" (line 3)"))
    );
    refuses(
        &endpoint("a.x", 3, "address = [\"10.9.0.1\", \"10.9.0.2\"]"),
        "mesh.toml:12:24: [[endpoint]] address: 10.9.0.2 is a second IPv4 address; keep at most one IPv4 and one IPv6 address",
    );
    refuses(
        &endpoint("a.x", 3, "address = \"10.9.0.1/24\""),
        "mesh.toml:12:11: [[endpoint]] address: \"10.9.0.1/24\" is a prefix, not an address; write \"10.9.0.1\"",
    );
}

#[test]
fn one_mistake_is_one_problem() {
    // Neither overlaps with itself nor unknown members follow from a name that stands twice or is none.
    let twice = endpoint("b.one", 1, "subnets = [\"10.0.0.0/8\"]");
    assert_eq!(mesh_problems(&format!("{twice}{twice}")).len(), 2, "name and key");
    let community = "[[community]]\nname = \"c\"\nmembers = [\"a.one\"]";
    let bad_key = format!("[[endpoint]]\nname = \"a.one\"\npublic_key = \"x\"\n{community}");
    assert_eq!(mesh_problems(&bad_key).len(), 1);
}

#[test]
fn bad_prefixes_and_addresses_carry_their_place() {
    refuses(
        &endpoint("a.x", 3, "subnets = [\"10.0.0.1/8\"]"),
        "mesh.toml:12:12: [[endpoint]] subnets: \"10.0.0.1/8\" has host bits set; write \"10.0.0.0/8\"",
    );
    refuses(
        &endpoint("a.x", 3, "subnets = [\"0.0.0.0/0\"]"),
        "mesh.toml:12:12: [[endpoint]] subnets: 0.0.0.0/0 is everything\n    \
         help: a default route cannot be announced; name the prefixes behind the endpoint",
    );
    refuses(
        &endpoint("a.x", 3, "node_subnets = [\"127.0.0.1\"]"),
        "mesh.toml:12:17: [[endpoint]] node_subnets: 127.0.0.1/32 is loopback; name only what lies behind the endpoint",
    );
    refuses(
        &endpoint("a.x", 3, "public_addresses = [\"gw:0\"]"),
        "mesh.toml:12:21: [[endpoint]] public_addresses: \"gw:0\" has port 0; use 1 to 65535, or leave the port out for 6374",
    );
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = "[[endpoint]]\nnmae = \"a.b\"\nkind = 7\nsubnets = [\"10.0.0.1/8\", \"x\"]\n[[community]]\nname = \"c\"\nmembers = [\"z.z\"]\n";
    let places: Vec<_> = mesh_problems(text).iter().map(|p| p.split(": ").next().unwrap().to_owned()).collect();
    assert_eq!(
        places,
        [
            "mesh.toml:1:1",
            "mesh.toml:1:1",
            "mesh.toml:2:1",
            "mesh.toml:3:8",
            "mesh.toml:4:12",
            "mesh.toml:4:26",
            "mesh.toml:7:12"
        ]
    );
}

#[test]
fn what_is_odd_is_a_warning_with_its_place() {
    let text = format!(
        "{}{}{}[[community]]\nname = \"solo\"\nmembers = [\"b.lonely\"]\n[[community]]\nname = \"none\"\nmembers = []\n",
        endpoint("a.gw", 1, "kind = \"connector\""),
        endpoint("b.lonely", 2, "public_addresses = [\"192.0.2.1\"]"),
        endpoint("c.alone", 3, "public_addresses = [\"192.0.2.1:6374\"]"),
    );
    assert_eq!(
        warnings(&text),
        [
            "mesh.toml:2:8: \"a.gw\" is in no community and its cluster has no edge, so it may talk to nobody",
            "mesh.toml:2:8: connector \"a.gw\" has no public_addresses, so nobody can dial it from another site",
            "mesh.toml:10:8: \"c.alone\" is in no community and its cluster has no connector, so it may talk to nobody",
            "mesh.toml:12:21: \"c.alone\" has a public address of \"b.lonely\" (line 6); give one of them another port",
            "mesh.toml:15:11: community \"solo\" has one member, so it permits nothing",
            "mesh.toml:18:11: community \"none\" has no members, so it permits nothing",
        ]
    );
}

#[test]
fn tls_addresses_of_a_node_that_does_not_relay_are_a_warning() {
    let pair = "[[community]]\nname = \"pair\"\nmembers = [\"a.gw\", \"b.x\"]\n";
    let text = |relay: &str| {
        let gw = "kind = \"connector\"\npublic_addresses = [\"192.0.2.1\"]\ntls_addresses = [\"192.0.2.1\"]\n";
        format!("{}{}{pair}", endpoint("a.gw", 1, &format!("{gw}{relay}")), endpoint("b.x", 2, ""))
    };
    assert_eq!(warnings(&text("")), [""; 0]);
    let [warning] = &warnings(&text("relay = false"))[..] else { panic!("one warning") };
    assert!(warning.ends_with("\"a.gw\" has tls_addresses and does not relay, so they are not used"), "{warning}");
}

#[test]
fn a_good_mesh_becomes_its_members() {
    let text = format!(
        "[mesh]\nname = \"lab\"\n{}",
        endpoint(
            "a.gw",
            1,
            "kind = \"connector\"\npublic_addresses = [\"gw.example:7000\"]\nsubnets = [\"10.0.0.0/8\"]\n\
             node_subnets = [\"192.168.0.9\"]\naddress = [\"fd00::1\", \"10.0.0.1\"]\nzone = \"z\"\nregion = \"r\""
        )
    );
    let mesh = parse_mesh(Path::new("mesh.toml"), &text).unwrap();
    assert_eq!((mesh.name.as_str(), mesh.members.mesh), ("lab", proto::id::MeshId::from_name("lab")));
    let gw = &mesh.members.endpoints[0];
    assert_eq!((gw.name.as_str(), gw.kind, gw.public_key.to_string()), ("a.gw", Kind::Connector, key(1)));
    assert_eq!(gw.public_addresses[0].host, Host::Name("gw.example".into()));
    assert_eq!(gw.public_addresses[0].port, 7000);
    assert_eq!(gw.prefixes(&mesh.members.mesh).len(), 4);
    assert_eq!((gw.zone.as_deref(), gw.region.as_deref()), (Some("z"), Some("r")));
}
