//! WireGuard in userspace: daemons that make an interface and are told the rest by `wg`.

use std::process::Command;

use super::{Install, Over, Peer};
use crate::Outcome;
use crate::testbed::Side;

pub(crate) const WIREGUARD_GO: Peer = Peer {
    name: "wireguard-go",
    about: "WireGuard in Go",
    is_limit: false,
    programs: &["wireguard-go", "wg"],
    install: Install::Debian(&["wireguard-go", "wireguard-tools"]),
    version: Some("--version"),
    mtu: 1420,
    over: Over::Tunnel,
    prepare: make_keys,
    start: |side| Ok(Some(start(side, &["-f"]))),
    configure,
};

pub(crate) const WIREGUARD_GO_2026: Peer = Peer {
    name: "wireguard-go-2026",
    about: "WireGuard in Go, of Debian's unstable suite",
    programs: &["wireguard-go-2026", "wg"],
    install: Install::Other(
        "put a newer wireguard-go (Debian unstable) into the folder that PEERS_BIN names, as wireguard-go-2026",
    ),
    ..WIREGUARD_GO
};

pub(crate) const BORINGTUN: Peer = Peer {
    name: "boringtun",
    about: "WireGuard in Rust, by Cloudflare",
    programs: &["boringtun-cli", "wg"],
    install: Install::Crate { package: "boringtun-cli", version: "0.7.1", debian: &["wireguard-tools"] },
    start: |side| Ok(Some(start(side, &["-f", "-v", "error", "--disable-drop-privileges"]))),
    ..WIREGUARD_GO
};

pub(crate) const GOTATUN: Peer = Peer {
    name: "gotatun",
    about: "WireGuard in Rust, by Mullvad",
    programs: &["gotatun", "wg"],
    install: Install::Crate { package: "gotatun-cli", version: "0.10.2", debian: &["wireguard-tools"] },
    ..BORINGTUN
};

fn interface(side: &Side) -> String {
    format!("wg{}", side.name)
}

fn make_keys([a, b]: &[&Side; 2]) -> Outcome {
    for side in [a, b] {
        side.shell(&format!("umask 077; wg genkey > {0}.key; wg pubkey < {0}.key > {0}.pub", side.name))?;
        // Both sides see the same /run, and the sockets of an earlier round.
        side.shell(&format!("rm -f /run/wireguard/{}.sock", interface(side)))?;
    }
    Ok(())
}

fn start(side: &Side, options: &[&str]) -> Command {
    let mut command = side.daemon();
    command.args(options).arg(interface(side)).env("LOG_LEVEL", "error");
    command
}

fn configure(side: &Side) -> Outcome {
    let interface = interface(side);
    side.wait_success(&format!("wg show {interface}"))?;
    let key = std::fs::read_to_string(side.file(&format!("{}.pub", side.other)))?;
    side.run(&format!(
        "wg set {interface} private-key {own} listen-port 51820 peer {key} allowed-ips {inner}/32 endpoint {outer}:51820",
        own = side.file(&format!("{}.key", side.name)).display(),
        key = key.trim(),
        inner = side.tunnel.theirs,
        outer = side.link.theirs,
    ))?;
    side.set_up_interface(&interface)
}
