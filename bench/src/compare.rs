//! The comparison: every chosen peer once per round, round after round, in namespaces of their own.

use std::any::Any;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use netns_tests::sandbox::{self, Way};
use netns_tests::{Lab, binary};
use nix::unistd::geteuid;

use crate::arguments::Arguments;
use crate::machine::{self, Machine};
use crate::measure::{Guesses, measure};
use crate::peers::Peer;
use crate::record::{PeerRecord, Record, Setting};
use crate::{Outcome, plot, table, tools};

/// The format of the JSON record.
const FORMAT: u32 = 1;

/// Tells the inside whether it is in a user namespace.
const ROOT: &str = "MESHD_BENCH_ROOT";

/// Runs this program again in fresh namespaces.
pub(crate) fn outside(arguments: &Arguments) -> Outcome<ExitCode> {
    for program in ["iperf3", "ping", "ip", "ethtool", "timeout"] {
        tools::need(program).map_err(|error| format!("{error}; on Debian: {}", helpers()))?;
    }
    let way = way(arguments.root)?;
    let mut command = way.command(env::current_exe()?.as_os_str());
    command.args(env::args_os().skip(1)).stdin(Stdio::piped());
    if let Ok(meshd) = binary::find() {
        command.env("MESHD_BIN", meshd.canonicalize()?);
    }
    if way == Way::Root {
        command.env(ROOT, "1");
    }
    let mut child = command.spawn()?;
    // The one inside ends when this pipe does, so it cannot outlive us.
    let pipe = child.stdin.take();
    let status = child.wait()?;
    drop(pipe);
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn helpers() -> &'static str {
    "apt-get install iperf3 iputils-ping iproute2 ethtool"
}

fn way(root: bool) -> Outcome<Way> {
    match (root, geteuid().is_root()) {
        (false, _) => Ok(sandbox::way()?),
        (true, true) => Ok(Way::Root),
        (true, false) => Err("--root needs root; without it, a user namespace will do".into()),
    }
}

/// Measures, prints and keeps the results.
pub(crate) fn inside(arguments: &Arguments) -> Outcome {
    sandbox::end_with_stdin();
    sandbox::prepare();
    // A harness that cannot go on panics; here that is one peer's failure, told in the table.
    panic::set_hook(Box::new(|_| {}));
    let lab = Lab::new();
    let mut record = begin(arguments)?;
    let mut guesses = Guesses::new();
    for number in 0..arguments.rounds {
        for (peer, entry) in arguments.chosen()?.into_iter().zip(&mut record.peers) {
            if entry.missing.is_none() {
                take(&lab, peer, arguments, number, &mut guesses, entry);
            }
        }
    }
    record.peers.iter_mut().for_each(PeerRecord::summarise);
    println!("\n{}", table::markdown(&record));
    write(&record, &arguments.out)
}

/// What every figure of this run will depend on.
pub(crate) fn setting(arguments: &Arguments) -> Setting {
    Setting {
        date: machine::date(),
        machine: Machine::this(),
        congestion_control: arguments.congestion.clone(),
        wire: arguments.wire,
        rounds: arguments.rounds,
        tcp_seconds: arguments.secs,
        user_namespace: env::var_os(ROOT).is_none(),
    }
}

fn begin(arguments: &Arguments) -> Outcome<Record> {
    let peers = arguments.chosen()?.into_iter().map(|peer| entry(peer, arguments)).collect();
    Ok(Record { format: FORMAT, setting: setting(arguments), peers })
}

fn entry(peer: &'static Peer, arguments: &Arguments) -> PeerRecord {
    let absent: Vec<&str> = peer.programs.iter().copied().filter(|program| tools::find(program).is_none()).collect();
    let missing = (!absent.is_empty()).then(|| format!("{} not found; {}", absent.join(", "), peer.install.hint()));
    PeerRecord {
        name: peer.name,
        about: peer.about,
        is_limit: peer.is_limit,
        version: if missing.is_none() { version(peer) } else { String::new() },
        mtu: arguments.mtu.unwrap_or(peer.mtu),
        missing,
        failures: Vec::new(),
        rounds: Vec::new(),
        medians: BTreeMap::new(),
    }
}

fn version(peer: &Peer) -> String {
    match (peer.programs.first().and_then(|program| tools::find(program)), peer.version) {
        (Some(program), Some(option)) => machine::first_line(Command::new(program).arg(option)),
        (_, _) => String::new(),
    }
}

fn take(
    lab: &Lab,
    peer: &'static Peer,
    arguments: &Arguments,
    number: u32,
    guesses: &mut Guesses,
    entry: &mut PeerRecord,
) {
    match caught(|| measure(lab, peer, arguments, number, guesses)) {
        Ok(round) => {
            println!("{}", table::progress(peer.name, &round));
            entry.failures.extend(round.errors.iter().map(|error| format!("round {number}: {error}")));
            entry.rounds.push(round);
        }
        Err(error) => {
            println!("round {number}  {}  failed: {error}", peer.name);
            entry.failures.push(format!("round {number}: {error}"));
        }
    }
}

/// What `work` comes to; a panic of the harness is an error like any other.
pub(crate) fn caught<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|payload| Err(panic_text(payload.as_ref()).into()))
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_else(|| "it panicked".into())
}

fn write(record: &Record, folder: &Path) -> Outcome {
    fs::create_dir_all(folder)?;
    let stem = folder.join(&record.setting.date);
    let (json, svg) = (stem.with_extension("json"), stem.with_extension("svg"));
    fs::write(&json, serde_json::to_string_pretty(record)? + "\n")?;
    fs::write(&svg, plot::svg(record))?;
    println!("Kept in {} and {}", json.display(), svg.display());
    Ok(())
}
