//! Looks at the machine. What may not be looked at is said to be so; nothing is changed.

mod daemon;
mod files;
mod firewall;
mod kernel;
mod managers;
mod ports;
mod sysctls;

use std::path::Path;

use config::Outline;

use super::facts::{ConfigFacts, Facts};
use crate::host::survey;

/// Where the daemon listens where no configuration can be read.
const DEFAULT_SOCKET: &str = "/run/meshd/meshd.sock";

/// Looks at everything that [`super::examine`] judges: the configuration in `config`, and the daemon behind `socket`, or behind the
/// one that the configuration names. Takes a second at most, unless the daemon or `nft` hangs, each of which is given five.
pub(crate) async fn gather(config: &Path, socket: Option<&Path>) -> Facts {
    let is_root = nix::unistd::geteuid().is_root();
    let config = configuration(config, is_root);
    let outline = config.good();
    let configured = outline.map_or(Path::new(DEFAULT_SOCKET), |outline| outline.socket.as_path());
    let daemon = daemon::daemon(socket.unwrap_or(configured)).await;
    let network = survey(config.interface()).await.map_err(|error| error.to_string());
    let names: Vec<&str> = network.iter().flat_map(|network| &network.links).map(|link| link.name.as_str()).collect();
    let state = outline.map(|outline| outline.state.as_path()).ok_or("the configuration does not say which");
    Facts {
        is_root,
        kernel: kernel::kernel(&daemon.life),
        clock: files::clock(state),
        mesh_folder: outline.and_then(|outline| files::mesh_folder(outline, &config.path, &daemon.life)),
        keys: outline.map(files::keys).unwrap_or_default(),
        state: state.map(files::state).map_err(str::to_owned),
        sysctls: sysctls::sysctls(&names),
        firewall: firewall::firewall(),
        port_holders: ports::holders(outline.map_or(0, |outline| outline.listen.port)),
        managers: managers::managers(config.interface(), network.as_ref().ok()),
        daemon,
        network,
        config,
    }
}

fn configuration(path: &Path, is_root: bool) -> ConfigFacts {
    let outline = config::outline(path).map(Box::<Outline>::new).map_err(|problems| problems.0);
    let is_denied = |problems: &Vec<config::Problem>| problems.iter().any(|p| p.message.contains("permission denied"));
    let is_barred = !is_root && outline.as_ref().is_err_and(is_denied);
    ConfigFacts { path: path.to_owned(), outline, is_barred }
}
