//! The sysctls that matter to a node.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Of the machine, by path below `/proc/sys`.
const MACHINE: [&str; 5] = [
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/ip_unprivileged_port_start",
    "net/core/rmem_max",
    "net/core/wmem_max",
];

/// Of each interface, and of `all` and `default`.
const INTERFACE: [&str; 4] = [
    "net/ipv4/conf/{}/rp_filter",
    "net/ipv6/conf/{}/accept_ra",
    "net/ipv6/conf/{}/forwarding",
    "net/ipv6/conf/{}/disable_ipv6",
];

/// Those of the machine, and of interfaces of these names, as far as there are any.
pub(super) fn sysctls(interfaces: &[&str]) -> BTreeMap<String, String> {
    let scopes = interfaces.iter().chain(&["all", "default"]);
    let of_interfaces = scopes.flat_map(|scope| INTERFACE.iter().map(move |key| key.replace("{}", scope)));
    let keys = MACHINE.iter().map(|key| (*key).to_owned()).chain(of_interfaces);
    keys.filter_map(|key| {
        let value = fs::read_to_string(Path::new("/proc/sys").join(&key)).ok()?;
        Some((key, value.trim().to_owned()))
    })
    .collect()
}
