//! OpenVPN point to point over UDP: TLS with pinned certificates, AES-256-GCM, in userspace.

use std::fs;
use std::process::Command;

use super::{Install, Over, Peer};
use crate::Outcome;
use crate::testbed::Side;

pub(crate) const OPENVPN: Peer = Peer {
    name: "openvpn",
    about: "OpenVPN over UDP, AES-256-GCM, without its kernel module",
    is_limit: false,
    programs: &["openvpn", "openssl"],
    install: Install::Debian(&["openvpn", "openssl"]),
    version: Some("--version"),
    mtu: 1500,
    over: Over::Tunnel,
    prepare,
    start: |side| start(side).map(Some),
    configure: |side| side.wait_interface(&format!("ovpn{}", side.name)),
};

fn prepare([a, b]: &[&Side; 2]) -> Outcome {
    for side in [a, b] {
        let name = side.name;
        side.shell(&format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN={name} \
             -keyout {name}.key -out {name}.crt 2>/dev/null"
        ))?;
        let print = format!("openssl x509 -in {name}.crt -noout -fingerprint -sha256");
        side.shell(&format!("{print} | sed 's/.*=//' > {name}.fingerprint"))?;
    }
    Ok(())
}

fn start(side: &Side) -> Outcome<Command> {
    let (name, role) = (side.name, if side.is_first() { "--tls-server --dh none" } else { "--tls-client" });
    let fingerprint = fs::read_to_string(side.file(&format!("{}.fingerprint", side.other)))?;
    let line = format!(
        "--dev ovpn{name} --dev-type tun --proto udp --local {} --port 1194 --remote {} 1194 --ifconfig {} {} \
         --cert {name}.crt --key {name}.key --peer-fingerprint {} --data-ciphers AES-256-GCM {role} --tun-mtu {} --verb 1 \
         --ping 10 --disable-dco",
        side.link.mine,
        side.link.theirs,
        side.tunnel.mine,
        side.tunnel.theirs,
        fingerprint.trim(),
        side.mtu,
    );
    let mut command = side.daemon();
    command.args(line.split_whitespace());
    Ok(command)
}
