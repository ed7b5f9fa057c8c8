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
    prepare: |sides| write_files(sides, "auto", &Others::default()),
    start: |side| Ok(Some(up(side))),
    configure: |side| side.wait_interface(INTERFACE),
};

pub(crate) const MESHD_CHACHA: Peer = Peer {
    name: "meshd-chacha",
    about: "this project, ChaCha20-Poly1305 forced",
    prepare: |sides| write_files(sides, "chacha20-poly1305", &Others::default()),
    ..MESHD
};

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

/// Makes the keys of both sides, and writes every file.
pub(crate) fn write_files(sides: &[&Side; 2], cipher: &str, others: &Others) -> Outcome {
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
        fs::write(side.file(&format!("{}/meshd.toml", side.name)), node(side, cipher))?;
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

fn node(side: &Side, cipher: &str) -> String {
    let folder = side.file(side.name);
    format!(
        "[node]\nname = \"bench.{name}\"\nkey_file = \"private.key\"\nmesh = {mesh:?}\n\n\
         [interface]\nname = {INTERFACE:?}\nmtu = {mtu}\n\n[dataplane]\ncipher = {cipher:?}\n\n\
         [api]\nsocket = {socket:?}\n\n[state]\ndir = {folder:?}\n\n[log]\nlevel = \"warn\"\n",
        name = side.name,
        mesh = side.file("mesh.toml"),
        mtu = side.mtu,
        socket = folder.join("meshd.sock"),
    )
}
