//! `[paths]`: how data takes the ways to a peer.

use toml::de::DeTable;

use crate::model::{Balance, PathsConfig};
use crate::note::Value;
use crate::read::Reader;
use crate::{scalar, shape};

const BALANCES: [(&str, Balance); 2] = [("best", Balance::Best), ("flow", Balance::Flow)];

/// Reads `[paths]`.
pub(crate) fn read(reader: &mut Reader<'_>, root: &DeTable<'_>) -> PathsConfig {
    let section = reader.section(root, &shape::PATHS);
    let balance = |value: &_| scalar::choice(value, &BALANCES);
    let show = |balance: &Balance| Value::word(balance, &BALANCES);
    PathsConfig { balance: reader.value_or(section, "balance", Balance::Best, balance, show) }
}
