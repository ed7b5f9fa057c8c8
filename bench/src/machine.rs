//! What a figure is worth nothing without: the machine that it was measured on.

use std::fs;
use std::process::Command;

use serde::Serialize;

use crate::iperf;

/// Kernel, processor and limits.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) iperf3: String,
    /// What UDP sockets of iperf3 get, in bytes: the lesser of 4 MiB and the machine's limits.
    pub(crate) socket_buffer: u64,
    pub(crate) rmem_max: Option<u64>,
}

impl Machine {
    pub(crate) fn this() -> Self {
        Self {
            kernel: file("/proc/sys/kernel/osrelease"),
            cpu: cpu_model(&file("/proc/cpuinfo")),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            iperf3: first_line(Command::new("iperf3").arg("--version")),
            socket_buffer: iperf::socket_buffer(),
            rmem_max: file("/proc/sys/net/core/rmem_max").parse().ok(),
        }
    }
}

/// Now, in UTC, as a file name can hold it: `2026-11-21T06-03-04Z`.
pub(crate) fn date() -> String {
    first_line(Command::new("date").args(["-u", "+%Y-%m-%dT%H-%M-%SZ"]))
}

/// The first line that a command writes, to stdout or stderr.
pub(crate) fn first_line(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return "unknown".to_owned() };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or("unknown").trim().to_owned()
}

fn file(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn cpu_model(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name") || line.starts_with("CPU part"));
    line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, model)| model.trim()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: AMD EPYC 7543\n"), "AMD EPYC 7543");
        assert_eq!(cpu_model(""), "unknown");
    }
}
