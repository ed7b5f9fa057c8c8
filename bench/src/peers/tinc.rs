//! tinc 1.0 with its default cipher.

use std::fs;
use std::process::Command;

use super::{Install, Over, Peer};
use crate::Outcome;
use crate::testbed::Side;

pub(crate) const TINC: Peer = Peer {
    name: "tinc",
    about: "tinc 1.0, its default cipher",
    is_limit: false,
    programs: &["tincd"],
    install: Install::Debian(&["tinc"]),
    version: Some("--version"),
    mtu: 1500,
    over: Over::Tunnel,
    prepare,
    start: |side| Ok(Some(start(side))),
    configure,
};

fn prepare([a, b]: &[&Side; 2]) -> Outcome {
    let tincd = crate::tools::need("tincd")?;
    for side in [a, b] {
        let name = side.name;
        fs::create_dir_all(side.file(&format!("{name}/hosts")))?;
        let own = format!("Name = {name}\nConnectTo = {}\nInterface = tinc{name}\n", side.other);
        fs::write(side.file(&format!("{name}/tinc.conf")), own)?;
        let host = format!("Address = {}\nSubnet = {}/32\n", side.link.mine, side.tunnel.mine);
        fs::write(side.file(&format!("{name}/hosts/{name}")), host)?;
        // It asks where to put the keys.
        side.shell(&format!("yes '' | {} -c {name} -K 2048", tincd.display()))?;
    }
    a.shell("cp a/hosts/a b/hosts/; cp b/hosts/b a/hosts/").map(drop)
}

fn start(side: &Side) -> Command {
    let mut command = side.daemon();
    command.arg("-c").arg(side.file(side.name)).arg("-D");
    command.arg(format!("--pidfile={}", side.file(&format!("{}.pid", side.name)).display()));
    command
}

fn configure(side: &Side) -> Outcome {
    let interface = format!("tinc{}", side.name);
    side.wait_interface(&interface)?;
    side.set_up_interface(&interface)
}
