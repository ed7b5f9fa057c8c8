//! `meshd up`: the life of the process, in which a node runs while this machine is selected to run one, and rests while it is not.

use std::path::Path;
use std::process::ExitCode;

use config::Config;
use tokio::sync::mpsc;

use crate::api::exporter::Exporter;
use crate::api::server::{Call, Server};
use crate::assembly::assemble;
use crate::driver::{Driver, End};
use crate::idle;
use crate::log;
use crate::reload::{Reloads, load};
use crate::signals::Signals;
use crate::supervisor;
use crate::sys::heap;

type Error = Box<dyn std::error::Error>;

/// Names looked up at the same time, each by a thread that waits: enough that a few dead name servers do not hold up the
/// rest, few enough for a small machine in a mesh of a thousand names.
const MAX_LOOKUPS: usize = 16;

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
}

/// Runs the daemon until a signal stops it.
pub(crate) fn main(path: &Path) -> Result<ExitCode, Error> {
    heap::keep_small();
    let config = load(path)?;
    let log = log::init(&config.log);
    let reloads = Reloads::new(path.to_owned(), log.clone());
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(MAX_LOOKUPS).build()?;
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
    let mut life = Life { signals, asker, calls, reloads };
    loop {
        life.reloads.watch(&config);
        let end = if config.selected { run(config, &mut life).await? } else { idle::rest(config, &mut life).await };
        match end {
            End::Stopped => return Ok(()),
            End::Other(other) => config = *other,
        }
    }
}

/// Runs the node. One that cannot start is the end, unless the daemon was at rest before: then it rests on.
async fn run(config: Config, life: &mut Life) -> Result<End, Error> {
    let (interface, resting) = (config.interface.name.clone(), idle::Resting::of(&config));
    let (mut driver, workers) = match assemble(config, Exporter::new(life.asker.clone())).await {
        Ok(assembled) => assembled,
        Err(error) if life.reloads.is_open() => {
            life.reloads.finish(Err(error.to_string().into()));
            return Ok(resting.rest(life).await);
        }
        Err(error) => return Err(error),
    };
    heap::trim();
    life.reloads.finish_if_open();
    let ran = driver.run(life).await;
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
