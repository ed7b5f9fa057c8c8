//! The settings that may come from afar: read over each other, from the mesh's `[defaults.args]` up to `meshd.toml` itself.

use toml::de::DeTable;

use crate::health::HealthTable;
use crate::lan::LanTable;
use crate::model::{LogConfig, NatConfig, RelayConfig, SessionConfig};
use crate::note::Origin;
use crate::read::Reader;
use crate::{health, lan, node};

/// What [`args::TABLES`](crate::args::TABLES) hold, as far as it has been read; built-in defaults where nobody said anything.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) lan: LanTable,
    pub(crate) nat: NatConfig,
    pub(crate) health: HealthTable,
    pub(crate) relay: RelayConfig,
    pub(crate) session: SessionConfig,
    /// Where a keep-alive is named for this node, rather than for all.
    pub(crate) keepalive_at: Option<Origin>,
    pub(crate) log: LogConfig,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lan: LanTable::default(),
            nat: node::NAT,
            health: HealthTable::default(),
            relay: node::RELAY,
            session: node::SESSION,
            keepalive_at: None,
            log: node::LOG,
        }
    }
}

/// Reads the tables that `root` has, over what the settings are.
pub(crate) fn read(reader: &mut Reader<'_>, root: &DeTable<'_>, settings: &mut Settings) {
    lan::read(reader, root, &mut settings.lan);
    node::nat(reader, root, &mut settings.nat);
    health::read(reader, root, &mut settings.health);
    node::relay(reader, root, &mut settings.relay);
    node::sessions(reader, root, settings);
    node::log(reader, root, &mut settings.log);
}
