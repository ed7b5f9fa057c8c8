//! The command line: what it understands, and what each command does.

mod bugreport;
mod doctor;
mod events;
mod init;
mod invite;
mod join;
mod key;
mod log;
mod netcheck;
#[cfg(test)]
mod pages;
mod peer;
mod ping;
mod reload;
mod show;
mod status;
mod text;
mod trace;
mod why;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::daemon;

pub(crate) use show::effective;
pub(crate) use text::{bytes, count, span};

/// Where the node's configuration is unless `--config` says otherwise.
const DEFAULT_CONFIG: &str = "/etc/meshd/meshd.toml";

/// Where the daemon listens unless `[api] socket` says otherwise.
const DEFAULT_SOCKET: &str = "/run/meshd/meshd.sock";

/// A mesh VPN for edge sites: one daemon, one TOML file, no server.
///
/// meshd carries IP packets between the members of a community, encrypted with Noise, and nobody else's.
#[derive(Parser)]
#[command(name = "meshd", version, max_term_width = 100, after_help = TOP_EXAMPLE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const TOP_EXAMPLE: &str = "Examples:
  meshd init --mesh lab         # on the first machine; it says what to run on the next
  meshd config check
  meshd up
  meshd status";

#[derive(Subcommand)]
enum Command {
    /// Begin a mesh: make this machine its first node, and an invitation for the next
    #[command(
        after_help = "Examples:\n  meshd init --mesh lab\n  meshd init --mesh lab --name lab.one --address gw.example --subnet 192.168.7.0/24"
    )]
    Init(init::InitArgs),
    /// Join a mesh with an invitation
    #[command(
        after_help = "Examples:\n  meshd join                    # and paste the invitation\n  ssh one.example meshd invite | meshd join"
    )]
    Join(join::JoinArgs),
    /// Make an invitation for another node
    #[command(
        after_help = "Examples:\n  meshd invite\n  meshd invite till7 --expires 1h | ssh till7.example meshd join"
    )]
    Invite(invite::InviteArgs),
    /// Run the daemon in the foreground until it is told to stop
    #[command(after_help = "Example:\n  meshd up --config /etc/meshd/meshd.toml")]
    Up(ConfigArgs),
    /// Make and look at key files
    #[command(subcommand, after_help = KEY_EXAMPLE)]
    Key(KeyCommand),
    /// Look at the configuration
    #[command(
        subcommand,
        after_help = "Examples:\n  meshd config check --config ./meshd.toml\n  meshd config show --effective"
    )]
    Config(ConfigCommand),
    /// Show this node, a line per peer, and what is wrong; or one peer in full
    #[command(
        after_help = "Examples:\n  meshd status\n  meshd status beijing.edge2\n  meshd status --json | jq '.peers[] | select(.state != \"connected\")'"
    )]
    Status(status::StatusArgs),
    /// Have the daemon load its configuration anew and apply what changed, without a restart
    #[command(after_help = "Examples:\n  meshd reload\n  meshd reload --json | jq .needs_restart")]
    Reload(reload::ReloadArgs),
    /// Send probes to a peer through the mesh and show their paths and round trip times
    #[command(
        after_help = "Examples:\n  meshd ping beijing.edge2 --count 5\n  meshd ping beijing.edge2 --until-direct"
    )]
    Ping(ping::PingArgs),
    /// Tell what the network around this node lets through: UDP, NAT, port mapping, relays
    #[command(after_help = "Examples:\n  meshd netcheck\n  meshd netcheck --json | jq .verdict")]
    Netcheck(netcheck::NetcheckArgs),
    /// Show what the daemon logs, or change it while it runs
    #[command(after_help = log::EXAMPLE)]
    Log(log::LogArgs),
    /// Show what happened: sessions, paths, relays, refusals, addresses, routes
    #[command(
        after_help = "Examples:\n  meshd events --since 10m\n  meshd events --follow --peer beijing.edge2\n  meshd events --json | jq 'select(.kind == \"path_lost\")'"
    )]
    Events(events::EventsArgs),
    /// Follow packets on their way through this node, and say what became of each
    #[command(after_help = trace::EXAMPLES)]
    Trace(trace::TraceArgs),
    /// Tell why packets get to a member or an address, or what keeps them from it and on which side
    ///
    /// Exits with 0 where they get through, with 1 where they do not.
    #[command(
        after_help = "Examples:\n  meshd why beijing.edge2\n  meshd why 10.233.1.7\n  meshd why 10.233.1.7 --from beijing.edge1\n  meshd why beijing.edge2 --json | jq -r .cause"
    )]
    Why(why::WhyArgs),
    /// Look at everything on this machine that a node needs, and say what to do about what is wrong
    #[command(
        after_help = "Examples:\n  meshd doctor\n  meshd doctor --json | jq '.checks[] | select(.level == \"fail\")'"
    )]
    Doctor(doctor::DoctorArgs),
    /// Pack everything that helps to find a fault from afar into one file, without any secret
    #[command(after_help = "Examples:\n  meshd bugreport\n  meshd bugreport --out - | gzip > report.tar.gz")]
    Bugreport(bugreport::BugreportArgs),
}

const KEY_EXAMPLE: &str = "Examples:
  meshd key generate --out /var/lib/meshd/private.key
  meshd key show
  meshd key generate          # to standard output: also good as a multicast_token of [lan]";

#[derive(Args)]
struct ConfigArgs {
    /// Configuration of this node
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG, env = "MESHD_CONFIG")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Make a new private key
    #[command(after_help = "Example:\n  meshd key generate --out /var/lib/meshd/private.key")]
    Generate {
        /// File to make; it must not exist. Without this the key goes to standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show the public key of a private key file
    #[command(after_help = "Examples:\n  meshd key show\n  meshd key show /var/lib/meshd/private.key")]
    Show {
        /// Private key file [default: that of the configuration]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check the configuration and the mesh file that it names; every problem is reported
    #[command(after_help = "Example:\n  meshd config check --config ./meshd.toml")]
    Check(ConfigArgs),
    /// Print what the files say for this node, or what the mesh says for another, and where
    #[command(
        after_help = "Examples:\n  meshd config show --effective\n  meshd config show beijing.edge2\n  meshd config show --effective --json | jq '.settings[] | select(.origin == \"file\")'"
    )]
    Show(show::ShowArgs),
}

#[derive(Args)]
struct SocketArgs {
    /// API socket of the daemon
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET, env = "MESHD_SOCKET")]
    socket: PathBuf,
}

/// Runs what the arguments say.
pub(crate) fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Init(args) => init::main(&args),
        Command::Join(args) => join::main(&args),
        Command::Invite(args) => invite::main(&args),
        Command::Up(args) => daemon::main(&args.config),
        Command::Key(KeyCommand::Generate { out }) => key::generate(out.as_deref()),
        Command::Key(KeyCommand::Show { file, config }) => key::show(file.as_deref(), &config.config),
        Command::Config(ConfigCommand::Check(args)) => check(&args.config),
        Command::Config(ConfigCommand::Show(args)) => show::main(&args),
        Command::Status(args) => status::main(&args),
        Command::Reload(args) => reload::main(&args),
        Command::Ping(args) => ping::main(&args),
        Command::Netcheck(args) => netcheck::main(&args),
        Command::Log(args) => log::main(&args),
        Command::Events(args) => events::main(&args),
        Command::Trace(args) => trace::main(&args),
        Command::Why(args) => why::main(&args),
        Command::Doctor(args) => doctor::main(&args),
        Command::Bugreport(args) => bugreport::main(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("meshd: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors repeat their source in their own text.
        if !text.contains(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}

type Result<T = ExitCode> = std::result::Result<T, Box<dyn std::error::Error>>;

fn check(path: &Path) -> Result {
    let loaded = config::load(path)?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    if !loaded.selected {
        let help = "give its [[endpoint]] these labels, or change the selector";
        eprintln!(
            "warning: {} is not selected by [selector] labels, so it takes no part in the mesh; {help}",
            loaded.node.name
        );
    }
    let endpoints = count(loaded.members.endpoints.len() as u64, "endpoint");
    let communities = match loaded.members.communities.len() {
        1 => "1 community".to_owned(),
        more => format!("{more} communities"),
    };
    let left_out = match loaded.unselected.len() {
        0 => String::new(),
        count => format!(", {count} not selected"),
    };
    let (path, name, mesh, digest) = (path.display(), &loaded.node.name, &loaded.mesh_name, loaded.mesh_digest());
    print(&format!(
        "{path}: good ({name} in mesh {mesh}: {endpoints}, {communities}{left_out}; mesh digest {digest})\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// A span of time as arguments have it (`1500ms`, `10s`, `5m`).
fn period(text: &str) -> std::result::Result<Duration, config::PeriodError> {
    text.parse().map(|config::Period(duration)| duration)
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes to standard output for as long as somebody reads: what goes on for long ends with its reader, by [`reader_left`].
fn print_on(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Makes a success of an end that only means that the reader of standard output has seen enough (`| head`).
fn reader_left(result: Result) -> Result {
    let is_left = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    match result {
        Err(error) if error.downcast_ref().is_some_and(is_left) => Ok(ExitCode::SUCCESS),
        other => other,
    }
}

/// The exit code of a command that SIGINT ended, as shells have it: 128 and the signal's number.
const INTERRUPTED: u8 = 130;

/// Takes SIGINT (Ctrl-C) for a command that sums up what it did until then.
struct Interrupt(tokio::signal::unix::Signal);

impl Interrupt {
    /// Takes it from now on; to be called within the runtime.
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::interrupt()).map(Self)
    }

    /// Waits for it. Safe to cancel.
    async fn came(&mut self) {
        self.0.recv().await;
    }
}

/// A small runtime for the commands that ask the daemon.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
