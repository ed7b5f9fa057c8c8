//! Keys, clock and the state folder.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::key::{self, KeyFileError};
use config::{Outline, plain};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};

use super::super::facts::{ClockFacts, FolderFacts, KeyContent, KeyFacts, KeyKind, Life, Look, StateFacts};
use crate::host::leftover;
use crate::state::TimestampFile;
use crate::sys::adjust;

pub(super) fn keys(outline: &Outline) -> Vec<KeyFacts> {
    let private = key::read_secret(&outline.key_file).map(|secret| Some(secret.public_key().to_string()));
    let preshared = outline.psk_file.as_deref().map(|path| (path, key::read_psk(path).map(|_| None)));
    let private = key_facts(KeyKind::Private, &outline.key_file, private);
    let preshared = preshared.map(|(path, read)| key_facts(KeyKind::Preshared, path, read));
    std::iter::once(private).chain(preshared).collect()
}

fn key_facts(kind: KeyKind, path: &Path, read: Result<Option<String>, KeyFileError>) -> KeyFacts {
    let content = match read {
        Ok(public_key) => KeyContent::Good { public_key },
        Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => KeyContent::Barred,
        Err(error) => KeyContent::Bad { reason: error.to_string(), help: error.help() },
    };
    let owner = fs::symlink_metadata(path).ok().map(|metadata| metadata.uid());
    KeyFacts { kind, path: path.to_owned(), owner, content }
}

/// The folder of the mesh file in the daemon's own picture of the file system; `None` where it writes nothing there.
pub(super) fn mesh_folder(outline: &Outline, config: &Path, life: &Life) -> Option<Look<FolderFacts>> {
    let Life::Alive(alive) = life else { return None };
    let pid = alive.pid.filter(|_| outline.invite.accept)?;
    Some(folder_of(outline.mesh_file.as_deref().unwrap_or(config), pid))
}

fn folder_of(file: &Path, pid: i32) -> Look<FolderFacts> {
    let words = |error: io::Error| error.to_string();
    let path = fs::canonicalize(file).map_err(words)?.parent().unwrap_or(Path::new("/")).to_owned();
    let root = format!("/proc/{pid}/root");
    let there = Path::new(&root).join(path.strip_prefix("/").unwrap_or(&path));
    let facts = fs::metadata(&there).map_err(words)?;
    let mount = statvfs(&there).map_err(|errno| words(errno.into()))?;
    let is_read_only = mount.flags().contains(FsFlags::ST_RDONLY);
    Ok(FolderFacts { path, uid: facts.uid(), gid: facts.gid(), mode: facts.mode(), is_read_only })
}

pub(super) fn clock(state: Result<&Path, &str>) -> ClockFacts {
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let program = fs::metadata("/proc/self/exe").and_then(|metadata| metadata.modified());
    ClockFacts {
        now: since(SystemTime::now()),
        built: program.ok().map(since),
        is_synchronised: adjust::is_synchronised().map_err(|error| format!("adjtimex: {error}")),
        floor: state.map_or(Ok(Duration::ZERO), floor),
    }
}

fn floor(state: &Path) -> Look<Duration> {
    // The file itself takes what it cannot read for nothing.
    match plain::open(&state.join("timestamp")) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error.to_string()),
        Ok(_) | Err(_) => Ok(Duration::from_nanos(TimestampFile::open(state).floor())),
    }
}

pub(super) fn state(dir: &Path) -> StateFacts {
    let writable = access(dir, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|errno| io::Error::from(errno).kind());
    let free = statvfs(dir).ok().map(|disk| {
        let (blocks, size): (u64, u64) = (disk.blocks_available(), disk.fragment_size());
        blocks.saturating_mul(size)
    });
    StateFacts { dir: dir.to_owned(), writable, free, leftover: leftover(dir).map_err(|error| error.to_string()) }
}
