//! `[paths]`: how data takes the ways to a peer.

use toml::de::DeTable;

use crate::model::{Balance, PathsConfig};
use crate::note::Value;
use crate::read::Reader;
use crate::{scalar, shape};

const BALANCES: [(&str, Balance); 2] = [("best", Balance::Best), ("flow", Balance::Flow)];

/// What holds where nobody says anything.
pub(crate) const PATHS: PathsConfig = PathsConfig { balance: Balance::Best };

/// Reads `[paths]` over what it is.
pub(crate) fn read(reader: &mut Reader<'_>, root: &DeTable<'_>, paths: &mut PathsConfig) {
    let section = reader.section(root, &shape::PATHS);
    let balance = |value: &_| scalar::choice(value, &BALANCES);
    reader.set(section, "balance", &mut paths.balance, balance, |balance| Value::word(balance, &BALANCES));
}
