//! `[health]`: what tells a connector whether it reaches the prefixes that it announces.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::de::DeTable;

use crate::error::{Fault, quote};
use crate::model::HealthConfig;
use crate::read::{Located, Reader};
use crate::shape;

/// `[health]` as it is written.
pub(crate) struct HealthTable {
    pub(crate) probe: Vec<Located<IpAddr>>,
}

/// Reads `[health]`.
pub(crate) fn read(reader: &mut Reader<'_>, root: &DeTable<'_>) -> HealthTable {
    const MOST: usize = HealthConfig::MAX_PROBES;
    let section = reader.section(root, &shape::HEALTH);
    let probe = reader.list(section, "probe", address);
    if let Some(extra) = probe.get(MOST) {
        let fault = Fault::new(format!("names more than {MOST} addresses"));
        reader.report_key(section, "probe", extra.at, fault.help("one or two for each prefix are enough"));
    }
    HealthTable { probe }
}

impl HealthTable {
    /// What is legal but odd for a node that announces `subnets`.
    pub(crate) fn odd(&self, subnets: &[IpNet]) -> Vec<Located<String>> {
        let is_outside = |probe: &&Located<IpAddr>| !subnets.iter().any(|net| net.contains(&probe.value));
        let text = |Located { value, at }: &Located<IpAddr>| Located {
            value: format!("[health] probe: {value} has no effect: it is in none of this node's subnets"),
            at: *at,
        };
        self.probe.iter().filter(is_outside).map(text).collect()
    }

    /// The settings.
    pub(crate) fn config(self) -> HealthConfig {
        HealthConfig { probe: self.probe.into_iter().map(|probe| probe.value).collect() }
    }
}

fn address(text: &str) -> Result<IpAddr, Fault> {
    let fault = || Fault::new(format!("{} is not the address of a host", quote(text)));
    let address: IpAddr = text.parse().map_err(|_| fault().help("write it as 10.1.2.3 or fd00::1"))?;
    let is_host = !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
    if is_host { Ok(address) } else { Err(fault()) }
}
