//! EasyTier over UDP with its default encryption.

use std::fs;
use std::process::Command;

use super::{Install, Over, Peer, nothing_to_prepare};
use crate::Outcome;
use crate::testbed::Side;

pub(crate) const EASYTIER: Peer = Peer {
    name: "easytier",
    about: "EasyTier over UDP, its default encryption",
    is_limit: false,
    programs: &["easytier-core"],
    install: Install::Crate {
        package: "easytier",
        version: "2.0.3",
        debian: &["protobuf-compiler", "libprotobuf-dev", "clang", "libclang-dev", "pkg-config"],
    },
    version: Some("--version"),
    mtu: 1360,
    over: Over::Tunnel,
    prepare: nothing_to_prepare,
    start: |side| start(side).map(Some),
    configure: |side| side.wait_interface(&format!("et{}", side.name)),
};

fn start(side: &Side) -> Outcome<Command> {
    let name = side.name;
    let folder = side.file(name);
    fs::create_dir(&folder)?;
    let line = format!(
        "--network-name bench --network-secret bench --hostname {name} --ipv4 {}/24 --listeners udp://0.0.0.0:11010 \
         --dev-name et{name} --mtu {} --rpc-portal 127.0.0.1:15888 --console-log-level error",
        side.tunnel.mine, side.mtu
    );
    let mut command = side.daemon();
    command.args(line.split_whitespace());
    if !side.is_first() {
        command.args(["--peers", &format!("udp://{}:11010", side.link.theirs)]);
    }
    Ok(command)
}
