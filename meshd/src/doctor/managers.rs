//! Programs that manage interfaces, and may strip ours of its addresses and routes.

use super::facts::Facts;
use super::finding::{Check, Finding};

const MANAGERS: Check = Check("managers");

/// Names of processes, cut to 15 bytes as the kernel does.
const NETWORKD: &str = "systemd-network";
const NETWORK_MANAGER: &str = "NetworkManager";

pub(super) fn managers(facts: &Facts) -> Vec<Finding> {
    let managers = &facts.managers;
    let interface = facts.config.interface();
    let runs = |name: &str| managers.processes.contains(name);
    let mut findings = Vec::new();
    if runs(NETWORKD) {
        findings.push(networkd(interface, managers.networkd_link.as_deref(), managers.keeps_foreign_routes));
    }
    if runs(NETWORK_MANAGER) {
        findings.push(if managers.is_unmanaged_by_nm {
            MANAGERS.ok(format!("NetworkManager leaves {interface} alone"))
        } else {
            let fix = format!(
                "printf '[keyfile]\\nunmanaged-devices=interface-name:{interface}\\n' > \
                 /etc/NetworkManager/conf.d/90-meshd.conf && nmcli general reload"
            );
            MANAGERS.warn(format!("NetworkManager runs and was not told to leave {interface} alone"), fix)
        });
    }
    if findings.is_empty() {
        findings.push(MANAGERS.ok("neither NetworkManager nor systemd-networkd is seen to run"));
    }
    findings
}

/// networkd changes only what a `.network` file matches, some of which match everything.
fn networkd(interface: &str, state: Option<&str>, keeps_routes: bool) -> Finding {
    match state {
        None | Some("unmanaged") => MANAGERS.ok(format!("systemd-networkd does not manage {interface}")),
        Some(_) if keeps_routes => MANAGERS.ok("systemd-networkd keeps the routes of others (ManageForeignRoutes=no)"),
        Some(state) => {
            let fix = format!(
                "printf '[Match]\\nName={interface}\\n[Link]\\nUnmanaged=yes\\n' > \
                 /etc/systemd/network/05-meshd.network && networkctl reload"
            );
            let found = format!("systemd-networkd manages {interface} ({state}) and may remove its routes");
            MANAGERS.warn(found, fix)
        }
    }
}
