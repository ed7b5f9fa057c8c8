//! The messages of PCP that map a port (RFC 6887 §7, §11). Integers are big-endian.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use super::MapError;

/// Bytes of a nonce.
pub(super) const NONCE_LEN: usize = 12;

const HEADER_LEN: usize = 24;
const MAP_LEN: usize = HEADER_LEN + 36;
const VERSION: u8 = 2;
const MAP: u8 = 1;
const RESPONSE: u8 = 0x80;
const UDP: u8 = 17;

/// Names of the result codes (RFC 6887 §7.4), as far as they are known.
const RESULTS: [&str; 14] = [
    "success",
    "unsupported version",
    "not authorized",
    "malformed request",
    "unsupported opcode",
    "unsupported option",
    "malformed option",
    "network failure",
    "no resources",
    "unsupported protocol",
    "quota exceeded",
    "cannot provide external",
    "address mismatch",
    "excessive remote peers",
];

/// Asks for a mapping, its renewal, or with a lifetime of zero its deletion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) own: IpAddr,
    pub(super) port: NonZeroU16,
    /// Seconds.
    pub(super) lifetime: u32,
    pub(super) nonce: [u8; NONCE_LEN],
    /// What we should like to have; all zero for any.
    pub(super) suggested: SocketAddr,
}

/// What was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) external: SocketAddr,
    pub(super) lifetime: Duration,
}

impl Request {
    pub(super) fn to_bytes(self) -> [u8; MAP_LEN] {
        let mut bytes = [0; MAP_LEN];
        (bytes[0], bytes[1]) = (VERSION, MAP);
        bytes[4..8].copy_from_slice(&self.lifetime.to_be_bytes());
        bytes[8..24].copy_from_slice(&mapped(self.own).octets());
        bytes[24..36].copy_from_slice(&self.nonce);
        bytes[36] = UDP;
        bytes[40..42].copy_from_slice(&self.port.get().to_be_bytes());
        bytes[42..44].copy_from_slice(&self.suggested.port().to_be_bytes());
        bytes[44..].copy_from_slice(&mapped(self.suggested.ip()).octets());
        bytes
    }

    /// Reads an answer; `None` where it is none to this request.
    pub(super) fn read(&self, answer: &[u8]) -> Option<Result<Granted, MapError>> {
        let (&[version, opcode, _, result, ..], len) = (answer.first_chunk::<8>()?, answer.len());
        // A server of NAT-PMP answers so to any other version (RFC 6886 §3.5); what follows means something else.
        if version != VERSION || result == 1 {
            return (opcode & RESPONSE != 0 && version < VERSION + 1).then_some(Err(MapError::Unsupported));
        }
        if opcode != RESPONSE | MAP || len < MAP_LEN || !len.is_multiple_of(4) {
            return None;
        }
        let is_ours = answer.get(24..36) == Some(&self.nonce)
            && answer.get(36) == Some(&UDP)
            && answer.get(40..42) == Some(&self.port.get().to_be_bytes());
        if !is_ours {
            return None;
        }
        if result != 0 {
            let name = RESULTS.get(usize::from(result)).copied().unwrap_or("unknown result code");
            return Some(Err(MapError::Refused(name.to_owned())));
        }
        Some(self.granted(answer))
    }

    fn granted(&self, answer: &[u8]) -> Result<Granted, MapError> {
        let lifetime = u32::from_be_bytes(array(answer, 4));
        let ip = Ipv6Addr::from(array::<16>(answer, 44)).to_canonical();
        let external = SocketAddr::new(ip, u16::from_be_bytes(array(answer, 42)));
        let is_deletion = self.lifetime == 0;
        if !is_deletion && lifetime == 0 {
            return Err(MapError::Nonsense("a lifetime of zero"));
        }
        if !is_deletion && (external.port() == 0 || ip.is_unspecified() || ip.is_multicast()) {
            return Err(MapError::Nonsense("no external address"));
        }
        Ok(Granted { external, lifetime: Duration::from_secs(lifetime.into()) })
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// The `N` bytes of `bytes` from `at`, which the caller has checked to exist.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> Request {
        let (port, suggested) = (NonZeroU16::new(6374).unwrap(), "0.0.0.0:6374".parse().unwrap());
        Request { own: [192, 168, 1, 2].into(), port, lifetime: 7_200, nonce: [9; NONCE_LEN], suggested }
    }

    /// The answer that grants `203.0.113.9:7000` for an hour.
    fn answer() -> Vec<u8> {
        let mut bytes = request().to_bytes().to_vec();
        bytes[1] |= RESPONSE;
        bytes[4..8].copy_from_slice(&3_600u32.to_be_bytes());
        bytes[8..24].fill(0);
        bytes[42..44].copy_from_slice(&7_000u16.to_be_bytes());
        bytes[56..60].copy_from_slice(&[203, 0, 113, 9]);
        bytes
    }

    fn with(at: usize, byte: u8) -> Vec<u8> {
        let mut bytes = answer();
        bytes[at] = byte;
        bytes
    }

    #[test]
    fn a_request_has_the_layout_of_rfc_6887() {
        let mut expected = vec![2, 1, 0, 0, 0, 0, 0x1c, 0x20];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 2]);
        expected.extend([9; 12]);
        expected.extend([17, 0, 0, 0, 0x18, 0xe6, 0x18, 0xe6]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(request().to_bytes()[..], expected);
    }

    #[test]
    fn an_answer_grants_refuses_or_is_none_to_this_request() {
        let granted = request().read(&answer()).unwrap().unwrap();
        assert_eq!((granted.external.to_string(), granted.lifetime.as_secs()), ("203.0.113.9:7000".to_owned(), 3_600));
        assert!(matches!(request().read(&with(3, 2)), Some(Err(MapError::Refused(why))) if why == "not authorized"));
        assert!(matches!(request().read(&with(3, 200)), Some(Err(MapError::Refused(_)))));
        for at in [1, 24, 36, 41] {
            assert!(request().read(&with(at, 0x55)).is_none(), "byte {at} is another's");
        }
        assert!(request().read(&answer()[..56]).is_none());
    }

    #[test]
    fn a_gateway_of_another_version_is_told_from_one_that_refuses() {
        for answer in [&[0, 0x81, 0, 1, 0, 0, 0, 7][..], &[0, 0x80, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0], &with(3, 1)] {
            assert!(matches!(request().read(answer), Some(Err(MapError::Unsupported))), "{answer:?}");
        }
    }

    #[test]
    fn a_grant_without_an_address_or_time_is_no_grant() {
        let mut zero = answer();
        zero[4..8].fill(0);
        assert!(matches!(request().read(&zero), Some(Err(MapError::Nonsense(_)))));
        assert!(Request { lifetime: 0, ..request() }.read(&zero).unwrap().is_ok());
        for range in [42..44, 56..60] {
            let mut bytes = answer();
            bytes[range].fill(0);
            assert!(matches!(request().read(&bytes), Some(Err(MapError::Nonsense(_)))));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), at in 0usize..60, byte: u8) {
            let _ = (request().read(&bytes), request().read(&with(at, byte)));
        }
    }
}
