//! meshd itself: two endpoints in one community, one file each.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{Install, Over, Peer};
use crate::Outcome;
use crate::testbed::Side;

const INTERFACE: &str = "mesh0";

pub(crate) const MESHD: Peer = Peer {
    name: "meshd",
    about: "this project, the cipher of its own choice",
    is_limit: false,
    programs: &["meshd"],
    install: Install::Other("build it: cargo build --release -p meshd, or name it in MESHD_BIN"),
    version: Some("--version"),
    mtu: 1420,
    over: Over::Tunnel,
    prepare: |sides| settings(sides, ""),
    start: |side| Ok(Some(up(side))),
    configure: |side| side.wait_interface(INTERFACE),
};

pub(crate) const MESHD_CHACHA: Peer = Peer {
    name: "meshd-chacha",
    about: "this project, ChaCha20-Poly1305 forced",
    prepare: |sides| cipher(sides, "chacha20-poly1305"),
    ..MESHD
};

pub(crate) const MESHD_BASE: Peer = Peer {
    name: "meshd-base",
    about: "another build of this project",
    programs: &["meshd-base"],
    install: Install::Other("name its binary in MESHD_BASE_BIN"),
    ..MESHD
};

/// Other settings of meshd.
pub(crate) const VARIANTS: &[Peer] = &[
    variant("meshd-rekey", "new keys every 5 s", |sides| settings(sides, "[session]\nrekey = \"5s\"\n")),
    variant("meshd-aes-128-gcm", "AES-128-GCM, opt-in", |sides| cipher(sides, "aes-128-gcm")),
    variant("meshd-aegis-128l", "AEGIS-128L, opt-in", |sides| cipher(sides, "aegis-128l")),
    variant("meshd-aegis-128x2", "AEGIS-128X2, opt-in", |sides| cipher(sides, "aegis-128x2")),
    variant("meshd-no-offload", "no offload at all", |sides| settings(sides, "[dataplane]\noffload = false\n")),
    variant("meshd-no-tun-write", "without tun-write", |sides| without(sides, "tun-write")),
    variant("meshd-no-tun-tcp", "without tun-tcp", |sides| without(sides, "tun-tcp")),
    variant("meshd-no-tun-udp", "without tun-udp", |sides| without(sides, "tun-udp")),
    variant("meshd-no-udp-gso", "without udp-gso", |sides| without(sides, "udp-gso")),
    variant("meshd-no-udp-gro", "without udp-gro", |sides| without(sides, "udp-gro")),
    variant("meshd-no-coalesce", "without coalesce", |sides| without(sides, "coalesce")),
    variant("meshd-no-partial-checksum", "without partial-checksum", |sides| without(sides, "partial-checksum")),
];

const fn variant(name: &'static str, about: &'static str, prepare: fn(&[&Side; 2]) -> Outcome) -> Peer {
    Peer { name, about, prepare, ..MESHD }
}

fn cipher(sides: &[&Side; 2], name: &str) -> Outcome {
    settings(sides, &format!("[dataplane]\ncipher = {name:?}\n"))
}

fn without(sides: &[&Side; 2], offload: &str) -> Outcome {
    settings(sides, &format!("[dataplane]\nwithout = [{offload:?}]\n"))
}

fn settings(sides: &[&Side; 2], lines: &str) -> Outcome {
    write_files(sides, lines, &Others::default())
}

fn up(side: &Side) -> Command {
    let mut command = side.daemon();
    command.args(["up", "--config"]).arg(side.file(&format!("{}/meshd.toml", side.name)));
    command
}

/// Who is in the mesh besides the two sides.
#[derive(Debug, Default)]
pub(crate) struct Others {
    /// Their lines in the mesh file.
    pub(crate) endpoints: String,
    pub(crate) names: Vec<String>,
}

/// Makes the keys of both sides, and writes every file, with `settings` in both node files.
pub(crate) fn write_files(sides: &[&Side; 2], settings: &str, others: &Others) -> Outcome {
    let mut mesh = "[mesh]\nname = \"bench\"\n".to_owned();
    for side in sides {
        mesh.push_str(&endpoint(side)?);
    }
    mesh.push_str(&others.endpoints);
    let members: Vec<&str> =
        ["bench.a", "bench.b"].into_iter().chain(others.names.iter().map(String::as_str)).collect();
    writeln!(mesh, "\n[[community]]\nname = \"all\"\nmembers = {members:?}")?;
    for side in sides {
        fs::write(side.file("mesh.toml"), &mesh)?;
        fs::write(side.file(&format!("{}/meshd.toml", side.name)), node(side, settings))?;
    }
    Ok(())
}

/// Makes the key; returns the endpoint's lines in the mesh file.
fn endpoint(side: &Side) -> Outcome<String> {
    fs::create_dir(side.file(side.name))?;
    let key = side.file(&format!("{}/private.key", side.name));
    run(side, side.daemon().args(["key", "generate", "--out"]).arg(&key))?;
    let public = public_key(side)?;
    Ok(format!(
        "\n[[endpoint]]\nname = \"bench.{}\"\npublic_key = {:?}\npublic_addresses = [{:?}]\naddress = {:?}\n",
        side.name, public, side.link.mine, side.tunnel.mine,
    ))
}

/// The public key of a side whose files are written.
pub(crate) fn public_key(side: &Side) -> Outcome<String> {
    let key = side.file(&format!("{}/private.key", side.name));
    Ok(run(side, side.daemon().args(["key", "show"]).arg(&key))?.trim().to_owned())
}

/// What a running side says of itself.
pub(crate) fn status(side: &Side) -> Outcome<Value> {
    let socket = side.file(&format!("{}/meshd.sock", side.name));
    let status = run(side, side.daemon().args(["status", "--json"]).env("MESHD_SOCKET", socket))?;
    Ok(serde_json::from_str(&status)?)
}

fn run(side: &Side, command: &mut Command) -> Outcome<String> {
    let done = side.host.output(command);
    if done.is_ok() { Ok(done.stdout) } else { Err(done.to_string().into()) }
}

fn node(side: &Side, settings: &str) -> String {
    let folder = side.file(side.name);
    format!(
        "[node]\nname = \"bench.{name}\"\nkey_file = \"private.key\"\nmesh = {mesh:?}\n\n\
         [interface]\nname = {INTERFACE:?}\nmtu = {mtu}\n\n{settings}\n\
         [api]\nsocket = {socket:?}\n\n[state]\ndir = {folder:?}\n\n[log]\nlevel = \"warn\"\n",
        name = side.name,
        mesh = side.file("mesh.toml"),
        mtu = side.mtu,
        socket = folder.join("meshd.sock"),
    )
}
