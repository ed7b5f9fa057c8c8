//! `--install`: brings the chosen peers onto the machine, from Debian's packages and crates.io, those that are missing only.

use std::process::Command;

use nix::unistd::geteuid;

use crate::peers::{Install, Peer};
use crate::{Outcome, tools};

/// Installs what is missing of `chosen`. One that does not build is told and left for the table to name.
pub(crate) fn install(chosen: &[&'static Peer]) -> Outcome {
    let is_missing = |peer: &&&Peer| peer.programs.iter().any(|program| tools::find(program).is_none());
    let missing: Vec<&Peer> = chosen.iter().filter(is_missing).copied().collect();
    let mut packages = missing_helpers();
    for peer in &missing {
        match peer.install {
            Install::Debian(names) | Install::Crate { debian: names, .. } => packages.extend(names),
            Install::Other(hint) => println!("{}: not installed by this program; {hint}", peer.name),
        }
    }
    install_debian(&mut packages)?;
    for peer in missing {
        if let Install::Crate { package, version, .. } = peer.install {
            install_crate(package, version)?;
        }
    }
    Ok(())
}

fn missing_helpers() -> Vec<&'static str> {
    let helpers = [("iperf3", "iperf3"), ("ethtool", "ethtool"), ("ping", "iputils-ping"), ("ip", "iproute2")];
    helpers.into_iter().filter(|(program, _)| tools::find(program).is_none()).map(|(_, package)| package).collect()
}

fn install_debian(packages: &mut Vec<&'static str>) -> Outcome {
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    if !geteuid().is_root() {
        return Err(format!("Debian packages are missing; install them, then run this again:\n  sudo {line}").into());
    }
    println!("{line}");
    let script = format!("export DEBIAN_FRONTEND=noninteractive; apt-get update -qq && {line}");
    let status = Command::new("sh").args(["-c", &script]).status()?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` ended with {status}").into()) }
}

fn install_crate(package: &str, version: &str) -> Outcome {
    let root = tools::peers_folder()?;
    let target = root.join("build");
    println!("cargo install {package}@{version}, into {}", root.join("bin").display());
    let mut command = Command::new("cargo");
    command.args(["install", "--locked", "--root"]).arg(root).arg(format!("{package}@{version}"));
    let status = command.env("CARGO_TARGET_DIR", target).status()?;
    if !status.success() {
        println!("{package} does not build here ({status}); it will be named as missing");
    }
    Ok(())
}
