//! How flat meshd is in scale: TCP between two daemons alone, in a large mesh with many sessions, and in storms of handshakes.

pub(crate) mod crowd;
mod record;
mod table;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::panic;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use netns_tests::{Host, Lab, sandbox};
use proto::id::PublicKey;
use proto::member::DEFAULT_PORT;
use serde_json::Value;

use crate::arguments::Arguments;
use crate::daemon::{Daemon, cpu_seconds};
use crate::iperf::{Server, TcpRun};
use crate::measure::{SETTLE, Tunnel, launch, tcp_run};
use crate::peers::meshd::{self, MESHD, Others};
use crate::testbed::{Side, Testbed};
use crate::{Outcome, compare};
use crowd::{Plan, Role};
use record::{CaseRecord, ScaleRecord, ScaleRound};

/// The format of the JSON record.
const FORMAT: u32 = 1;

/// The mesh of both sides and the crowd.
const MESH: &str = "bench";

/// Where the crowd is linked to the daemon that it troubles.
const CROWD_LINK: [&str; 2] = ["192.168.78.1", "192.168.78.2"];

/// Something to compare with two daemons that have only each other.
pub(crate) struct Case {
    name: &'static str,
    about: &'static str,
    /// Peers that the mesh file has besides the two sides.
    others: u32,
    role: Option<Role>,
    /// Whether the crowd troubles the side that sends, instead of the one that receives.
    is_at_sender: bool,
}

fn cases(arguments: &Arguments) -> Vec<Case> {
    let Arguments { configured, live, storm, .. } = *arguments;
    let case = |name, about, others, role| Case { name, about, others, role, is_at_sender: false };
    let sessions = Some(Role::Sessions);
    vec![
        case("one", "one peer", 0, None),
        case("large", "a large mesh, its sessions at the receiver", configured, sessions),
        Case {
            is_at_sender: true,
            ..case("large-sender", "a large mesh, its sessions at the sender", configured, sessions)
        },
        case("storm", "initiations by members at the receiver", live, Some(Role::Members(storm))),
        case("forged", "forged initiations at the receiver", live, Some(Role::Forgeries(storm))),
    ]
}

/// Measures, prints and keeps the results.
pub(crate) fn inside(arguments: &Arguments) -> Outcome {
    sandbox::end_with_stdin();
    sandbox::prepare();
    // A harness that cannot go on panics; here that is one case's failure, told in the table.
    panic::set_hook(Box::new(|_| {}));
    let lab = Lab::new();
    let arguments = Arguments { live: arguments.live.min(arguments.configured), ..arguments.clone() };
    let cases = cases(&arguments);
    let mut record = begin(&arguments, &cases);
    for number in 0..arguments.rounds {
        for (case, entry) in cases.iter().zip(&mut record.cases) {
            match compare::caught(|| measure(&lab, case, &arguments, number)) {
                Ok(round) => {
                    println!("{}", table::progress(case.name, &round));
                    entry.rounds.push(round);
                }
                Err(error) => {
                    println!("round {number}  {}  failed: {error}", case.name);
                    entry.failures.push(format!("round {number}: {error}"));
                }
            }
        }
    }
    record.summarise();
    println!("\n{}", table::markdown(&record));
    write(&record, &arguments.out)
}

fn begin(arguments: &Arguments, cases: &[Case]) -> ScaleRecord {
    let entry = |case: &Case| CaseRecord::new(case.name, case.about, case.others);
    ScaleRecord {
        format: FORMAT,
        kind: "scale",
        setting: compare::setting(arguments),
        configured: arguments.configured,
        live: arguments.live,
        storm_per_second: arguments.storm,
        cases: cases.iter().map(entry).collect(),
        bytes_per_configured_peer: None,
        bytes_per_live_session: None,
    }
}

fn write(record: &ScaleRecord, folder: &Path) -> Outcome {
    fs::create_dir_all(folder)?;
    let file = folder.join(format!("{}-scale.json", record.setting.date));
    fs::write(&file, serde_json::to_string_pretty(record)? + "\n")?;
    println!("Kept in {}", file.display());
    Ok(())
}

fn measure(lab: &Lab, case: &Case, arguments: &Arguments, number: u32) -> Outcome<ScaleRound> {
    let testbed = Testbed::new(lab, &MESHD, arguments.mtu.unwrap_or(MESHD.mtu), arguments.wire)?;
    meshd::write_files(&testbed.sides(), "", &others(case.others, arguments.live)?)?;
    let mut tunnel = launch(&MESHD, &testbed)?;
    let _server = Server::start(&testbed.b, tunnel.address);
    thread::sleep(SETTLE);
    let (side, index) = if case.is_at_sender { (&testbed.a, 0) } else { (&testbed.b, 1) };
    let resident = |tunnel: &Tunnel<'_>| tunnel.daemons.get(index).map(Daemon::resident_mib);
    let mut round = ScaleRound { number, resident_idle_mib: resident(&tunnel), ..ScaleRound::default() };
    let crowd = case.role.map(|role| Crowd::gather(lab, side, role, arguments.live)).transpose()?;
    round.resident_crowd_mib = resident(&tunnel);
    let (before, dropped_before) = (crowd.as_ref().map(Crowd::cpu_seconds), dropped(&meshd::status(side)?));
    let started = Instant::now();
    let run = TcpRun { streams: 1, reverse: false, seconds: arguments.secs, congestion: &arguments.congestion };
    round.tcp = Some(tcp_run(&tunnel, run)?);
    let spent = crowd.as_ref().map(Crowd::cpu_seconds).zip(before).map(|(after, before)| after - before);
    let (elapsed, status) = (started.elapsed().as_secs_f64(), meshd::status(side)?);
    round.crowd_cores = spent.map(|seconds| seconds / elapsed);
    round.dropped_per_second = Some((dropped(&status) - dropped_before) / elapsed);
    // One of them is the other side.
    round.sessions = Some(connected(&status).saturating_sub(1));
    round.first_ping_ms = Some(tunnel.first_ping_ms);
    tunnel.daemons.iter_mut().try_for_each(Daemon::check)?;
    Ok(round)
}

/// How many peers it has sessions with.
fn connected(status: &Value) -> usize {
    let peers = status["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
    peers.iter().filter(|peer| peer["state"] == "connected").count()
}

/// Initiations that it has turned away: with a cookie, or because its core was behind.
fn dropped(status: &Value) -> f64 {
    let count = |reason: &str| status["drops"][reason].as_f64().unwrap_or_default();
    count("handshake_rate_limited") + count("punt_full")
}

/// `count` endpoints, of which the first `live` have keys that the crowd knows.
fn others(count: u32, live: u32) -> Outcome<Others> {
    let mut others = Others::default();
    for number in 0..count {
        let key = if number < live {
            crowd::secret(number).public_key()
        } else {
            PublicKey(*crowd::secret(number).as_bytes())
        };
        let name = format!("crowd.n{number}");
        let [_, a, b, c] = number.to_be_bytes();
        writeln!(
            others.endpoints,
            "\n[[endpoint]]\nname = {name:?}\npublic_key = \"{key}\"\naddress = \"10.{}.{b}.{c}\"",
            78 + u16::from(a)
        )?;
        others.names.push(name);
    }
    Ok(others)
}

/// A running crowd and the host that it is in.
struct Crowd {
    child: Child,
    host: Host,
}

impl Crowd {
    /// Starts a crowd on a link to `side`, and waits until it is ready.
    fn gather(lab: &Lab, side: &Side, role: Role, members: u32) -> Outcome<Self> {
        let [theirs, ours] = CROWD_LINK;
        let host = lab.host(&format!("crowd-{}", side.host.name()));
        lab.cable(&side.host, &[&format!("{theirs}/24")], &host, &[&format!("{ours}/24")]);
        let daemon = SocketAddr::new(theirs.parse()?, DEFAULT_PORT);
        let plan = Plan { mesh: MESH.to_owned(), daemon, key: meshd::public_key(side)?, members, role };
        let file = side.file("crowd.json");
        fs::write(&file, serde_json::to_vec(&plan)?)?;
        let mut command = Command::new(env::current_exe()?);
        command.arg("crowd").arg("--plan").arg(file).stdout(Stdio::piped());
        let mut crowd = Self { child: host.spawn(&mut command), host };
        let mut line = String::new();
        let stdout = crowd.child.stdout.take().ok_or("the crowd has no stdout")?;
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim() == crowd::READY { Ok(crowd) } else { Err("the crowd did not come together".into()) }
    }

    fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.child.id())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = Command::new("ip").args(["netns", "del", self.host.name()]).status();
    }
}
