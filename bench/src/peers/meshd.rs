//! meshd itself: two endpoints in one community, one file each.

use std::fs;
use std::process::Command;

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
    prepare: |sides| write_files(sides, ""),
    start: |side| Ok(Some(up(side))),
    configure: |side| side.wait_interface(INTERFACE),
};

pub(crate) const MESHD_CHACHA: Peer = Peer {
    name: "meshd-chacha",
    about: "this project, ChaCha20-Poly1305 forced",
    prepare: |sides| write_files(sides, "[dataplane]\ncipher = \"chacha20-poly1305\"\n"),
    ..MESHD
};

pub(crate) const MESHD_BASE: Peer = Peer {
    name: "meshd-base",
    about: "another build of this project",
    programs: &["meshd-base"],
    install: Install::Other("name its binary in MESHD_BASE_BIN"),
    ..MESHD
};

pub(crate) const MESHD_REKEY: Peer = Peer {
    name: "meshd-rekey",
    about: "this project, new keys every 5 s",
    prepare: |sides| write_files(sides, "[session]\nrekey = \"5s\"\n"),
    ..MESHD
};

pub(crate) const MESHD_NO_OFFLOAD: Peer = Peer {
    name: "meshd-no-offload",
    about: "this project, without any segmentation or receive offload",
    prepare: |sides| write_files(sides, "[dataplane]\noffload = false\n"),
    ..MESHD
};

fn up(side: &Side) -> Command {
    let mut command = side.daemon();
    command.args(["up", "--config"]).arg(side.file(&format!("{}/meshd.toml", side.name)));
    command
}

/// Writes both sides' files, with `settings` in each node file.
fn write_files(sides: &[&Side; 2], settings: &str) -> Outcome {
    let mut mesh = "[mesh]\nname = \"bench\"\n".to_owned();
    for side in sides {
        mesh.push_str(&endpoint(side)?);
    }
    mesh.push_str("\n[[community]]\nname = \"both\"\nmembers = [\"bench.a\", \"bench.b\"]\n");
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
    let public = run(side, side.daemon().args(["key", "show"]).arg(&key))?;
    Ok(format!(
        "\n[[endpoint]]\nname = \"bench.{}\"\npublic_key = {:?}\npublic_addresses = [{:?}]\naddress = {:?}\n",
        side.name,
        public.trim(),
        side.link.mine,
        side.tunnel.mine,
    ))
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
