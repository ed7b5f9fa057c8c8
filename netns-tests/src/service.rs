//! A lab whose daemons run as the package's unit runs them: a user of their own, two capabilities, nothing to be gained by exec.
//!
//! Who is root can be another user there. An ordinary user has one user id in a user namespace, so there the whole lab has the
//! daemon's, keeps its capabilities for itself, and the daemon is started with two of them.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use nix::mount::{MsFlags, mount};

use crate::binary;
use crate::sandbox::Way;

/// The user and group that the daemons run as; nobody's number elsewhere.
pub const USER: u32 = 6374;

/// Set for the program in such a lab.
const INSIDE: &str = "MESHD_LAB_SERVICE";

/// What `CapabilityBoundingSet=` and `AmbientCapabilities=` of the unit say, in the words of setpriv(1).
const CAPABILITIES: &str = "-all,+net_admin,+net_bind_service";

/// The command that runs `program` in fresh namespaces whose daemons are services.
pub(crate) fn command(way: Way, program: &OsStr) -> Command {
    let mut command = match way {
        Way::Root => way.command(program),
        Way::User => Way::command_as(USER, program),
    };
    command.env(INSIDE, "1");
    command
}

/// The command that runs the binary under test with the files in `folder`: as a service in a lab for services, else as it is.
pub(crate) fn meshd(folder: &Path) -> Command {
    if env::var_os(INSIDE).is_none() {
        return Command::new(binary::meshd());
    }
    let mut command = Command::new("setpriv");
    if nix::unistd::geteuid().is_root() {
        give(folder);
        command.args([format!("--reuid={USER}"), format!("--regid={USER}"), "--clear-groups".to_owned()]);
    }
    for set in ["bounding-set", "inh-caps", "ambient-caps"] {
        command.arg(format!("--{set}={CAPABILITIES}"));
    }
    command.args(["--no-new-privs", "--"]).arg(reachable());
    command
}

/// Makes `path`, and what is in it, the daemons'.
fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).expect("give a file to the service's user");
    if path.is_dir() {
        fs::read_dir(path).expect("list a folder").flatten().for_each(|entry| give(&entry.path()));
    }
}

/// The binary under test at a place that every user may enter, which the way to a build may not be.
fn reachable() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = PathBuf::from("/run/meshd-under-test");
        File::create(&place).expect("make a file to mount the binary on");
        let none: Option<&str> = None;
        mount(Some(&binary::meshd()), &place, none, MsFlags::MS_BIND, none).expect("mount the binary under test");
        place
    })
}

/// Whether every file in `folder` belongs to the service's user.
///
/// # Panics
/// When the folder cannot be read.
#[must_use]
pub fn owns_all_in(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).expect("list a folder").flatten();
    entries.map(|entry| entry.metadata().expect("a file's owner")).all(|facts| facts.uid() == USER)
}

/// The line of `/proc/<pid>/status` with this name.
///
/// # Panics
/// When there is no such process or line.
#[must_use]
pub fn process_line(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect("the kernel tells it").trim().to_owned()
}

/// What systemd's end of `NOTIFY_SOCKET` hears.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    /// Listens in `folder`, for daemons of any user.
    ///
    /// # Panics
    /// When it cannot listen there.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("bind the notification socket");
        if nix::unistd::geteuid().is_root() {
            give(&path);
        }
        Self { socket, path }
    }

    /// The address for `NOTIFY_SOCKET`.
    ///
    /// # Panics
    /// When the folder's name is not UTF-8.
    #[must_use]
    pub fn address(&self) -> &str {
        self.path.to_str().expect("a path in ASCII")
    }

    /// The next message; none when `limit` passes without.
    ///
    /// # Panics
    /// When the socket fails.
    #[must_use]
    pub fn next(&self, limit: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(limit)).expect("set a limit");
        let mut message = [0; 4096];
        let read = self.socket.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(message.get(..read)?).into_owned())
    }

    /// Waits for a message that has `line` among its lines, and returns it.
    ///
    /// # Panics
    /// When there is none among the messages of the next `limit`.
    #[track_caller]
    #[must_use]
    pub fn wait(&self, line: &str, limit: Duration) -> String {
        let deadline = std::time::Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now()).max(Duration::from_millis(1));
            let message = self.next(left).unwrap_or_else(|| panic!("no {line} within {limit:?}"));
            if message.lines().any(|said| said == line) {
                return message;
            }
        }
    }
}
