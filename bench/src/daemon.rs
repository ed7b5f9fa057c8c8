//! A daemon under measurement: its process group, and what it has cost.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use netns_tests::process::{cpu_ticks, resident_kib};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::Outcome;
use crate::testbed::Side;

/// From SIGTERM to SIGKILL.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// How many characters of a log explain a failure.
const LOG_TAIL: usize = 400;

/// A daemon and every process that it started. Dropping it ends them all.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` in the side's namespace, as the head of a process group.
    pub(crate) fn start(side: &Side, mut command: Command) -> Outcome<Self> {
        let log = side.file(&format!("{}.log", side.name));
        let sink = File::create(&log)?;
        command.current_dir(&side.folder).process_group(0).stdout(sink.try_clone()?).stderr(sink);
        Ok(Self { child: side.host.spawn(&mut command), log })
    }

    /// User and system time of all its processes, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.pids().into_iter().map(cpu_seconds).sum()
    }

    /// Resident memory of all its processes, in MiB.
    pub(crate) fn resident_mib(&self) -> f64 {
        let kib: u64 = self.pids().into_iter().map(resident_kib).sum();
        #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
        let mib = kib as f64 / 1024.0;
        mib
    }

    /// Fails, with the end of its log, when it has come to its end.
    pub(crate) fn check(&mut self) -> Outcome {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("the daemon ended with {status}: {}", self.log_tail()).into()),
        }
    }

    /// The end of what it wrote.
    pub(crate) fn log_tail(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).trim().replace('\n', " / ");
        let skipped = text.chars().count().saturating_sub(LOG_TAIL);
        text.chars().skip(skipped).collect()
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or_default())
    }

    fn pids(&self) -> Vec<u32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| group_of(*pid) == Some(self.child.id())).collect()
    }
}

/// User and system time of a process, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
    let seconds = cpu_ticks(pid) as f64 / per_second as f64;
    seconds
}

/// The process group of a living process: field 5 of its `stat` (proc(5)), after the name, which may hold blanks.
fn group_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_alive = fields.next()? != "Z";
    fields.nth(1)?.parse().ok().filter(|_| is_alive)
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let started = Instant::now();
        // Each fails harmlessly for a group that is gone.
        let _ = killpg(self.group(), Signal::SIGTERM);
        while !self.pids().is_empty() && started.elapsed() < STOP_LIMIT {
            let _ = self.child.try_wait();
            thread::sleep(Duration::from_millis(10));
        }
        let _ = killpg(self.group(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
