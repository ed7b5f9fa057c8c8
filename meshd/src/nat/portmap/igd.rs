//! UPnP Internet Gateway Devices: finding the service that maps ports (UPnP Device Architecture 1.1 §1.3, §2.3), and its actions.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use axum::http::Uri;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::Instant;

use super::soap::{self, Fault};
use super::{MapError, Pace, exchange};
use crate::host::Gateway;

const SSDP_PORT: u16 = 1900;
const SSDP_GROUP: [u8; 4] = [239, 255, 255, 250];
const SEARCH: &[u8] = b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
    ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n";

/// Longest answer to a search that is read, in bytes; they have some 400.
const MAX_ANSWER: usize = 2_048;

/// The services that map ports; a device has some of them, of which those of unused uplinks have no address.
const KINDS: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// Services that are asked for an address.
const MAX_SERVICES: usize = 4;

/// Ports that are asked for where others have them already.
const MAX_PORTS: usize = 4;

/// Where a device takes orders about ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    server: SocketAddr,
    path: String,
    kind: &'static str,
}

/// Finds the service of the gateway that has an external address.
pub(super) async fn discover(gateway: &Gateway, pace: Pace) -> Result<Service, MapError> {
    let (server, path) = search(gateway, pace).await?;
    let text = soap::get(gateway, pace, server, &path).await?;
    let services = services(&text, server).ok_or(MapError::Nonsense("its description cannot be read"))?;
    let mut result = Err(MapError::Unsupported);
    for service in services {
        match service.external_address(gateway, pace).await {
            Ok(_) => return Ok(service),
            Err(error) => result = Err(error),
        }
    }
    result
}

impl Service {
    /// Maps an external port, `wanted` if it is free, to `port`; returns the address that has it.
    pub(super) async fn map(
        &self,
        gateway: &Gateway,
        pace: Pace,
        port: NonZeroU16,
        wanted: NonZeroU16,
    ) -> Result<SocketAddr, MapError> {
        let ip = self.external_address(gateway, pace).await?;
        let (mut external, mut lease) = (wanted.get(), pace.lifetime.as_secs());
        for _ in 0..MAX_PORTS {
            match self.add(gateway, pace, port, external, lease).await {
                Ok(()) => return Ok(SocketAddr::new(ip, external)),
                // OnlyPermanentLeasesSupported: it lasts until we delete it, or use the port again after a crash.
                Err(Fault::Code(725)) if lease != 0 => lease = 0,
                // ConflictInMappingEntry.
                Err(Fault::Code(718)) => external = other_port(),
                Err(fault) => return Err(fault.into()),
            }
        }
        Err(MapError::Refused("all ports that were tried are taken".to_owned()))
    }

    /// Deletes the mapping of an external port.
    pub(super) async fn delete(&self, gateway: &Gateway, pace: Pace, external: u16) -> Result<(), MapError> {
        let external = external.to_string();
        let arguments = [("NewRemoteHost", ""), ("NewExternalPort", &external), ("NewProtocol", "UDP")];
        self.act(gateway, pace, "DeletePortMapping", &arguments).await?;
        Ok(())
    }

    async fn external_address(&self, gateway: &Gateway, pace: Pace) -> Result<IpAddr, MapError> {
        let answer = self.act(gateway, pace, "GetExternalIPAddress", &[]).await?;
        let ip = soap::value(&answer, "NewExternalIPAddress").and_then(|text| text.parse::<IpAddr>().ok());
        ip.filter(|ip| ip.is_ipv4() && !ip.is_unspecified()).ok_or(MapError::Nonsense("no external address"))
    }

    async fn add(
        &self,
        gateway: &Gateway,
        pace: Pace,
        port: NonZeroU16,
        external: u16,
        lease: u64,
    ) -> Result<(), Fault> {
        let (external, port) = (external.to_string(), port.to_string());
        let (own, lease) = (gateway.own.to_string(), lease.to_string());
        // The order is that of the service's description, which some devices insist on.
        let arguments = [
            ("NewRemoteHost", ""),
            ("NewExternalPort", &*external),
            ("NewProtocol", "UDP"),
            ("NewInternalPort", &port),
            ("NewInternalClient", &own),
            ("NewEnabled", "1"),
            ("NewPortMappingDescription", "meshd"),
            ("NewLeaseDuration", &lease),
        ];
        self.act(gateway, pace, "AddPortMapping", &arguments).await.map(drop)
    }

    async fn act(
        &self,
        gateway: &Gateway,
        pace: Pace,
        action: &str,
        arguments: &[(&str, &str)],
    ) -> Result<String, Fault> {
        soap::call(gateway, pace, self.server, &self.path, self.kind, action, arguments).await
    }
}

/// A port that nobody has for a purpose (RFC 6335 §6: dynamic ports).
fn other_port() -> u16 {
    let mut bytes = [0; 2];
    let _ = SystemRandom::new().fill(&mut bytes);
    u16::from_be_bytes(bytes) | 0xc000
}

/// Asks the network, and the gateway itself, which many answer faster; returns where the gateway's description is.
async fn search(gateway: &Gateway, pace: Pace) -> Result<(SocketAddr, String), MapError> {
    let socket = exchange::open(gateway)?;
    let mut answer = [0; MAX_ANSWER];
    let mut wait = pace.first_wait;
    for _ in 0..pace.tries {
        for target in [gateway.address, SSDP_GROUP.into()] {
            // One of the two may be filtered, and then the other still goes.
            let _ = socket.send_to(SEARCH, (target, SSDP_PORT)).await;
        }
        let due = Instant::now() + wait;
        while let Ok(received) = tokio::time::timeout_at(due, socket.recv_from(&mut answer)).await {
            let Ok((len, source)) = received else { continue };
            let location = answer.get(..len).and_then(|answer| location(answer, gateway.address));
            if let Some(location) = location.filter(|_| source.ip() == gateway.address) {
                return Ok(location);
            }
        }
        wait *= 2;
    }
    Err(MapError::Silent)
}

/// Where an answer says that the description is, if that is on the gateway itself: we are not to be sent elsewhere.
fn location(answer: &[u8], gateway: IpAddr) -> Option<(SocketAddr, String)> {
    let text = std::str::from_utf8(answer).ok()?;
    let mut headers = text.lines().filter_map(|line| line.split_once(':'));
    let (_, url) = headers.find(|(name, _)| name.trim().eq_ignore_ascii_case("location"))?;
    on_gateway(url.trim(), gateway)
}

fn on_gateway(url: &str, gateway: IpAddr) -> Option<(SocketAddr, String)> {
    let uri: Uri = url.parse().ok()?;
    let is_gateway = uri.scheme_str() == Some("http") && uri.host()?.parse() == Ok(gateway);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    is_gateway.then(|| (SocketAddr::new(gateway, uri.port_u16().unwrap_or(80)), path.to_owned()))
}

/// The services of a description that map ports, in the order in which they are preferred.
fn services(description: &str, server: SocketAddr) -> Option<Vec<Service>> {
    let document = roxmltree::Document::parse(description).ok()?;
    let mut found = Vec::new();
    for node in document.descendants().filter(|node| node.has_tag_name_of("service")) {
        let text =
            |name: &str| node.children().find(|child| child.has_tag_name_of(name)).and_then(|child| child.text());
        let kind = text("serviceType").and_then(|kind| KINDS.into_iter().find(|known| *known == kind.trim()));
        let place = text("controlURL").and_then(|url| control(url.trim(), server));
        if let (Some(kind), Some((server, path))) = (kind, place) {
            found.push(Service { server, path, kind });
        }
    }
    found.sort_by_key(|service| KINDS.iter().position(|kind| *kind == service.kind));
    found.truncate(MAX_SERVICES);
    Some(found)
}

/// A control URL, relative to the description or whole.
fn control(url: &str, server: SocketAddr) -> Option<(SocketAddr, String)> {
    if url.contains("://") {
        return on_gateway(url, server.ip());
    }
    let path = format!("/{}", url.trim_start_matches('/'));
    path.parse::<Uri>().ok().map(|_| (server, path))
}

trait Named {
    /// Whether this is an element of the name, in any namespace: devices disagree about theirs.
    fn has_tag_name_of(&self, name: &str) -> bool;
}

impl Named for roxmltree::Node<'_, '_> {
    fn has_tag_name_of(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 1));

    #[test]
    fn a_description_elsewhere_than_on_the_gateway_is_not_fetched() {
        let answer = |url: &str| format!("HTTP/1.1 200 OK\r\nST: x\r\nLocation: {url}\r\n\r\n").into_bytes();
        let found = location(&answer("http://192.168.1.1:5000/root.xml"), GATEWAY);
        assert_eq!(found, Some(("192.168.1.1:5000".parse().unwrap(), "/root.xml".to_owned())));
        for url in [
            "http://192.0.2.1/root.xml",
            "https://192.168.1.1/",
            "http://user@192.0.2.1/",
            "file:///etc/passwd",
            "/x",
            "",
        ] {
            assert_eq!(location(&answer(url), GATEWAY), None, "{url}");
        }
        assert_eq!(location(b"HTTP/1.1 200 OK\r\n\r\n", GATEWAY), None);
        assert_eq!(location(&[0xff, 0xfe], GATEWAY), None);
    }

    #[test]
    fn the_services_of_a_description_are_found_at_any_depth() {
        let service = |kind: &str, url: &str| {
            format!("<service><serviceType>{kind}</serviceType><controlURL>{url}</controlURL></service>")
        };
        let text = format!(
            "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\"><device><serviceList>{}{}{}{}</serviceList></device></root>",
            service("urn:schemas-upnp-org:service:Layer3Forwarding:1", "/l3"),
            service(KINDS[2], "ppp?x=1"),
            service(KINDS[1], "http://192.0.2.7/evil"),
            service(KINDS[0], "/ctl/ip"),
        );
        let found = services(&text, SocketAddr::new(GATEWAY, 5000)).unwrap();
        let paths: Vec<_> = found.iter().map(|service| service.path.as_str()).collect();
        assert_eq!(paths, ["/ctl/ip", "/ppp?x=1"]);
    }

    #[test]
    fn a_description_that_is_none_or_nested_without_end_gives_nothing() {
        let server = SocketAddr::new(GATEWAY, 5000);
        assert_eq!(services("not XML", server), None);
        assert_eq!(services("<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>", server), None);
        let _ = services(&"<a>".repeat(20_000), server);
        assert_eq!(services("<root/>", server), Some(vec![]));
    }
}
