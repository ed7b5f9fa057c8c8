//! Two hosts and the veth between them: fresh for every measurement.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netns_tests::{Done, Host, Lab};

use crate::peers::Peer;
use crate::{Outcome, tools};

/// The link's MTU.
const LINK_MTU: u16 = 1500;

/// What `--wire` switches off. Without `tx-udp-segmentation` UDP GSO would go on working behind the others' backs.
const WIRE_OFFLOADS: [&str; 5] = ["tso", "gso", "gro", "tx-udp-segmentation", "rx-udp-gro-forwarding"];

/// How long an interface or a control socket may take to appear.
const APPEAR_LIMIT: Duration = Duration::from_secs(10);

/// One end of the tunnel: its host, and everything that a peer's configuration needs to know.
pub(crate) struct Side {
    /// `a` or `b`.
    pub(crate) name: &'static str,
    /// The other one's name.
    pub(crate) other: &'static str,
    pub(crate) host: Host,
    /// For keys and configuration, shared by both sides.
    pub(crate) folder: PathBuf,
    /// The tunnel's MTU.
    pub(crate) mtu: u16,
    /// Addresses on the link.
    pub(crate) link: Pair,
    /// Addresses in the tunnel.
    pub(crate) tunnel: Pair,
    programs: Vec<PathBuf>,
}

/// An address of this side and the other side's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) mine: &'static str,
    pub(crate) theirs: &'static str,
}

const LINK: [&str; 2] = ["192.168.77.1", "192.168.77.2"];
const TUNNEL: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

/// The two sides. The namespaces go when it is dropped.
pub(crate) struct Testbed {
    pub(crate) a: Side,
    pub(crate) b: Side,
}

impl Testbed {
    /// Two hosts with a link between them, and nothing running.
    pub(crate) fn new(lab: &Lab, peer: &Peer, mtu: u16, wire: bool) -> Outcome<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = lab.directory().join(format!("{}-{number}", peer.name));
        std::fs::create_dir(&folder)?;
        let programs = peer.programs.iter().map(|program| tools::need(program)).collect::<Outcome<Vec<_>>>()?;
        let host = |name: &str| lab.host(&format!("{name}{number}"));
        let (a, b) = (host("a"), host("b"));
        let (at_a, at_b) = lab.cable(&a, &["192.168.77.1/24"], &b, &["192.168.77.2/24"]);
        for (host, interface) in [(&a, &at_a), (&b, &at_b)] {
            set_up_link(host, interface, wire)?;
        }
        let side = |index: usize, host| Side::new(index, host, folder.clone(), mtu, programs.clone());
        Ok(Self { a: side(0, a), b: side(1, b) })
    }

    /// Both sides.
    pub(crate) const fn sides(&self) -> [&Side; 2] {
        [&self.a, &self.b]
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        for side in self.sides() {
            // Gone with the lab at the latest; by now only to keep rounds from piling up.
            let _ = Command::new("ip").args(["netns", "del", side.host.name()]).status();
        }
    }
}

fn set_up_link(host: &Host, interface: &str, wire: bool) -> Outcome {
    checked(host.run(&format!("ip link set {interface} mtu {LINK_MTU}")))?;
    if wire {
        for offload in WIRE_OFFLOADS {
            checked(host.run(&format!("ethtool -K {interface} {offload} off")))?;
        }
    }
    Ok(())
}

impl Side {
    fn new(index: usize, host: Host, folder: PathBuf, mtu: u16, programs: Vec<PathBuf>) -> Self {
        let pair = |addresses: [&'static str; 2]| {
            let [first, second] = addresses;
            if index == 0 { Pair { mine: first, theirs: second } } else { Pair { mine: second, theirs: first } }
        };
        let (name, other) = if index == 0 { ("a", "b") } else { ("b", "a") };
        Self { name, other, host, folder, mtu, link: pair(LINK), tunnel: pair(TUNNEL), programs }
    }

    /// Whether this is the side that starts first.
    pub(crate) fn is_first(&self) -> bool {
        self.name == "a"
    }

    /// The peer's first program, which is its daemon.
    pub(crate) fn daemon(&self) -> Command {
        Command::new(self.programs.first().map_or(Path::new("true"), PathBuf::as_path))
    }

    /// A file in the shared folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs a command line in this side's namespace, which must succeed; returns its stdout.
    pub(crate) fn run(&self, line: &str) -> Outcome<String> {
        checked(self.host.run(line))
    }

    /// Runs a line of shell in the shared folder, which must succeed; returns its stdout.
    pub(crate) fn shell(&self, line: &str) -> Outcome<String> {
        checked(self.host.output(Command::new("sh").args(["-ec", line]).current_dir(&self.folder)))
    }

    /// Waits until `interface` exists.
    pub(crate) fn wait_interface(&self, interface: &str) -> Outcome {
        let line = format!("ip link show {interface}");
        wait(&format!("interface {interface}"), || self.host.run(&line).is_ok())
    }

    /// Waits until a command line succeeds.
    pub(crate) fn wait_success(&self, line: &str) -> Outcome {
        wait(&format!("`{line}`"), || self.host.run(line).is_ok())
    }

    /// Gives `interface` its tunnel address and MTU, and brings it up.
    pub(crate) fn set_up_interface(&self, interface: &str) -> Outcome {
        self.run(&format!("ip address add {}/24 dev {interface}", self.tunnel.mine))?;
        self.run(&format!("ip link set {interface} mtu {} up", self.mtu)).map(drop)
    }
}

fn wait(what: &str, mut is_there: impl FnMut() -> bool) -> Outcome {
    let started = Instant::now();
    while !is_there() {
        if started.elapsed() > APPEAR_LIMIT {
            return Err(format!("{what}: not there after {APPEAR_LIMIT:?}").into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn checked(done: Done) -> Outcome<String> {
    if done.is_ok() { Ok(done.stdout) } else { Err(done.to_string().trim().to_owned().into()) }
}
