//! A host: one network namespace, and what can be done in it.

use std::fmt;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::wait::wait_until;

/// A network namespace. Clones are the same host; it ends with the lab.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    namespace: File,
    interfaces: AtomicUsize,
}

/// A command that came to its end.
#[derive(Clone, Debug)]
pub struct Done {
    /// The command line.
    pub command: String,
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Done {
    /// Whether it exited with 0.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.code == Some(0)
    }

    /// Its stdout.
    ///
    /// # Panics
    /// When it did not exit with 0.
    #[track_caller]
    #[must_use]
    pub fn text(self) -> String {
        assert!(self.is_ok(), "{self}");
        self.stdout
    }

    fn of(command: &Command, output: &Output) -> Self {
        let mut words = vec![command.get_program().to_string_lossy().into_owned()];
        words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
        Self {
            command: words.join(" "),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` exited with {:?}\n{}{}", self.command, self.code, self.stdout, self.stderr)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.name)
    }
}

impl Host {
    pub(crate) fn new(name: &str) -> Self {
        let made = Command::new("ip").args(["netns", "add", name]).stdin(Stdio::null()).status();
        assert!(made.expect("ip starts; it is in the package iproute2").success(), "ip netns add {name}");
        let namespace = File::open(Path::new("/run/netns").join(name)).expect("open the namespace");
        let host =
            Self { inner: Arc::new(Inner { name: name.to_owned(), namespace, interfaces: AtomicUsize::new(0) }) };
        host.ok("ip link set lo up");
        // A namespace takes over these from the machine (devconf_inherit_init_net): start equal everywhere.
        host.set_sysctl("net/ipv4/ip_forward", "0");
        for scope in ["all", "default"] {
            host.set_sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "0");
        }
        host
    }

    /// The name of the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Runs `work` in this namespace, on a thread of its own. Sockets that it opens stay in the namespace for good.
    ///
    /// # Panics
    /// When `work` does.
    #[track_caller]
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = self.inner.namespace.as_fd();
        let ended = thread::scope(|scope| {
            let entered = move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
                work()
            };
            scope.spawn(entered).join()
        });
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts `command` in this namespace, with nothing on its stdin.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[track_caller]
    pub fn spawn(&self, command: &mut Command) -> Child {
        // A child is born in the namespace of the thread that forks it.
        command.stdin(Stdio::null());
        let started = self.enter(|| command.spawn());
        started.unwrap_or_else(|error| panic!("{:?} does not start: {error}", command.get_program()))
    }

    /// Runs `command` in this namespace to its end.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[track_caller]
    pub fn output(&self, command: &mut Command) -> Done {
        let child = self.spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        Done::of(command, &child.wait_with_output().expect("read the output"))
    }

    /// Runs a command line, split at blanks, in this namespace to its end.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[track_caller]
    pub fn run(&self, line: &str) -> Done {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().expect("a command"));
        self.output(command.args(words))
    }

    /// Runs a command line that must succeed, and returns its stdout.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        self.run(line).text()
    }

    /// Runs a command line that must succeed and write JSON (`ip -j …`).
    ///
    /// # Panics
    /// When it fails, or writes something else.
    #[track_caller]
    #[must_use]
    pub fn json(&self, line: &str) -> Value {
        let text = self.ok(line);
        // iproute2 writes nothing at all for an empty list.
        if text.trim().is_empty() { Value::Array(vec![]) } else { serde_json::from_str(&text).expect(line) }
    }

    /// The addresses of `interface`; none when there is no such interface.
    #[must_use]
    pub fn addresses(&self, interface: &str) -> Vec<IpNet> {
        let links = self.json("ip -j address show");
        let link = links.as_array().into_iter().flatten().find(|link| link["ifname"] == interface);
        let addresses = link.and_then(|link| link["addr_info"].as_array()).into_iter().flatten();
        let parsed =
            addresses.filter_map(|entry| format!("{}/{}", entry["local"].as_str()?, entry["prefixlen"]).parse().ok());
        parsed.collect()
    }

    /// The MTU of `interface`.
    ///
    /// # Panics
    /// When there is no such interface.
    #[must_use]
    pub fn mtu(&self, interface: &str) -> usize {
        let link = self.json(&format!("ip -j link show {interface}"));
        usize::try_from(link[0]["mtu"].as_u64().expect("an MTU")).expect("fits")
    }

    /// The interface that a packet to `address` would leave by; none when there is no route.
    #[must_use]
    pub fn route_interface(&self, address: &str) -> Option<String> {
        let found = self.run(&format!("ip -j route get {address}"));
        let routes: Value = serde_json::from_str(&found.stdout).ok()?;
        routes[0]["dev"].as_str().map(str::to_owned)
    }

    /// Reads a sysctl of this namespace, such as `net/ipv4/ip_forward`.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn sysctl(&self, name: &str) -> String {
        self.sysctl_text(name).unwrap_or_else(|| panic!("no sysctl {name}"))
    }

    fn sysctl_text(&self, name: &str) -> Option<String> {
        // /proc/sys/net shows the namespace of the thread that looks.
        let text = self.enter(|| fs::read_to_string(Path::new("/proc/sys").join(name)));
        text.ok().map(|text| text.trim().to_owned())
    }

    /// Writes a sysctl of this namespace.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn set_sysctl(&self, name: &str, value: &str) {
        let written = self.enter(|| fs::write(Path::new("/proc/sys").join(name), value));
        written.unwrap_or_else(|error| panic!("sysctl {name}={value}: {error}"));
    }

    /// Makes the kernel cut every packet to size before it leaves by `interface`, so that a tap sees what a wire would.
    pub fn without_segment_offload(&self, interface: &str) {
        self.ok(&format!("ip link set {interface} gso_max_segs 1"));
    }

    pub(crate) fn next_interface(&self) -> String {
        format!("eth{}", self.inner.interfaces.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn bring_up(&self, interface: &str, addresses: &[&str]) {
        // No address detection and no solicitations: an address is usable at once, and a link is quiet.
        for (setting, value) in [("accept_dad", "0"), ("router_solicitations", "0")] {
            self.set_sysctl(&format!("net/ipv6/conf/{interface}/{setting}"), value);
        }
        self.ok(&format!("ip link set {interface} up"));
        for address in addresses {
            self.add_address(interface, address);
        }
    }

    /// Waits until the kernel has done what it does later when a link comes up: carrier, link-local address, local
    /// routes of IPv6 addresses. A picture of the host taken before would not equal one taken after.
    #[track_caller]
    pub(crate) fn wait_settled(&self, interface: &str) {
        wait_until(Duration::from_secs(5), &format!("{interface} of {} has settled", self.name()), || {
            let link = self.json(&format!("ip -j link show {interface}"));
            link[0]["operstate"] == "UP" && self.enter(|| ipv6_has_settled(interface))
        });
    }

    /// Adds `address` (`192.0.2.1/24`) to `interface`; usable at once.
    pub fn add_address(&self, interface: &str, address: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ok(&format!("ip address add {address} dev {interface}{nodad}"));
    }
}

/// Whether `interface` has a link-local address, and each of its addresses has a local route.
fn ipv6_has_settled(interface: &str) -> bool {
    let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    let (addresses, routes) = (read("if_inet6"), read("ipv6_route"));
    let of_interface = |line: &&str| line.split_whitespace().last() == Some(interface);
    let mine: Vec<&str> =
        addresses.lines().filter(of_interface).filter_map(|line| line.split_whitespace().next()).collect();
    let has_route = |address: &&str| routes.lines().filter(of_interface).any(|route| route.starts_with(*address));
    mine.iter().any(|address| address.starts_with("fe80")) && mine.iter().all(has_route)
}
