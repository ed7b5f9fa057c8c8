//! What no input can do: crash a parser, or make it slow.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::{mesh_problems, node_problems};
use crate::{file, parse_mesh};

/// Pieces of real files, so that random ones get past the first line.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "[node]\n",
        "[[endpoint]]\n",
        "[[community]]\n",
        "[mesh]\n",
        "[session]\n",
        "[lan]\n",
        "[defaults.args]\n",
        "[node.\"a.b\".args]\n",
        "[node.\"a.b\".args.session]\n",
        "[defaults.args.lan]\n",
        "session.",
        "[selector]\n",
        "labels = ",
        "multicast_token = ",
        "multicast_address6 = ",
        "interfaces = ",
        "[endpoint]\n",
        "[[mesh]]\n",
        "name = ",
        "\"a.b\"\n",
        "\"a.c\"",
        "public_key = ",
        "\"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\"\n",
        "subnets = ",
        "[\"10.0.0.0/8\"]\n",
        "address = ",
        "\"fd00::1\"\n",
        "members = ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "=",
        ".",
        "\"",
        "'''",
        "\n",
        "7\n",
        "-1\n",
        "1.5\n",
        "true\n",
        "1979-05-27\n",
        "é",
        "\r",
        "\0",
        "#",
        "\u{feff}",
        "rekey = ",
        "\"5s\"\n",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn parse_both(text: &str) {
    for problem in mesh_problems(text).iter().chain(&node_problems(text)) {
        assert!(!problem.is_empty());
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(text) = file::text(Path::new("f"), bytes) {
            parse_both(&text);
        }
    }

    #[test]
    fn no_arrangement_of_real_pieces_makes_a_parser_panic(text in pieces()) {
        parse_both(&text);
    }
}

#[test]
fn deep_nesting_is_refused_without_a_crash() {
    for text in [
        format!("a{} = 1", ".a".repeat(200_000)),
        format!("[a{}]", ".a".repeat(200_000)),
        format!("a = {}", "[".repeat(200_000)),
        format!("a = {}", "{a=".repeat(200_000)),
    ] {
        assert!(!mesh_problems(&text).is_empty());
    }
}

/// A mesh of `count` endpoints with an address, a subnet and a node subnet each, in communities of 100.
fn large_mesh(count: usize) -> String {
    let mut text = String::new();
    for i in 0..count {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&i.to_le_bytes());
        let (key, high, low) = (proto::id::PublicKey(bytes), i / 256, i % 256);
        let _ = write!(
            text,
            "[[endpoint]]\nname = \"site{}.node{i}\"\npublic_key = \"{key}\"\nsubnets = [\"10.{high}.{low}.0/24\"]\n\
             node_subnets = [\"172.16.{high}.{low}\"]\naddress = \"100.64.{high}.{low}\"\n",
            i / 100
        );
    }
    for site in 0..count / 100 {
        let members: Vec<_> = (site * 100..site * 100 + 100).map(|i| format!("\"site{site}.node{i}\"")).collect();
        let _ = writeln!(text, "[[community]]\nname = \"c{site}\"\nmembers = [{}]", members.join(", "));
    }
    text
}

#[test]
fn ten_thousand_endpoints_are_a_mesh() {
    let mesh = parse_mesh(Path::new("mesh.toml"), &large_mesh(10_000)).unwrap();
    assert_eq!((mesh.members.endpoints.len(), mesh.members.communities.len()), (10_000, 100));
    assert_eq!(mesh.warnings, [""; 0]);
}

#[test]
fn ten_thousand_mistakes_are_all_reported() {
    let text = large_mesh(10_000)
        .replace("subnets = [\"10.", "subnets = [\"11.")
        .replace("\"site", "\"sight")
        .replace("name = \"sight", "name = \"site");
    assert_eq!(mesh_problems(&text).len(), 10_000, "every member is unknown");
}
