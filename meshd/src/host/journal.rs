//! What must be undone, on disk before it is done, and the claim that makes one process its owner.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use config::plain;
use ipnet::IpNet;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use super::error::HostError;
use super::neighbours::DirectRoute;
use super::netlink::LinkSettings;
use super::plan::Claim;
use super::sysctl::Forwarding;

const FILE: &str = "undo.json";
const NEW_FILE: &str = "undo.json.new";
const BAD_FILE: &str = "undo.json.unreadable";
/// The journal itself is replaced by rename at each change, so the lock needs a file that stays.
const LOCK_FILE: &str = "undo.lock";

/// Longest journal in bytes: a thousand interfaces have a third of a megabyte of sysctls, and as many direct routes less.
const MAX_LENGTH: u64 = 16 << 20;

/// Room for a process id and its line end, in bytes.
const MAX_PID_LENGTH: u64 = 16;

/// What the journal holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Undo {
    pub(super) kernel: Kernel,
    pub(super) table: u32,
    #[serde(deserialize_with = "interface_name")]
    pub(super) interface: String,
    pub(super) link: Option<LinkBefore>,
    pub(super) addresses: Vec<IpNet>,
    /// Routes by interfaces that are not ours, which do not go with our interface.
    #[serde(default)]
    pub(super) direct: Vec<DirectRoute>,
    pub(super) forward_v4: Option<Forwarding>,
    pub(super) forward_v6: Option<Forwarding>,
}

/// What the kernel takes for a name, without what a terminal would obey: `meshd doctor` shows it.
fn interface_name<'de, D: Deserializer<'de>>(journal: D) -> Result<String, D::Error> {
    let name = String::deserialize(journal)?;
    let is_name = name.len() < libc::IFNAMSIZ && name.chars().all(|c| c.is_ascii_graphic() && c != '/');
    if is_name { Ok(name) } else { Err(D::Error::custom(format!("{name:?} is no name of an interface"))) }
}

/// The kernel state that a journal is about: it ends with a boot or with a network namespace.
///
/// Without this, a journal from before a reboot would turn off forwarding that `sysctl.conf` turned on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kernel {
    boot: String,
    namespace: u64,
}

impl Kernel {
    pub(super) fn current() -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let namespace = fs::metadata("/proc/self/ns/net").map_or(0, |namespace| namespace.ino());
        Self { boot, namespace }
    }
}

/// An interface as it was when meshd found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LinkBefore {
    pub(super) index: u32,
    pub(super) is_up: bool,
    pub(super) settings: LinkSettings,
}

/// What was found where a journal may be.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    Undo(Box<Undo>),
    /// Moved out of the way.
    Unreadable {
        kept: PathBuf,
        reason: String,
    },
}

/// The journal of a process that has claimed it.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    written: Option<Undo>,
    _lock: Flock<File>,
    _name: Option<UnixListener>,
}

impl Journal {
    /// Claims directory and table, or interface, for the life of this value.
    pub(super) fn claim(directory: &Path, claim: &Claim) -> Result<Self, HostError> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(during("create", directory))?;
        let lock = lock(&directory.join(LOCK_FILE), claim)?;
        let name = claim_name(claim)?;
        Ok(Self { directory: directory.to_owned(), written: None, _lock: lock, _name: name })
    }

    /// Reads what a predecessor left; one that cannot be read is kept aside.
    pub(super) fn load(&mut self) -> Result<Found, HostError> {
        let path = self.directory.join(FILE);
        let text = match plain::read(&path, MAX_LENGTH) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(during("read", &path)(error)),
        };
        match serde_json::from_slice::<Undo>(&text) {
            Ok(undo) => {
                self.written = Some(undo.clone());
                Ok(Found::Undo(Box::new(undo)))
            }
            Err(error) => {
                let kept = self.directory.join(BAD_FILE);
                fs::rename(&path, &kept).map_err(during("move", &path))?;
                Ok(Found::Unreadable { kept, reason: error.to_string() })
            }
        }
    }

    /// Makes `undo` what a successor will find, even after a power failure; does nothing where it is that already.
    pub(super) fn write(&mut self, undo: &Undo) -> Result<(), HostError> {
        if self.written.as_ref() == Some(undo) {
            return Ok(());
        }
        let (path, new) = (self.directory.join(FILE), self.directory.join(NEW_FILE));
        let store = || {
            let mut text = serde_json::to_vec_pretty(undo)?;
            text.push(b'\n');
            let mut file = plain::create_anew(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        store().map_err(during("write", &path))?;
        self.written = Some(undo.clone());
        Ok(())
    }

    /// Removes it: nothing is left to undo.
    pub(super) fn remove(&mut self) -> Result<(), HostError> {
        let path = self.directory.join(FILE);
        self.written = None;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(during("remove", &path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Reads a journal without claiming it; `None` where there is none.
pub(super) fn peek(directory: &Path) -> io::Result<Option<Undo>> {
    match plain::read(&directory.join(FILE), MAX_LENGTH) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn during(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HostError {
    let path = path.to_owned();
    move |source| HostError::Journal { action, path, source }
}

fn lock(path: &Path, claim: &Claim) -> Result<Flock<File>, HostError> {
    let file = plain::open_or_create(path).map_err(during("open", path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let mut sign = || {
                lock.set_len(0)?;
                lock.rewind()?;
                writeln!(lock, "{}", std::process::id())
            };
            sign().map_err(during("write", path))?;
            Ok(lock)
        }
        Err((file, Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            let _ = file.take(MAX_PID_LENGTH).read_to_string(&mut text);
            Err(HostError::InUse { pid: text.trim().parse().ok(), claim: claim.clone() })
        }
        Err((_, errno)) => Err(during("lock", path)(errno.into())),
    }
}

/// Claims a table or an interface in this network namespace, whatever state directory the other process has.
///
/// An abstract socket name is as wide as a routing table (one network namespace) and goes with its process. Anyone can take
/// the name, so only a holder of our own user id counts: others must not be able to keep meshd from starting.
fn claim_name(claim: &Claim) -> Result<Option<UnixListener>, HostError> {
    let take = || -> io::Result<Result<UnixListener, (i32, u32)>> {
        let address = SocketAddr::from_abstract_name(format!("meshd {claim}"))?;
        match UnixListener::bind_addr(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let holder = getsockopt(&UnixStream::connect_addr(&address)?, PeerCredentials)?;
                Ok(Err((holder.pid(), holder.uid())))
            }
            bound => bound.map(Ok),
        }
    };
    match take() {
        Ok(Ok(listener)) => Ok(Some(listener)),
        Ok(Err((pid, uid))) if uid == nix::unistd::geteuid().as_raw() => {
            Err(HostError::InUse { pid: (pid > 0).then_some(pid), claim: claim.clone() })
        }
        Ok(Err((pid, uid))) => {
            tracing::warn!(pid, uid, %claim, "another user's process holds the name of what is ours; ignored");
            Ok(None)
        }
        Err(error) => {
            tracing::warn!(%error, %claim, "cannot tell whether another meshd uses what is ours");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_journal_survives_its_process_and_a_torn_one_is_kept_aside() {
        let directory = tempfile::tempdir().unwrap();
        let undo = Undo { kernel: Kernel::current(), table: 9_001, interface: "t0".into(), ..Undo::default() };
        let mut journal = Journal::claim(directory.path(), &Claim::Table(9_001)).unwrap();
        journal.write(&undo).unwrap();
        drop(journal);
        let mut journal = Journal::claim(directory.path(), &Claim::Table(9_001)).unwrap();
        assert!(matches!(journal.load().unwrap(), Found::Undo(found) if *found == undo));
        fs::write(directory.path().join(FILE), "{\"table\":").unwrap();
        assert!(matches!(journal.load().unwrap(), Found::Unreadable { .. }));
        assert!(matches!(journal.load().unwrap(), Found::Nothing));
    }

    #[test]
    fn what_another_user_put_into_the_folder_leads_nowhere_and_holds_nobody_up() {
        let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (victim, claim) = (elsewhere.path().join("victim"), Claim::Table(9_004));
        let at = |name: &str| directory.path().join(name);
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, at(LOCK_FILE)).unwrap();
        assert!(matches!(Journal::claim(directory.path(), &claim), Err(HostError::Journal { .. })));
        fs::remove_file(at(LOCK_FILE)).unwrap();
        let mut journal = Journal::claim(directory.path(), &claim).unwrap();
        symlink(&victim, at(NEW_FILE)).unwrap();
        journal.write(&Undo { table: 9_004, ..Undo::default() }).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(peek(directory.path()).unwrap().unwrap().table, 9_004);
        journal.write(&Undo { interface: "\u{1b}[2J".into(), ..Undo::default() }).unwrap();
        assert!(peek(directory.path()).unwrap_err().to_string().contains("is no name of an interface"));
        fs::remove_file(at(FILE)).unwrap();
        nix::unistd::mkfifo(&at(FILE), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(peek(directory.path()).is_err());
        assert!(journal.load().is_err());
    }

    #[test]
    fn a_second_owner_is_told_the_first_ones_pid_for_directory_and_for_name() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let _first = Journal::claim(one.path(), &Claim::Interface("t0".into())).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        for (directory, claim) in [(&one, Claim::Table(9_003)), (&two, Claim::Interface("t0".into()))] {
            let error = Journal::claim(directory.path(), &claim).unwrap_err();
            assert!(matches!(error, HostError::InUse { pid: Some(pid), .. } if pid == me), "{error}");
        }
    }
}
