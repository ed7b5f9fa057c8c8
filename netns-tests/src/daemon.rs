//! One running `meshd up`.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::binary;
use crate::host::{Done, Host};
use crate::status::Status;
use crate::wait::{wait_for, wait_until};

/// From its start until it must answer `meshd status`.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// From SIGTERM until it must have undone everything and exited.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// How much of a log is shown when a test fails.
const LOG_TAIL: usize = 60;

/// A `meshd up` in a host. Dropping it kills it; a failing test prints the end of its log.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    host: Host,
    socket: PathBuf,
    log: PathBuf,
    child: Child,
    started: Instant,
}

impl Daemon {
    /// Starts `meshd up` with the configuration in `folder` (`meshd.toml`; the socket there is `meshd.sock`).
    ///
    /// # Panics
    /// When the binary is missing.
    #[must_use]
    pub fn spawn(name: &str, host: &Host, folder: &Path) -> Self {
        Self::spawn_with(name, host, folder, &[])
    }

    /// The same with more in its environment.
    ///
    /// # Panics
    /// When the binary is missing.
    #[must_use]
    pub fn spawn_with(name: &str, host: &Host, folder: &Path, environment: &[(&str, &str)]) -> Self {
        let log = folder.join("log");
        let sink = OpenOptions::new().create(true).append(true).open(&log).expect("open the log");
        let mut command = Command::new(binary::meshd());
        command.args(["up", "--config"]).arg(folder.join("meshd.toml"));
        command.envs(environment.iter().copied());
        command.stdout(sink.try_clone().expect("a second handle")).stderr(sink);
        let started = Instant::now();
        let child = host.spawn(&mut command);
        Self { name: name.to_owned(), host: host.clone(), socket: folder.join("meshd.sock"), log, child, started }
    }

    /// Waits until it answers `meshd status`.
    ///
    /// # Panics
    /// When it exits, or does not answer in time.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let what = format!("{} answers `meshd status`", self.name);
        wait_until(READY_LIMIT, &what, || {
            let exited = self.child.try_wait().expect("wait for meshd");
            assert!(exited.is_none(), "{} came to its end at its start: {exited:?}\n{}", self.name, self.log());
            self.meshd(&["status", "--json"]).is_ok()
        });
    }

    /// The endpoint's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host that it runs in.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// When it was started.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// Everything that it wrote to stderr.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Runs a command of the same binary against this daemon (`["ping", "beijing.edge2"]`).
    #[must_use]
    pub fn meshd(&self, arguments: &[&str]) -> Done {
        let mut command = Command::new(binary::meshd());
        self.host.output(command.args(arguments).env("MESHD_SOCKET", &self.socket))
    }

    /// What it says of itself.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    #[must_use]
    pub fn status(&self) -> Status {
        Status::parse(&self.meshd(&["status", "--json"]).text())
    }

    /// The first of its mesh addresses of the family.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn address(&self, family: Family) -> String {
        let found = self.status().addresses().into_iter().find(|address| address.is_ipv6() == (family == Family::V6));
        found.unwrap_or_else(|| panic!("{} has no {family:?} address", self.name)).to_string()
    }

    /// Waits until it has a session with `peer`.
    ///
    /// # Panics
    /// When there is none within 5 s.
    #[track_caller]
    pub fn wait_connected(&self, peer: &str) {
        wait_until(Duration::from_secs(5), &format!("{} is connected to {peer}", self.name), || {
            self.status().find(peer).is_some_and(|peer| peer.state() == "connected")
        });
    }

    /// Ends it with SIGTERM and waits for its end.
    ///
    /// # Panics
    /// When it does not exit with 0 within 5 s.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.wait_end(STOP_LIMIT);
        assert!(status.success(), "{}: `meshd up` ended with {status} on SIGTERM", self.name);
    }

    /// Ends it with SIGKILL: it can undo nothing.
    #[track_caller]
    pub fn kill9(mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_end(STOP_LIMIT);
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a PID fits"));
        kill(pid, signal).expect("signal meshd");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not come within `limit`.
    #[track_caller]
    pub fn wait_end(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} comes to its end", self.name);
        wait_for(limit, &what, || self.child.try_wait().expect("wait for meshd"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already dead after stop() and kill9(); both calls are harmless then.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(LOG_TAIL)..).unwrap_or_default();
            eprintln!("--- the end of the log of {} ---\n{}", self.name, tail.join("\n"));
        }
    }
}

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}
