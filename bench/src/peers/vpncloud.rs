//! VpnCloud as a router with a shared password.

use std::process::Command;

use super::{Install, Over, Peer, nothing_to_prepare};
use crate::Outcome;
use crate::testbed::Side;

pub(crate) const VPNCLOUD: Peer = Peer {
    name: "vpncloud",
    about: "VpnCloud, the cipher of its own choice",
    is_limit: false,
    programs: &["vpncloud"],
    install: Install::Crate { package: "vpncloud", version: "2.3.0", debian: &[] },
    version: Some("--version"),
    mtu: 1428,
    over: Over::Tunnel,
    prepare: nothing_to_prepare,
    start: |side| start(side).map(Some),
    configure,
};

fn start(side: &Side) -> Outcome<Command> {
    // It looks for a default route at its start, and does not come up without one.
    side.run(&format!("ip route add default via {}", side.link.theirs))?;
    let (inner, outer) = (side.tunnel.mine, side.link.theirs);
    let line = format!(
        "--type tun --ip {inner}/24 --password bench --listen 3210 --peer {outer}:3210 --no-port-forwarding --mode router \
         --claim {inner}/32 --no-auto-claim"
    );
    let mut command = side.daemon();
    command.args(["--device", &format!("vc{}", side.name)]).args(line.split_whitespace());
    Ok(command)
}

fn configure(side: &Side) -> Outcome {
    let interface = format!("vc{}", side.name);
    side.wait_interface(&interface)?;
    // It sets an address itself, a moment later, with a prefix of its own taste.
    std::thread::sleep(std::time::Duration::from_millis(100));
    side.run(&format!("ip address flush dev {interface}"))?;
    side.set_up_interface(&interface)
}
