//! `meshd up`: the life of the process, in which a node runs while this machine is selected to run one, and rests while it is not.

use std::path::Path;
use std::process::ExitCode;

use config::Config;
use tokio::sync::mpsc;

use crate::api::exporter::Exporter;
use crate::api::server::{Call, Server};
use crate::assembly::assemble;
use crate::clock::Clock;
use crate::driver::{Driver, End};
use crate::idle;
use crate::log;
use crate::reload::{Reloads, load};
use crate::report::events::{EventKind, EventLog};
use crate::resolver::MAX_LOOK_UPS;
use crate::signals::Signals;
use crate::supervisor;
use crate::sys::heap;

type Error = Box<dyn std::error::Error>;

/// Threads for what blocks and is not a look-up of a name: writing the metrics down, and listing routes. They take milliseconds.
const MAX_OTHERS: usize = 4;

/// What stays from the first moment to the last, whatever the node does.
pub(crate) struct Life {
    /// Orders from outside.
    pub(crate) signals: Signals,
    /// For those who ask elsewhere than over the API socket.
    pub(crate) asker: mpsc::Sender<Call>,
    /// Questions and orders that come over the API socket.
    pub(crate) calls: mpsc::Receiver<Call>,
    /// Loading the configuration anew.
    pub(crate) reloads: Reloads,
    /// What happened. The node has it while it runs.
    pub(crate) events: EventLog,
    /// Shows how long ago the daemon was started.
    pub(crate) clock: Clock,
    /// Why the node could not start when that was tried last.
    pub(crate) hindrance: Option<String>,
}

/// What was before a start of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// The daemon's own start, of which somebody waits for the end.
    Nothing,
    /// It was at rest.
    Rest,
}

/// Runs the daemon until a signal stops it.
pub(crate) fn main(path: &Path) -> Result<ExitCode, Error> {
    heap::keep_small();
    let config = load(path)?;
    let log = log::init(&config.log);
    let reloads = Reloads::new(path.to_owned(), log.clone(), &config);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(MAX_LOOK_UPS + MAX_OTHERS).build()?;
    let ran = runtime.block_on(live(config, reloads, log));
    // A look-up that waits for a name server can take half a minute, and nobody waits for its answer any more.
    runtime.shutdown_background();
    ran.map(|()| ExitCode::SUCCESS)
}

async fn live(mut config: Config, reloads: Reloads, log: log::Handle) -> Result<(), Error> {
    // Before anything is changed: a signal that comes during the start waits until it can be obeyed.
    let signals = Signals::new()?;
    // Before anything is changed: a second daemon on the same socket must not disturb the first.
    let server = Server::bind(&config.api.socket)
        .await
        .map_err(|e| format!("cannot listen on the API socket {}: {e}", config.api.socket.display()))?;
    let (asker, calls) = server.start(log);
    let (events, clock) = (EventLog::new(), Clock::start());
    let mut life = Life { signals, asker, calls, reloads, events, clock, hindrance: None };
    let (version, name) = (env!("CARGO_PKG_VERSION"), &config.node.name);
    let text = format!("meshd {version}, {name} in mesh {}", config.mesh_name);
    life.events.note(EventKind::Started, None, text);
    let mut before = Before::Nothing;
    loop {
        life.reloads.watch(&config);
        let is_selected = config.selected;
        let end = if is_selected { run(config, before, &mut life).await? } else { idle::rest(config, &mut life).await };
        match end {
            End::Stopped => return Ok(()),
            End::Other(other) => (config, before) = (*other, Before::Rest),
        }
    }
}

/// Runs the node. One that cannot start is the end, unless the daemon was at rest before: then it rests on, and the start is tried again.
async fn run(config: Config, before: Before, life: &mut Life) -> Result<End, Error> {
    let interface = config.interface.name.clone();
    let spare = (before == Before::Rest).then(|| config.clone());
    let assembled = assemble(config, life.clock, Exporter::new(life.asker.clone())).await;
    let (mut driver, workers) = match (assembled, spare) {
        (Ok(assembled), _) => assembled,
        (Err(error), Some(config)) => return Ok(idle::wait_to_start(config, error.to_string(), life).await),
        (Err(error), None) => return Err(error),
    };
    life.hindrance = None;
    if before == Before::Rest {
        life.events.note(EventKind::Node, None, "the node runs");
    }
    heap::trim();
    life.reloads.finish_if_open();
    driver.reporter.swap_events(&mut life.events);
    let ran = driver.run(life).await;
    driver.reporter.swap_events(&mut life.events);
    if !matches!(ran, Ok(End::Other(_))) {
        supervisor::stopping();
    }
    // The workers stop before the machine is put back, so that nothing is carried over routes that are going away.
    drop(workers);
    let Driver { nat, mut host, .. } = driver;
    nat.stop().await;
    let reverted = host.revert().await;
    let end = ran.map_err(|e| format!("{interface}: {e}"))?;
    reverted?;
    tracing::info!("{}", if matches!(end, End::Stopped) { "stopped" } else { "at rest: not selected" });
    Ok(end)
}
