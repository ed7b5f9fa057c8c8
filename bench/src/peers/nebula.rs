//! Nebula: a certificate authority, a lighthouse on the first side, AES.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Install, Over, Peer};
use crate::testbed::Side;
use crate::{Outcome, tools};

pub(crate) const NEBULA: Peer = Peer {
    name: "nebula",
    about: "Nebula, cipher aes",
    is_limit: false,
    programs: &["nebula", "nebula-cert"],
    install: Install::Debian(&["nebula"]),
    version: Some("-version"),
    mtu: 1300,
    over: Over::Tunnel,
    prepare: |sides| make_certificates(sides, "nebula-cert"),
    start: |side| start(side).map(Some),
    configure: |side| side.wait_interface(&format!("neb{}", side.name)),
};

pub(crate) const NEBULA_1_11: Peer = Peer {
    name: "nebula-1.11",
    about: "Nebula of Debian's unstable suite, cipher aes",
    programs: &["nebula-1.11", "nebula-cert-1.11"],
    install: Install::Other(
        "put a newer nebula and nebula-cert (Debian unstable) into the folder that PEERS_BIN names, as nebula-1.11 and \
         nebula-cert-1.11",
    ),
    prepare: |sides| make_certificates(sides, "nebula-cert-1.11"),
    ..NEBULA
};

fn make_certificates([a, b]: &[&Side; 2], program: &str) -> Outcome {
    let program = tools::need(program)?;
    let program = program.display();
    a.shell(&format!("{program} ca -name bench -duration 8760h"))?;
    for side in [a, b] {
        a.shell(&format!("{program} sign -name {} -ip {}/24", side.name, side.tunnel.mine))?;
    }
    Ok(())
}

fn start(side: &Side) -> Outcome<Command> {
    let file = side.file(&format!("{}.yml", side.name));
    fs::write(&file, configuration(side, &side.folder))?;
    let mut command = side.daemon();
    command.arg("-config").arg(file);
    Ok(command)
}

fn configuration(side: &Side, folder: &Path) -> String {
    let (is_lighthouse, hosts) = if side.is_first() { ("true", "") } else { ("false", "\"10.77.0.1\"") };
    format!(
        "pki: {{ca: {folder}/ca.crt, cert: {folder}/{name}.crt, key: {folder}/{name}.key}}\n\
         static_host_map: {{\"10.77.0.1\": [\"192.168.77.1:4242\"]}}\n\
         lighthouse: {{am_lighthouse: {is_lighthouse}, interval: 60, hosts: [{hosts}]}}\n\
         listen: {{host: 0.0.0.0, port: 4242}}\n\
         punchy: {{punch: true}}\n\
         cipher: aes\n\
         tun: {{dev: neb{name}, mtu: {mtu}, tx_queue: 500}}\n\
         logging: {{level: warning}}\n\
         firewall:\n  outbound: [{{port: any, proto: any, host: any}}]\n  inbound: [{{port: any, proto: any, host: any}}]\n",
        folder = folder.display(),
        name = side.name,
        mtu = side.mtu,
    )
}
