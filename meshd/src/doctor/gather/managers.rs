//! Which network managers run, and what they were told (networkd.conf(5), NetworkManager.conf(5)).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::facts::ManagerFacts;
use crate::host::Survey;

const NETWORKD: [&str; 6] = [
    "/usr/lib/systemd/networkd.conf",
    "/usr/lib/systemd/networkd.conf.d",
    "/etc/systemd/networkd.conf",
    "/run/systemd/networkd.conf.d",
    "/etc/systemd/networkd.conf.d",
    "/usr/local/lib/systemd/networkd.conf.d",
];
const NETWORK_MANAGER: [&str; 4] = [
    "/etc/NetworkManager/NetworkManager.conf",
    "/usr/lib/NetworkManager/conf.d",
    "/run/NetworkManager/conf.d",
    "/etc/NetworkManager/conf.d",
];

pub(super) fn managers(interface: &str, network: Option<&Survey>) -> ManagerFacts {
    let links = network.into_iter().flat_map(|network| &network.links);
    let index = links.filter(|link| link.name == interface).map(|link| link.index).next();
    ManagerFacts {
        processes: processes(),
        networkd_link: index.and_then(networkd_link),
        keeps_foreign_routes: lines(&NETWORKD).iter().any(|line| keeps_routes(line)),
        is_unmanaged_by_nm: lines(&NETWORK_MANAGER).iter().any(|line| leaves_alone(line, interface)),
    }
}

fn processes() -> BTreeSet<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<i32>().is_ok()));
    processes.filter_map(|entry| Some(fs::read_to_string(entry.path().join("comm")).ok()?.trim().to_owned())).collect()
}

/// What networkd last wrote of a link.
fn networkd_link(index: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/run/systemd/netif/links/{index}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("ADMIN_STATE=")).map(str::to_owned)
}

/// Every line of these files, and of the `.conf` files in these folders, without blanks.
fn lines(places: &[&str]) -> Vec<String> {
    let files = places.iter().flat_map(|place| files(Path::new(place)));
    let texts: Vec<String> = files.filter_map(|file| fs::read_to_string(file).ok()).collect();
    texts.iter().flat_map(|text| text.lines()).map(|line| line.replace([' ', '\t'], "")).collect()
}

fn files(place: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(place) else { return vec![place.to_owned()] };
    let is_conf = |path: &PathBuf| path.extension().is_some_and(|end| end == "conf");
    entries.flatten().map(|entry| entry.path()).filter(is_conf).collect()
}

fn keeps_routes(line: &str) -> bool {
    let value = line.strip_prefix("ManageForeignRoutes=");
    value.is_some_and(|value| ["no", "false", "off", "0"].contains(&value.to_ascii_lowercase().as_str()))
}

/// Whether a line makes NetworkManager leave an interface alone: by its name or the beginning of that, or because it is a TUN.
fn leaves_alone(line: &str, interface: &str) -> bool {
    let Some(specs) = line.strip_prefix("unmanaged-devices=") else { return false };
    specs.split([';', ',']).any(|spec| match spec.strip_prefix("interface-name:") {
        Some(name) => {
            let name = name.trim_start_matches('=');
            name.strip_suffix('*').map_or(name == interface, |start| interface.starts_with(start))
        }
        None => spec == "*" || spec == "type:tun",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_keep_managers_away_are_known() {
        for line in [
            "unmanaged-devices=interface-name:mesh0",
            "unmanaged-devices=mac:1;interface-name:mesh*",
            "unmanaged-devices=type:tun",
        ] {
            assert!(leaves_alone(line, "mesh0"), "{line}");
        }
        for line in ["unmanaged-devices=interface-name:eth0", "managed=true", "#unmanaged-devices=*"] {
            assert!(!leaves_alone(line, "mesh0"), "{line}");
        }
        assert!(keeps_routes("ManageForeignRoutes=no") && !keeps_routes("ManageForeignRoutes=yes"));
        assert!(!keeps_routes("#ManageForeignRoutes=no"));
    }
}
