//! What the tasks tell: events to the driver, and a picture of how things stand.

use std::net::{IpAddr, SocketAddr};

use tokio::sync::{mpsc, watch};

use super::{NatEvent, Protocol};
use crate::host::Gateway;

/// How things stand with all who were asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NatStatus {
    /// The default gateways.
    pub(crate) gateways: Vec<GatewayStatus>,
    /// The STUN servers that have answered or failed to, by their names in the configuration.
    pub(crate) servers: Vec<ServerStatus>,
}

/// How things stand with a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayStatus {
    /// By which interface it is reached.
    pub(crate) interface: String,
    /// Its address on that network.
    pub(crate) gateway: IpAddr,
    /// How it was asked with success.
    pub(crate) protocol: Option<Protocol>,
    /// Our address on its other side.
    pub(crate) external: Option<SocketAddr>,
    /// Whether that address can be reached from everywhere; if not, there is another NAT behind the gateway.
    pub(crate) is_public: bool,
    /// Why the last attempt failed; `None` after one that did not.
    pub(crate) last_error: Option<String>,
}

/// How things stand with an address of a STUN server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerStatus {
    /// Its address, or its name where that has none.
    pub(crate) server: String,
    /// Our address as it sees it.
    pub(crate) address: Option<SocketAddr>,
    /// Why the last attempt failed; `None` after one that did not.
    pub(crate) last_error: Option<String>,
}

/// Where tasks put what they learn.
#[derive(Clone)]
pub(super) struct Outlet {
    events: mpsc::Sender<NatEvent>,
    status: watch::Sender<NatStatus>,
}

impl Outlet {
    pub(super) fn new(events: mpsc::Sender<NatEvent>) -> (Self, watch::Receiver<NatStatus>) {
        let (status, seen) = watch::channel(NatStatus::default());
        (Self { events, status }, seen)
    }

    /// Tells the driver; waits for room. At a stop nobody is there, and nothing is told.
    pub(super) async fn tell(&self, event: NatEvent) {
        let _ = self.events.send(event).await;
    }

    /// Changes what is shown of a gateway.
    pub(super) fn show_gateway(&self, gateway: &Gateway, change: impl FnOnce(&mut GatewayStatus)) {
        self.status.send_modify(|status| {
            let is_it =
                |shown: &GatewayStatus| shown.gateway == gateway.address && shown.interface == gateway.interface;
            let place = status.gateways.iter().position(is_it).unwrap_or_else(|| {
                status.gateways.push(GatewayStatus {
                    interface: gateway.interface.clone(),
                    gateway: gateway.address,
                    protocol: None,
                    external: None,
                    is_public: false,
                    last_error: None,
                });
                status.gateways.len() - 1
            });
            if let Some(shown) = status.gateways.get_mut(place) {
                change(shown);
            }
        });
    }

    /// Shows a gateway no more.
    pub(super) fn hide_gateway(&self, gateway: &Gateway) {
        let is_other = |shown: &GatewayStatus| shown.gateway != gateway.address || shown.interface != gateway.interface;
        self.status.send_modify(|status| status.gateways.retain(is_other));
    }

    /// Shows no STUN servers, for they are asked anew.
    pub(super) fn hide_servers(&self) {
        self.status.send_modify(|status| status.servers.clear());
    }

    /// Shows what came of asking a STUN server.
    pub(super) fn show_server(&self, server: String, result: Result<SocketAddr, String>) {
        let (address, last_error) = match result {
            Ok(address) => (Some(address), None),
            Err(error) => (None, Some(error)),
        };
        self.status.send_modify(|status| status.servers.push(ServerStatus { server, address, last_error }));
    }
}
