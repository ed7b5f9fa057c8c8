//! Where programs are found: `$PEERS_BIN`, `target/peers/bin`, then `PATH`.

use std::env;
use std::path::{Path, PathBuf};

use crate::Outcome;

/// The folder that `--install` builds peers into: `peers` in the target directory that this program was built in.
pub(crate) fn peers_folder() -> Outcome<PathBuf> {
    let program = env::current_exe()?;
    let profile = program.parent().ok_or("this program lies in no folder")?;
    Ok(profile.parent().unwrap_or(profile).join("peers"))
}

/// Finds a program; `meshd` is the one that `MESHD_BIN` names, or else that of the target directory; `meshd-base` the
/// one that `MESHD_BASE_BIN` names.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    if program == "meshd" {
        return netns_tests::binary::find().ok();
    }
    if program == "meshd-base" {
        return env::var_os("MESHD_BASE_BIN").map(PathBuf::from).filter(|path| is_program(path));
    }
    folders().into_iter().map(|folder| folder.join(program)).find(|path| is_program(path))
}

/// [`find`], or which one is missing.
pub(crate) fn need(program: &str) -> Outcome<PathBuf> {
    find(program).ok_or_else(|| format!("{program} is not installed").into())
}

fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = env::var_os("PEERS_BIN").map(PathBuf::from).into_iter().collect();
    folders.extend(peers_folder().map(|folder| folder.join("bin")));
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    // Debian keeps daemons where the PATH of a plain user does not lead.
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
