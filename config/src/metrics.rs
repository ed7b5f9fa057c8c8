//! `[metrics]`: where metrics are served beside the API socket.

use std::net::SocketAddr;

use toml::de::{DeTable, DeValue};

use crate::error::{Fault, quote};
use crate::model::MetricsConfig;
use crate::note::Value;
use crate::read::Reader;
use crate::{scalar, shape};

/// Reads `[metrics]`.
pub(crate) fn read(reader: &mut Reader<'_>, root: &DeTable<'_>) -> MetricsConfig {
    let section = reader.section(root, &shape::METRICS);
    let show = |listen: &Option<SocketAddr>| listen.as_ref().map_or(Value::Absent, Value::text);
    MetricsConfig { listen: reader.value_or(section, "listen", None, |value| loopback(value).map(Some), show) }
}

/// An address of the loopback interface and a port: metrics name members and their addresses, and nobody is asked who reads them.
fn loopback(value: &DeValue<'_>) -> Result<SocketAddr, Fault> {
    let text = scalar::text(value)?;
    let fault = || Fault::new(format!("{} is not an address with a port", quote(text)));
    let address: SocketAddr = text.parse().map_err(|_| fault().help("write \"127.0.0.1:9374\" or \"[::1]:9374\""))?;
    if address.port() == 0 {
        return Err(fault().help("use a port of 1 to 65535"));
    }
    if !address.ip().to_canonical().is_loopback() {
        let fault =
            Fault::new(format!("{address} can be reached from other machines, and anybody may read metrics there"));
        return Err(fault.help("listen on 127.0.0.1 or [::1]; a collector elsewhere needs a proxy that asks who it is"));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::parse_node;

    #[test]
    fn only_loopback_addresses_with_a_port_are_listened_on() {
        let said = |listen: &str| {
            let text = format!("[node]\nname = \"a.b\"\nmesh = \"mesh.toml\"\n[metrics]\nlisten = \"{listen}\"\n");
            parse_node(Path::new("meshd.toml"), &text).err().map(|problems| problems.to_string()).unwrap_or_default()
        };
        for good in ["127.0.0.1:9374", "127.3.2.1:1", "[::1]:9374"] {
            assert_eq!(said(good), "", "{good}");
        }
        for open in ["0.0.0.0:9374", "[::]:9374", "192.0.2.1:9374", "[::ffff:192.0.2.1]:9374"] {
            assert!(said(open).contains("can be reached from other machines"), "{open}: {}", said(open));
        }
        for odd in ["127.0.0.1", "127.0.0.1:0", "localhost:9374"] {
            assert!(said(odd).contains("is not an address with a port"), "{odd}: {}", said(odd));
        }
    }
}
