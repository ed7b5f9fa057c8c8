//! Fresh namespaces for a program: rootless through a user namespace, or as root without one.
//!
//! The program becomes PID 1 of a PID namespace, so its end, however it comes, ends every process that it started; its
//! network and mount namespaces go with it. Nothing needs cleaning up.

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::process::{self, Command, Stdio};
use std::sync::OnceLock;

use nix::mount::{MsFlags, mount};

/// Set for the program inside; without it nothing in this crate makes an interface.
const INSIDE: &str = "MESHD_LAB_INSIDE";

/// Namespaces that every lab gets; `--kill-child` ends it with its `unshare`.
const NAMESPACES: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// How namespaces are made on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In a user namespace: needs no privilege, and can do no harm outside.
    User,
    /// As root, without a user namespace.
    Root,
}

impl Way {
    /// The command that runs `program` in fresh namespaces.
    #[must_use]
    pub fn command(self, program: &OsStr) -> Command {
        let mut command = Command::new("unshare");
        if self == Self::User {
            command.args(["--user", "--map-root-user"]);
        }
        finish(command, program)
    }

    /// The command that runs `program` in fresh namespaces with all capabilities there, but as this user: the namespaces' root is
    /// somebody else.
    #[must_use]
    pub(crate) fn command_as(user: u32, program: &OsStr) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--user", &format!("--map-user={user}"), &format!("--map-group={user}"), "--keep-caps"]);
        finish(command, program)
    }
}

fn finish(mut command: Command, program: &OsStr) -> Command {
    // Debian keeps `nft` where the PATH of a plain user does not lead.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    command.args(NAMESPACES).arg(program).env(INSIDE, "1").env("PATH", path);
    command
}

/// As [`way`], but as root rather without a user namespace, which has no second user.
///
/// # Errors
/// As [`way`].
pub(crate) fn way_for_users() -> Result<Way, String> {
    let is_root = nix::unistd::geteuid().is_root();
    if is_root && attempt(Way::Root).is_ok() { tun_present(Way::Root) } else { way() }
}

/// Finds out once how namespaces can be made here.
///
/// # Errors
/// A text for the user: why they cannot, and what to do.
pub fn way() -> Result<Way, String> {
    static WAY: OnceLock<Result<Way, String>> = OnceLock::new();
    WAY.get_or_init(probe).clone()
}

fn probe() -> Result<Way, String> {
    let user = attempt(Way::User);
    let Err(reason) = user else { return tun_present(Way::User) };
    if !nix::unistd::geteuid().is_root() {
        return Err(format!(
            "user namespaces are barred here: {reason}\n\
             Allow them (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces=10000, or on Ubuntu \
             kernel.apparmor_restrict_unprivileged_userns=0), or run the same as root: \
             sudo env \"PATH=$PATH\" make demo (or make test)."
        ));
    }
    match attempt(Way::Root) {
        Ok(()) => tun_present(Way::Root),
        Err(root) => Err(format!(
            "no namespaces can be made here, neither in a user namespace ({reason}) nor as root ({root}).\n\
             In a container they need --privileged, or --cap-add SYS_ADMIN,NET_ADMIN with seccomp unconfined."
        )),
    }
}

fn attempt(way: Way) -> Result<(), String> {
    let output = way
        .command("true".as_ref())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("unshare does not start: {error}; it is in the package util-linux"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

fn tun_present(way: Way) -> Result<Way, String> {
    match fs::metadata("/dev/net/tun") {
        Ok(_) => Ok(way),
        Err(error) => Err(format!(
            "/dev/net/tun: {error}. Load it with `modprobe tun`; in a container pass --device /dev/net/tun."
        )),
    }
}

/// Whether this process is the program inside fresh namespaces.
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some() && process::id() == 1
}

/// Makes the inside ready: a `/run` of its own, which `ip netns` needs and the lab keeps its files in.
///
/// # Panics
/// When not inside, before anything is changed.
pub fn prepare() {
    assert!(is_inside(), "not in namespaces of its own: refusing to touch this machine's network");
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect("mount a tmpfs on /run");
    fs::create_dir("/run/netns").expect("make /run/netns");
}

/// Ends this process, and with it the lab, when the one outside is gone: it holds the other end of our stdin.
pub fn end_with_stdin() {
    std::thread::spawn(|| {
        let mut rest = [0; 64];
        while std::io::stdin().read(&mut rest).is_ok_and(|n| n > 0) {}
        eprintln!("lab: the process outside is gone");
        process::exit(3);
    });
}
