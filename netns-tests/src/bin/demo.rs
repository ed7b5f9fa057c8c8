//! The main job of meshd, run for real without root: a connector, three members of a community and an outsider, each in
//! a network namespace of its own. `make demo` runs it; with `KEEP=1` it stays open with a shell.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a demo that cannot go on says why and ends")]

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use netns_tests::site::{CONNECTOR, edge};
use netns_tests::{Daemon, Family, Lab, Site, binary, sandbox, wait_for, wait_until};

/// How long the TCP transfer runs, in seconds.
const TRANSFER_SECONDS: u32 = 3;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let outcome = if sandbox::is_inside() { inside().map(|()| true) } else { outside().map(|status| status.success()) };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        // The one inside has said why.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether to stay open: `KEEP=1`.
fn keeps() -> bool {
    env::var("KEEP").is_ok_and(|value| !value.is_empty() && value != "0")
}

/// The terminal to stay open at; without one the shell reads this program's stdin.
fn terminal() -> Option<File> {
    File::options().read(true).write(true).open("/dev/tty").ok()
}

fn outside() -> Outcome<ExitStatus> {
    let (way, meshd) = (sandbox::way()?, binary::find()?);
    let mut command = way.command(env::current_exe()?.as_os_str());
    let mut child = command.env("MESHD_BIN", meshd).stdin(Stdio::piped()).spawn()?;
    // The one inside ends when this pipe does, so it cannot outlive us, however we end.
    let mut pipe = child.stdin.take().expect("a pipe");
    if keeps() && terminal().is_none() {
        thread::spawn(move || io::copy(&mut io::stdin(), &mut pipe));
        return Ok(child.wait()?);
    }
    let status = child.wait()?;
    drop(pipe);
    Ok(status)
}

fn inside() -> Outcome {
    let terminal = terminal();
    if !keeps() || terminal.is_some() {
        sandbox::end_with_stdin();
    }
    sandbox::prepare();
    let lab = Lab::new();
    let site = Site::new(&lab, 4).with_members(1..=3);
    let mut daemons = start(&site);
    handshakes(&daemons);
    pings(&site, &daemons);
    transfer(&site)?;
    outsider(&site, &mut daemons);
    table(&daemons);
    if keeps() {
        shell(&lab, terminal)?;
    }
    heading("The end: every daemon, interface and namespace goes away");
    for daemon in daemons {
        daemon.stop();
    }
    Ok(())
}

fn start(site: &Site) -> Vec<Daemon> {
    heading("The mesh: what every node is told");
    let text = site.mesh.to_toml();
    // Every endpoint looks alike: the connector and one edge are enough to see.
    let parts: Vec<&str> = text.split("\n\n").collect();
    let shown = parts.iter().take(3).chain(parts.iter().skip(6)).map(|part| part.trim());
    show(&shown.collect::<Vec<_>>().join("\n\n"));
    let started = Instant::now();
    let daemons = site.mesh.up_all();
    show(&format!("\n{} nodes are up after {} ms", daemons.len(), started.elapsed().as_millis()));
    daemons
}

/// The daemon of the edge with this number: the connector is the first.
fn daemon(daemons: &[Daemon], number: usize) -> &Daemon {
    daemons.get(number).expect("a daemon per edge")
}

fn handshakes(daemons: &[Daemon]) {
    heading("Handshakes: the first packet to a peer starts a session with it");
    let one = daemon(daemons, 1);
    for peer in [CONNECTOR, &edge(2), &edge(3)] {
        let started = Instant::now();
        let done = one.meshd(&["ping", peer, "--count", "1"]);
        assert!(done.is_ok(), "{done}");
        let session = one.status().peer(peer).session().unwrap_or_default();
        show(&format!("{peer}: session {session}, first answer after {} ms", started.elapsed().as_millis()));
    }
}

fn pings(site: &Site, daemons: &[Daemon]) {
    heading("Ping between members");
    let (one, address) = (daemon(daemons, 1), site.address(2, Family::V4));
    let ping = format!("ping -n -c 3 -i 0.2 {address}");
    command("edge1", &ping);
    show(&one.host().ok(&ping));
    command("edge1", &format!("meshd ping {} --count 3", edge(3)));
    show(&one.meshd(&["ping", &edge(3), "--count", "3"]).text());
}

fn transfer(site: &Site) -> Outcome {
    heading("A TCP transfer between members");
    let address = site.address(2, Family::V4);
    let mut serve = Command::new("iperf3");
    serve.args(["--server", "--one-off", "--bind", &address]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = site.edge_host(2).spawn(&mut serve);
    let ask = format!("iperf3 --client {address} --time {TRANSFER_SECONDS}");
    command("edge1", &ask);
    // Until the server listens, the client is refused, which iperf3 tells in its JSON but not in its exit status.
    let answer = wait_for(Duration::from_secs(10), "iperf3 connects", || {
        let done = site.edge_host(1).run(&format!("{ask} --json"));
        let answer: serde_json::Value = serde_json::from_str(&done.stdout).ok()?;
        answer["end"]["sum_received"]["bytes"].is_number().then_some(answer)
    });
    server.wait()?;
    let received = &answer["end"]["sum_received"];
    let number = |field: &str| received[field].as_f64().ok_or(format!("iperf3 gave no {field}"));
    show(&format!(
        "{:.0} MB in {:.1} s: {:.2} Gbit/s",
        number("bytes")? / 1e6,
        number("seconds")?,
        number("bits_per_second")? / 1e9
    ));
    Ok(())
}

fn outsider(site: &Site, daemons: &mut Vec<Daemon>) {
    heading("The outsider: beijing.edge4 has a valid key, but is in no community");
    let refused = |four: &Daemon| {
        command("edge4", "meshd ping beijing.edge1 --count 1");
        let done = four.meshd(&["ping", &edge(1), "--count", "1", "--timeout", "1s"]);
        assert!(!done.is_ok(), "the outsider got an answer: {done}");
        show(&done.stdout);
        show(&done.stderr);
    };
    let four = daemons.pop().expect("edge4 is the last");
    refused(&four);
    four.stop();
    show("\nNow edge4 is given a file in which it is a member. The others are not, and it is they who decide:");
    let mut false_picture = site.mesh.clone();
    false_picture.community("of-its-own-making", &[&edge(1), &edge(4)]);
    let four = false_picture.up(&edge(4));
    refused(&four);
    let counted = || daemon(daemons, 1).status().drops("handshake_not_allowed");
    wait_until(Duration::from_secs(5), "edge1 counts the refusal", || counted() > 0);
    show(&format!("edge1 refused {} handshake(s) as handshake_not_allowed", counted()));
    four.stop();
    daemons.push(site.mesh.up(&edge(4)));
}

fn table(daemons: &[Daemon]) {
    heading("The status table");
    for (name, number) in [("edge1", 1), ("edge4", 4)] {
        command(name, "meshd status");
        show(&daemon(daemons, number).meshd(&["status"]).text());
    }
}

fn shell(lab: &Lab, terminal: Option<File>) -> Outcome {
    heading("Yours: a shell among the nodes");
    show(
        "on edge1 meshd status              any command at a node: connector, edge1, edge2, edge3, edge4\n\
         on edge1 meshd ping beijing.edge2\n\
         on edge2 ip -br address\n\
         on edge1 bash                      a shell at a node\n\
         exit                               ends the demo, and everything in it goes away\n",
    );
    let folder = lab.directory().join("bin");
    fs::create_dir(&folder)?;
    symlink(binary::meshd(), folder.join("meshd"))?;
    let rc = lab.directory().join("shell.rc");
    fs::write(&rc, shell_rc(&folder, lab.directory()))?;
    let bash = format!("bash --noprofile --rcfile {} -i", rc.display());
    let ended = match terminal {
        // A terminal of its own: the one outside belongs to another PID namespace, where no job can be controlled.
        Some(terminal) => Command::new("script")
            .args(["--quiet", "--return", "--command", &bash, "/dev/null"])
            .stdin(terminal.try_clone()?)
            .stdout(terminal)
            .status()?,
        None => Command::new("bash").env("BASH_ENV", &rc).arg("-s").status()?,
    };
    show(&format!("the shell ended with {ended}"));
    Ok(())
}

fn shell_rc(folder: &Path, files: &Path) -> String {
    format!(
        "PATH={folder}:$PATH\n\
         PS1='meshd-demo$ '\n\
         on() {{\n\
         \x20 local node=$1; shift\n\
         \x20 MESHD_SOCKET={files}/beijing.$node/meshd.sock nsenter --net=/run/netns/$node \"$@\"\n\
         }}\n",
        folder = folder.display(),
        files = files.display(),
    )
}

fn heading(text: &str) {
    println!("\n== {text}");
}

fn command(node: &str, line: &str) {
    println!("  {node}$ {line}");
}

fn show(text: &str) {
    for line in text.lines() {
        println!("  {line}");
    }
}
