//! Metrics of the process, its threads, its interface and its sockets, as the kernel has them (proc(5)).

use std::fmt::Result;
use std::fs;

use super::families::Families;
use super::sample::Sample;

/// Ticks a second in which the kernel tells CPU time (`USER_HZ`): 100 on every architecture that meshd runs on.
const TICKS: f64 = 100.0;

/// How the threads that move packets are called, before their numbers.
const WORKER: &str = "meshd-data-";

/// What the kernel tells. What it does not is absent.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// Seconds.
    cpu: Option<f64>,
    /// Seconds since 1970.
    started: Option<f64>,
    resident: Option<u64>,
    threads: Option<u64>,
    open_fds: Option<usize>,
    max_fds: Option<u64>,
    /// The number of each worker and its CPU seconds.
    workers: Vec<(String, f64)>,
    interface: Option<Interface>,
    sockets: Sockets,
}

/// Counters of the TUN interface: receive is what came out of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interface {
    receive: Troubles,
    transmit: Troubles,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Troubles {
    errors: u64,
    drops: u64,
    overruns: u64,
}

/// The UDP sockets of the node's port, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sockets {
    receive_queue: u64,
    transmit_queue: u64,
    drops: u64,
}

impl Process {
    /// Looks at this process, the interface of this name, and the sockets of this UDP port.
    pub(super) fn read(interface: &str, port: u16) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (stat, status) = (text("/proc/self/stat"), text("/proc/self/status"));
        let boot = value_of(&text("/proc/stat"), "btime ");
        let begun = Thread::parse(&stat).map(|thread| thread.started);
        Self {
            cpu: Thread::parse(&stat).map(|thread| thread.cpu),
            started: boot.zip(begun).map(|(boot, begun)| boot as f64 + begun),
            resident: value_of(&status, "VmRSS:").map(|kilobytes| kilobytes * 1024),
            threads: value_of(&status, "Threads:"),
            // One of them is the folder's.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|all| all.count().saturating_sub(1)),
            max_fds: value_of(&text("/proc/self/limits"), "Max open files"),
            workers: workers(),
            interface: Interface::parse(&text("/proc/self/net/dev"), interface),
            sockets: Sockets::parse(&[text("/proc/self/net/udp"), text("/proc/self/net/udp6")].concat(), port),
        }
    }
}

/// Writes them.
pub(super) fn encode(families: &mut Families<'_>, sample: &Sample, process: &Process) -> Result {
    families.counter::<0, _>("process_cpu_seconds", "CPU time of the process", process.cpu.map(|cpu| ([], cpu)))?;
    let workers = process.workers.iter().map(|(worker, cpu)| ([("worker", worker.as_str())], *cpu));
    families.counter("meshd_worker_cpu_seconds", "CPU time of each thread that moves packets", workers)?;
    let started = process.started.map(|at| ([], at));
    families.gauge::<0, _>("process_start_time_seconds", "When the process started, in seconds since 1970", started)?;
    let mut number =
        |name: &str, help: &str, value: Option<u64>| families.gauge::<0, _>(name, help, value.map(|value| ([], value)));
    number("process_resident_memory_bytes", "Memory in use", process.resident)?;
    number("process_threads", "Threads", process.threads)?;
    number("process_open_fds", "Open descriptors", process.open_fds.map(|count| count as u64))?;
    number("process_max_fds", "Descriptors that may be open", process.max_fds)?;
    interface(families, sample, process)?;
    families.number("meshd_udp_receive_queue_bytes", "What waits to be read", process.sockets.receive_queue)?;
    families.number("meshd_udp_transmit_queue_bytes", "What waits to be sent", process.sockets.transmit_queue)?;
    families.count("meshd_udp_receive_drops", "Datagrams that found the sockets full", process.sockets.drops)
}

fn interface(families: &mut Families<'_>, sample: &Sample, process: &Process) -> Result {
    let name = [("interface", sample.interface.as_str())];
    let mut family = |family: &str, help: &str, count: fn(&Interface) -> u64| {
        families.counter(family, help, process.interface.as_ref().map(|interface| (name, count(interface))))
    };
    family("meshd_interface_receive_errors", "Packets out of the mesh that were bad", |all| all.receive.errors)?;
    family("meshd_interface_receive_drops", "Packets out of the mesh that the kernel dropped", |all| {
        all.receive.drops
    })?;
    family("meshd_interface_receive_overruns", "Packets out of the mesh that overran", |all| all.receive.overruns)?;
    family("meshd_interface_transmit_errors", "Packets into the mesh that were bad", |all| all.transmit.errors)?;
    family("meshd_interface_transmit_drops", "Packets into the mesh that found the queue full", |all| {
        all.transmit.drops
    })?;
    family("meshd_interface_transmit_overruns", "Packets into the mesh that overran", |all| all.transmit.overruns)
}

/// What `/proc/…/stat` tells of a thread, in seconds.
struct Thread {
    name: String,
    cpu: f64,
    /// Since the machine started.
    started: f64,
}

impl Thread {
    fn parse(stat: &str) -> Option<Self> {
        // The name may hold anything, closing brackets too.
        let (head, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
        Some(Self {
            name: head.split_once('(')?.1.to_owned(),
            cpu: (ticks(11)? + ticks(12)?) / TICKS,
            started: ticks(19)? / TICKS,
        })
    }
}

fn workers() -> Vec<(String, f64)> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    let threads = stats.filter_map(|stat| Thread::parse(&stat));
    let mut workers: Vec<_> =
        threads.filter_map(|thread| Some((thread.name.strip_prefix(WORKER)?.to_owned(), thread.cpu))).collect();
    workers.sort_by_key(|(number, _)| number.parse::<u8>().ok());
    workers
}

/// The first number behind a word at the begin of a line.
fn value_of(text: &str, word: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(word))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

impl Interface {
    /// Reads the line of an interface in `/proc/net/dev`.
    fn parse(text: &str, name: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
        let counts: Vec<u64> = line.split_ascii_whitespace().map_while(|count| count.parse().ok()).collect();
        let troubles = |from: usize| {
            let part = counts.get(from..from + 5)?;
            let &[_, _, errors, drops, overruns] = part else { return None };
            Some(Troubles { errors, drops, overruns })
        };
        Some(Self { receive: troubles(0)?, transmit: troubles(8)? })
    }
}

impl Sockets {
    /// Reads the lines of the sockets that are bound to a port in `/proc/net/udp` and `udp6`.
    fn parse(text: &str, port: u16) -> Self {
        let port = format!(":{port:04X}");
        let mut sum = Self::default();
        for line in text.lines() {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            if !fields.get(1).is_some_and(|local| local.ends_with(&port)) {
                continue;
            }
            let hexadecimal = |text: &str| u64::from_str_radix(text, 16).unwrap_or_default();
            if let Some((transmit, receive)) = fields.get(4).and_then(|queues| queues.split_once(':')) {
                sum.transmit_queue += hexadecimal(transmit);
                sum.receive_queue += hexadecimal(receive);
            }
            sum.drops += fields.last().and_then(|drops| drops.parse::<u64>().ok()).unwrap_or_default();
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_asks_is_seen() {
        let process = Process::read("lo", 0);
        assert!(process.resident.is_some_and(|bytes| bytes > 1 << 20) && process.open_fds.is_some_and(|fds| fds > 0));
        assert!(process.cpu.is_some() && process.threads.is_some() && process.interface.is_some());
        assert!(process.max_fds >= process.open_fds.map(|fds| fds as u64));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(process.started.is_some_and(|at| at <= now + 2.0 && at > now - 86_400.0), "{:?}", process.started);
    }

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_what_follows() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 1200 0";
        let thread = Thread::parse(stat).unwrap();
        assert_eq!((thread.name.as_str(), thread.cpu, thread.started), ("a) b", 3.0, 12.0));
    }

    #[test]
    fn only_the_interface_of_the_name_is_read() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo\n \
                    mesh01: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n  mesh0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let troubles = |errors, drops, overruns| Troubles { errors, drops, overruns };
        let expected = Interface { receive: troubles(3, 4, 5), transmit: troubles(11, 12, 13) };
        assert_eq!(Interface::parse(text, "mesh0"), Some(expected));
        assert_eq!(Interface::parse(text, "mesh"), None);
    }

    #[test]
    fn the_sockets_of_the_port_are_added_up() {
        let line = |port: &str, drops: u32| {
            format!(
                "  1: 00000000:{port} 00000000:0000 07 00000010:00000020 00:00000000 00000000 0 0 123 2 0000 {drops}\n"
            )
        };
        let text = [line("18E6", 3), line("18E6", 4), line("0035", 100)].concat();
        let sum = Sockets { transmit_queue: 0x20, receive_queue: 0x40, drops: 7 };
        assert_eq!(Sockets::parse(&text, 6374), sum);
    }
}
