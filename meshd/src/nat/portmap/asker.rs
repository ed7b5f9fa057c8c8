//! Asks one gateway, by the protocol that worked last, then by the others.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use ring::rand::{SecureRandom as _, SystemRandom};

use super::igd::Service;
use super::{MapError, Mapping, Pace, Protocol, exchange, igd, natpmp, pcp};
use crate::host::Gateway;

/// What is known of a gateway.
pub(super) struct Asker {
    gateway: Gateway,
    port: NonZeroU16,
    pace: Pace,
    /// Which protocol worked.
    known: Option<Protocol>,
    /// By which a PCP server knows that a renewal or deletion is ours (RFC 6887 §11.1).
    nonce: [u8; pcp::NONCE_LEN],
    /// The gateway's UPnP service, once found.
    service: Option<Service>,
}

impl Asker {
    pub(super) fn new(gateway: Gateway, port: NonZeroU16, pace: Pace) -> Self {
        let mut nonce = [0; pcp::NONCE_LEN];
        // Without randomness at this one moment the mapping is only easier to take away, from within our own network.
        let _ = SystemRandom::new().fill(&mut nonce);
        Self { gateway, port, pace, known: None, nonce, service: None }
    }

    pub(super) const fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    pub(super) const fn pace(&self) -> Pace {
        self.pace
    }

    /// Asks for a mapping, or for its renewal. The error says what each protocol met.
    pub(super) async fn map(&mut self, last: Option<Mapping>) -> Result<Mapping, String> {
        let mut errors = Vec::new();
        for protocol in self.order() {
            let asked = match protocol {
                Protocol::Pcp => self.map_by_pcp(last).await,
                Protocol::NatPmp => self.map_by_nat_pmp(last).await,
                Protocol::Igd => self.map_by_igd(last).await,
            };
            match asked {
                Ok(mapping) => {
                    self.known = Some(protocol);
                    return Ok(mapping);
                }
                Err(error) => errors.push(format!("{protocol}: {error}")),
            }
        }
        self.known = None;
        Err(errors.join("; "))
    }

    /// Deletes a mapping that [`Asker::map`] made.
    pub(super) async fn unmap(&mut self, mapping: Mapping) -> Result<(), MapError> {
        match mapping.protocol {
            Protocol::Pcp => {
                let request = pcp::Request { lifetime: 0, ..self.pcp_request(Some(mapping)) };
                exchange::ask(&self.gateway, self.pace, &request.to_bytes(), |answer| request.read(answer)).await?;
            }
            Protocol::NatPmp => {
                // RFC 6886 §3.4: with an external port of zero.
                let request = natpmp::MapRequest { internal: self.port, external: 0, lifetime: 0 };
                exchange::ask(&self.gateway, self.pace, &request.to_bytes(), |answer| request.read(answer)).await?;
            }
            Protocol::Igd => {
                if let Some(service) = &self.service {
                    service.delete(&self.gateway, self.pace, mapping.external.port()).await?;
                }
            }
        }
        Ok(())
    }

    /// Only PCP knows IPv6.
    fn order(&self) -> Vec<Protocol> {
        if self.gateway.address.is_ipv6() {
            return vec![Protocol::Pcp];
        }
        let all = [Protocol::Pcp, Protocol::NatPmp, Protocol::Igd];
        self.known.into_iter().chain(all.into_iter().filter(|protocol| Some(*protocol) != self.known)).collect()
    }

    fn seconds(&self) -> u32 {
        u32::try_from(self.pace.lifetime.as_secs()).unwrap_or(u32::MAX)
    }

    fn pcp_request(&self, last: Option<Mapping>) -> pcp::Request {
        let suggested = last.map(|mapping| mapping.external).filter(|e| e.is_ipv6() == self.gateway.own.is_ipv6());
        let suggested = suggested.unwrap_or_else(|| {
            let any = if self.gateway.own.is_ipv6() { IpAddr::from([0u16; 8]) } else { IpAddr::from([0u8; 4]) };
            SocketAddr::new(any, self.port.get())
        });
        pcp::Request { own: self.gateway.own, port: self.port, lifetime: self.seconds(), nonce: self.nonce, suggested }
    }

    async fn map_by_pcp(&self, last: Option<Mapping>) -> Result<Mapping, MapError> {
        let request = self.pcp_request(last);
        let granted =
            exchange::ask(&self.gateway, self.pace, &request.to_bytes(), |answer| request.read(answer)).await?;
        Ok(Mapping { protocol: Protocol::Pcp, external: granted.external, lifetime: granted.lifetime })
    }

    async fn map_by_nat_pmp(&self, last: Option<Mapping>) -> Result<Mapping, MapError> {
        let ip = exchange::ask(&self.gateway, self.pace, &natpmp::ADDRESS_REQUEST, natpmp::read_address).await?;
        let external = last.map_or(self.port.get(), |mapping| mapping.external.port());
        let request = natpmp::MapRequest { internal: self.port, external, lifetime: self.seconds() };
        let granted =
            exchange::ask(&self.gateway, self.pace, &request.to_bytes(), |answer| request.read(answer)).await?;
        let external = SocketAddr::new(ip.into(), granted.external);
        Ok(Mapping { protocol: Protocol::NatPmp, external, lifetime: granted.lifetime })
    }

    async fn map_by_igd(&mut self, last: Option<Mapping>) -> Result<Mapping, MapError> {
        let service = match self.service.take() {
            Some(service) => service,
            None => igd::discover(&self.gateway, self.pace).await?,
        };
        let external = last.map_or(self.port, |mapping| NonZeroU16::new(mapping.external.port()).unwrap_or(self.port));
        // Kept only if it works: a device that restarts may have its service elsewhere.
        let external = service.map(&self.gateway, self.pace, self.port, external).await?;
        self.service = Some(service);
        Ok(Mapping { protocol: Protocol::Igd, external, lifetime: self.pace.lifetime })
    }
}
