//! `[health]`: what tells a connector whether it reaches the prefixes that it announces.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::de::DeTable;

use crate::error::{Fault, quote};
use crate::model::HealthConfig;
use crate::note::{Said, Value};
use crate::read::{Located, Reader};
use crate::shape;

/// `[health]` as it is written.
#[derive(Debug, Default)]
pub(crate) struct HealthTable {
    pub(crate) probe: Vec<Said<IpAddr>>,
}

/// Reads `[health]` over what it is.
pub(crate) fn read(reader: &mut Reader<'_>, root: &DeTable<'_>, health: &mut HealthTable) {
    const MOST: usize = HealthConfig::MAX_PROBES;
    const KEY: &str = "probe";
    let section = reader.section(root, &shape::HEALTH);
    let probe = reader.list(section, KEY, address);
    if let Some(extra) = probe.get(MOST) {
        let fault = Fault::new(format!("names more than {MOST} addresses"));
        reader.report_key(section, KEY, extra.at, fault.help("one or two for each prefix are enough"));
    }
    let at = section.value(KEY).map(|value| value.span().start);
    if at.is_some() {
        let said = |probe: Located<IpAddr>| Said { value: probe.value, origin: reader.origin(probe.at) };
        health.probe = probe.into_iter().map(said).collect();
    }
    reader.note(section, KEY, at, || Value::List(health.probe.iter().map(|probe| probe.value.to_string()).collect()));
}

impl HealthTable {
    /// What is legal but odd for a node that announces `subnets`.
    pub(crate) fn odd(&self, subnets: &[IpNet]) -> Vec<Said<String>> {
        let is_outside = |probe: &&Said<IpAddr>| !subnets.iter().any(|net| net.contains(&probe.value));
        let text = |Said { value, origin }: &Said<IpAddr>| Said {
            value: format!("[health] probe: {value} has no effect: it is in none of this node's subnets"),
            origin: origin.clone(),
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
