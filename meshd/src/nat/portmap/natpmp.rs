//! The messages of NAT-PMP (RFC 6886 §3). Integers are big-endian.

use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::time::Duration;

use super::MapError;

/// Asks for the gateway's external address.
pub(super) const ADDRESS_REQUEST: [u8; 2] = [VERSION, 0];

const VERSION: u8 = 0;
const MAP_UDP: u8 = 1;
const RESPONSE: u8 = 0x80;
const ADDRESS_LEN: usize = 12;
const MAP_LEN: usize = 16;

/// Names of the result codes (RFC 6886 §3.5).
const RESULTS: [&str; 6] =
    ["success", "unsupported version", "not authorized", "network failure", "out of resources", "unsupported opcode"];

/// Reads the answer to [`ADDRESS_REQUEST`]; `None` where it is none.
pub(super) fn read_address(answer: &[u8]) -> Option<Result<Ipv4Addr, MapError>> {
    if let Err(error) = result(answer, 0)? {
        return Some(Err(error));
    }
    let ip = Ipv4Addr::from(*answer.get(8..ADDRESS_LEN)?.first_chunk::<4>()?);
    let is_address = answer.len() == ADDRESS_LEN && !ip.is_unspecified() && !ip.is_multicast();
    Some(if is_address { Ok(ip) } else { Err(MapError::Nonsense("no external address")) })
}

/// Asks for a mapping, its renewal, or with a lifetime of zero its deletion.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapRequest {
    pub(super) internal: NonZeroU16,
    /// What we should like to have; 0 where it is deleted.
    pub(super) external: u16,
    /// Seconds.
    pub(super) lifetime: u32,
}

/// What was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) external: u16,
    pub(super) lifetime: Duration,
}

impl MapRequest {
    pub(super) fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        (bytes[0], bytes[1]) = (VERSION, MAP_UDP);
        bytes[4..6].copy_from_slice(&self.internal.get().to_be_bytes());
        bytes[6..8].copy_from_slice(&self.external.to_be_bytes());
        bytes[8..].copy_from_slice(&self.lifetime.to_be_bytes());
        bytes
    }

    /// Reads an answer; `None` where it is none to this request.
    pub(super) fn read(&self, answer: &[u8]) -> Option<Result<Granted, MapError>> {
        if let Err(error) = result(answer, MAP_UDP)? {
            return Some(Err(error));
        }
        let &[_, _, _, _, _, _, _, _, i, j, e, f, a, b, c, d] = answer.first_chunk::<MAP_LEN>()?;
        if u16::from_be_bytes([i, j]) != self.internal.get() || answer.len() != MAP_LEN {
            return None;
        }
        let (external, lifetime) = (u16::from_be_bytes([e, f]), u32::from_be_bytes([a, b, c, d]));
        if self.lifetime != 0 && (external == 0 || lifetime == 0) {
            return Some(Err(MapError::Nonsense("no port, or for no time")));
        }
        Some(Ok(Granted { external, lifetime: Duration::from_secs(lifetime.into()) }))
    }
}

/// What an answer to this opcode says of success; `None` where it is an answer to something else.
fn result(answer: &[u8], opcode: u8) -> Option<Result<(), MapError>> {
    let &[version, answered, high, low, ..] = answer.first_chunk::<8>()?;
    if version != VERSION || answered != RESPONSE | opcode {
        return None;
    }
    let code = usize::from(u16::from_be_bytes([high, low]));
    Some(match code {
        0 => Ok(()),
        1 | 5 => Err(MapError::Unsupported),
        _ => Err(MapError::Refused(RESULTS.get(code).copied().unwrap_or("unknown result code").to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> MapRequest {
        MapRequest { internal: NonZeroU16::new(6374).unwrap(), external: 7_000, lifetime: 7_200 }
    }

    #[test]
    fn a_request_has_the_layout_of_rfc_6886() {
        assert_eq!(request().to_bytes(), [0, 1, 0, 0, 0x18, 0xe6, 0x1b, 0x58, 0, 0, 0x1c, 0x20]);
    }

    #[test]
    fn an_answer_grants_refuses_or_is_none_to_this_request() {
        let good = [0, 0x81, 0, 0, 0, 0, 0, 7, 0x18, 0xe6, 0x1b, 0x59, 0, 0, 0x0e, 0x10];
        let granted = request().read(&good).unwrap().unwrap();
        assert_eq!(granted, Granted { external: 7_001, lifetime: Duration::from_secs(3_600) });
        assert!(matches!(request().read(&[0, 0x81, 0, 2, 0, 0, 0, 7]), Some(Err(MapError::Refused(_)))));
        assert!(matches!(request().read(&[0, 0x81, 0, 5, 0, 0, 0, 7]), Some(Err(MapError::Unsupported))));
        for at in [0, 1, 9] {
            let mut other = good;
            other[at] = 0x33;
            assert!(request().read(&other).is_none(), "byte {at}");
        }
        let none = [0, 0x81, 0, 0, 0, 0, 0, 7, 0x18, 0xe6, 0, 0, 0, 0, 0, 0];
        assert!(matches!(request().read(&none), Some(Err(MapError::Nonsense(_)))));
        assert!(MapRequest { external: 0, lifetime: 0, ..request() }.read(&none).unwrap().is_ok());
    }

    #[test]
    fn an_address_is_one() {
        let answer = |last| [0, 0x80, 0, 0, 0, 0, 0, 7, 203, 0, 113, last];
        assert_eq!(read_address(&answer(9)).unwrap().unwrap(), Ipv4Addr::new(203, 0, 113, 9));
        assert!(matches!(read_address(&[0, 0x80, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0]), Some(Err(MapError::Nonsense(_)))));
        assert!(matches!(read_address(&[0, 0x80, 0, 3, 0, 0, 0, 7]), Some(Err(MapError::Refused(_)))));
        assert!(read_address(&[2, 0x80, 0, 0]).is_none() && read_address(&answer(9)[..11]).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..20), is_address: bool) {
            let _ = (request().read(&bytes), read_address(&bytes));
            if let Some(start) = bytes.first_chunk_mut() {
                *start = [0, RESPONSE | u8::from(!is_address)];
            }
            let _ = (request().read(&bytes), read_address(&bytes));
        }
    }
}
