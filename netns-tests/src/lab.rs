//! A test body in namespaces of its own, and the network that it builds there.

use std::any::type_name;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::figure;
use crate::host::Host;
use crate::sandbox;
use crate::service;

/// How long a lab may take when its test names no limit of its own.
const LIMIT: Duration = Duration::from_secs(120);

/// The last line of a lab that came to its end: libtest exits 0 too when no test has the name.
const FINISHED: &str = "lab: the body came to its end";

/// Runs `body` in namespaces of its own, within two minutes; see [`in_lab_for`].
///
/// # Panics
/// When the body panics, or takes too long, or namespaces cannot be made.
#[track_caller]
pub fn in_lab<F: FnOnce(&Lab)>(body: F) {
    in_lab_for(LIMIT, body);
}

/// Runs `body` in a process and namespaces of its own, within `limit`.
///
/// It must be called with a closure written in the `#[test]` function itself: the test binary runs itself again with
/// that function's name, taken from the closure's type. Code after the call runs both inside and outside.
///
/// # Panics
/// When the body panics, or takes longer than `limit`, or namespaces cannot be made.
#[track_caller]
pub fn in_lab_for<F: FnOnce(&Lab)>(limit: Duration, body: F) {
    run(limit, body, |program| Ok(sandbox::way()?.command(program)));
}

/// Runs `body` as [`in_lab_for`] does, in a lab whose daemons run as the package's unit runs them: see [`service`].
///
/// # Panics
/// As [`in_lab_for`].
#[track_caller]
pub fn in_service_lab<F: FnOnce(&Lab)>(limit: Duration, body: F) {
    run(limit, body, |program| Ok(service::command(sandbox::way_for_users()?, program)));
}

#[track_caller]
fn run<F: FnOnce(&Lab)>(limit: Duration, body: F, command: fn(&OsStr) -> Result<Command, String>) {
    if sandbox::is_inside() {
        sandbox::prepare();
        sandbox::end_with_stdin();
        body(&Lab::new());
        println!("{FINISHED}");
    } else {
        run_again(test_name(type_name::<F>()), limit, command);
    }
}

/// `crate::module::test::{{closure}}` without crate and closure: what libtest calls the test.
fn test_name(closure: &str) -> &str {
    let path = closure.split("::{{closure}}").next().unwrap_or(closure);
    path.split_once("::").map_or(path, |(_, name)| name)
}

#[track_caller]
fn run_again(name: &str, limit: Duration, command: fn(&OsStr) -> Result<Command, String>) {
    let program = std::env::current_exe().expect("the test binary knows its path");
    // A file, not a pipe: nobody has to read it while the lab runs. It has no name, so it is gone when we are.
    let mut output = tempfile::tempfile().expect("a file for the lab's output");
    let mut child = command(program.as_os_str())
        .unwrap_or_else(|reason| panic!("{reason}"))
        .args(["--exact", name, "--include-ignored", "--nocapture", "--test-threads", "1"])
        .stdin(Stdio::piped())
        .stdout(output.try_clone().expect("a second handle"))
        .stderr(output.try_clone().expect("a third handle"))
        .spawn()
        .expect("unshare starts");
    let ended = wait_or_kill(&mut child, limit);
    let mut text = String::new();
    output.rewind().and_then(|()| output.read_to_string(&mut text)).expect("read the lab's output");
    figure::pass_on(&text);
    let Some(status) = ended else { panic!("{name}: over its limit of {limit:?} and killed; its output:\n{text}") };
    let finished = text.lines().any(|line| line.ends_with(FINISHED));
    assert!(status.success() && finished, "{name}: failed in its lab ({status}); its output:\n{text}");
}

fn wait_or_kill(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        let late = Instant::now() >= deadline;
        if let Some(status) = child.try_wait().expect("wait for the lab") {
            return Some(status);
        }
        if late {
            // unshare dies, its PID 1 with it (--kill-child), and every process of the lab with that.
            child.kill().and_then(|()| child.wait()).expect("kill the lab");
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A private network: hosts, switches and routers, and a directory that vanishes with it.
#[derive(Debug)]
pub struct Lab {
    directory: PathBuf,
    cables: AtomicUsize,
}

/// A network segment: a bridge in a namespace of its own.
#[derive(Clone, Debug)]
pub struct Switch {
    /// The namespace; a [`Tap`](crate::Tap) on its `br0` sees every frame that is flooded, on a port all of that port.
    pub host: Host,
}

impl Lab {
    /// A lab in the namespaces of this process.
    ///
    /// # Panics
    /// When this process is not inside namespaces that [`sandbox`] made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a lab exists only inside a sandbox; nothing makes one in passing")]
    pub fn new() -> Self {
        assert!(sandbox::is_inside(), "a lab is built only inside namespaces of its own");
        let directory = PathBuf::from("/run/lab");
        fs::create_dir(&directory).expect("make the lab's directory");
        Self { directory, cables: AtomicUsize::new(0) }
    }

    /// Where the lab's files are: on a tmpfs of its own, gone with the lab.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Removes every host, switch and router, and the lab's files, so that others may have their names; what runs in them should have
    /// ended.
    ///
    /// # Panics
    /// When something cannot be removed.
    pub fn clear(&self) {
        let list = Command::new("ip").args(["-j", "netns", "list"]).output().expect("list namespaces");
        let names: Value = serde_json::from_slice(&list.stdout).unwrap_or_default();
        for name in names.as_array().into_iter().flatten().filter_map(|entry| entry["name"].as_str()) {
            let removed = Command::new("ip").args(["netns", "del", name]).status().expect("remove a namespace");
            assert!(removed.success(), "{name} stays");
        }
        fs::remove_dir_all(&self.directory)
            .and_then(|()| fs::create_dir(&self.directory))
            .expect("empty the lab's directory");
    }

    /// A new host without a link. It does not forward.
    #[must_use]
    pub fn host(&self, name: &str) -> Host {
        Host::new(name)
    }

    /// A new host that forwards IPv4 and IPv6.
    #[must_use]
    pub fn router(&self, name: &str) -> Host {
        let host = Host::new(name);
        host.set_sysctl("net/ipv4/ip_forward", "1");
        host.set_sysctl("net/ipv6/conf/all/forwarding", "1");
        host
    }

    /// A new switch without a port.
    #[must_use]
    pub fn switch(&self, name: &str) -> Switch {
        let host = Host::new(name);
        host.ok("ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0");
        host.ok("ip link set br0 addrgenmode none");
        host.ok("ip link set br0 up");
        Switch { host }
    }

    /// Connects `host` to `switch` with a new interface that has `addresses` (`192.0.2.1/24`); returns its name.
    pub fn plug(&self, host: &Host, switch: &Switch, addresses: &[&str]) -> String {
        let port = format!("port{}", self.cables.fetch_add(1, Ordering::Relaxed));
        let interface = host.next_interface();
        host.ok(&format!("ip link add {interface} type veth peer name {port} netns {}", switch.host.name()));
        switch.host.ok(&format!("ip link set {port} addrgenmode none"));
        switch.host.ok(&format!("ip link set {port} master br0 up"));
        host.bring_up(&interface, addresses);
        host.wait_settled(&interface);
        interface
    }

    /// Connects two hosts directly; returns the names of the interface at `a` and at `b`.
    pub fn cable(&self, a: &Host, at_a: &[&str], b: &Host, at_b: &[&str]) -> (String, String) {
        let (here, there) = (a.next_interface(), b.next_interface());
        a.ok(&format!("ip link add {here} type veth peer name {there} netns {}", b.name()));
        a.bring_up(&here, at_a);
        b.bring_up(&there, at_b);
        a.wait_settled(&here);
        b.wait_settled(&there);
        (here, there)
    }
}
