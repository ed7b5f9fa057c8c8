//! Beacons: what members on one LAN tell each other by multicast. One size for all, so that sizes tell nothing.
//!
//! ```text
//! Beacon      type 6 | version 1 | 0 0 | salt 16 | sealed plaintext 220 + tag 16           = 256 bytes
//! plaintext   mesh id 32 | sender's key 32 | timestamp u64 | sequence u64 | port u16 | flags u8 | count u8
//!             | 7 times: address 16, port u16 | reserved 10                                = 220 bytes
//! ```
//! IPv4 addresses are mapped to IPv6 (RFC 4291 §2.5.5.2). A beacon says where its sender is reached, never what lies behind
//! it.

use std::net::SocketAddr;

use super::{TAG_LEN, WireError, array};
use crate::address::{self, ADDRESS_LEN};
use crate::id::{MeshId, PublicKey};

/// Bytes of every beacon.
pub const BEACON_LEN: usize = 256;

/// Bytes before the salt; the AEAD authenticates them.
pub const BEACON_HEADER: [u8; 4] = [6, 1, 0, 0];

/// Bytes of a beacon's salt.
pub const BEACON_SALT_LEN: usize = 16;

/// Bytes of ciphertext and tag.
pub const BEACON_SEALED_LEN: usize = BEACON_LEN - BEACON_HEADER.len() - BEACON_SALT_LEN;

/// Bytes of the plaintext.
pub const BEACON_PLAINTEXT_LEN: usize = BEACON_SEALED_LEN - TAG_LEN;

/// Most further addresses in one beacon.
pub const MAX_BEACON_ADDRESSES: usize = 7;

/// Bytes before the addresses.
const FIXED_LEN: usize = 84;

const _: () = assert!(FIXED_LEN + MAX_BEACON_ADDRESSES * ADDRESS_LEN <= BEACON_PLAINTEXT_LEN);

/// A received beacon, not opened yet.
#[derive(Clone, Copy, Debug)]
pub struct SealedBeacon<'a> {
    /// Chosen at random; derives the key of this beacon.
    pub salt: &'a [u8; BEACON_SALT_LEN],
    /// Ciphertext and tag.
    pub sealed: &'a [u8; BEACON_SEALED_LEN],
}

impl<'a> SealedBeacon<'a> {
    /// Views the datagram.
    ///
    /// # Errors
    /// [`WireError::Length`] for any other size than [`BEACON_LEN`]; [`WireError::UnknownType`] for another type or version.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        let datagram: &[u8; BEACON_LEN] = datagram.try_into().map_err(|_| WireError::Length)?;
        let rest = datagram.strip_prefix(&BEACON_HEADER).ok_or(WireError::UnknownType)?;
        let (salt, rest) = rest.split_first_chunk().ok_or(WireError::Length)?;
        Ok(Self { salt, sealed: rest.try_into().map_err(|_| WireError::Length)? })
    }
}

/// What a beacon says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// The sender's mesh.
    pub mesh: MeshId,
    /// The sender's static public key. The token proves that the sender knows the token, not that it has this key.
    pub sender: PublicKey,
    /// Milliseconds since 1970 by the sender's clock; never smaller than in the sender's beacon before.
    pub timestamp: u64,
    /// Beacons that the sender made before in this run.
    pub sequence: u64,
    /// UDP port at which the sender takes datagrams, at the address that this came from; not 0.
    pub port: u16,
    /// Where the sender is reached besides; at most [`MAX_BEACON_ADDRESSES`], and of no interface in particular.
    pub addresses: Vec<SocketAddr>,
}

impl Beacon {
    /// Reads a plaintext; flags and reserved bytes are ignored. `None` where the port is 0 or there are too many addresses.
    #[must_use]
    pub fn parse(plaintext: &[u8; BEACON_PLAINTEXT_LEN]) -> Option<Self> {
        let [port @ .., _flags, count] = array::<4>(plaintext, 80);
        let (port, count) = (u16::from_le_bytes(port), usize::from(count));
        if port == 0 || count > MAX_BEACON_ADDRESSES {
            return None;
        }
        let (entries, _) = plaintext.get(FIXED_LEN..)?.as_chunks::<ADDRESS_LEN>();
        let addresses = entries.iter().take(count).map(address::from_bytes);
        Some(Self {
            mesh: MeshId(array(plaintext, 0)),
            sender: PublicKey(array(plaintext, 32)),
            timestamp: u64::from_le_bytes(array(plaintext, 64)),
            sequence: u64::from_le_bytes(array(plaintext, 72)),
            port,
            addresses: addresses.collect(),
        })
    }

    /// The plaintext; addresses beyond the first [`MAX_BEACON_ADDRESSES`] are left out.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; BEACON_PLAINTEXT_LEN] {
        let mut bytes = [0; BEACON_PLAINTEXT_LEN];
        bytes[..32].copy_from_slice(&self.mesh.0);
        bytes[32..64].copy_from_slice(&self.sender.0);
        bytes[64..72].copy_from_slice(&self.timestamp.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[80..82].copy_from_slice(&self.port.to_le_bytes());
        let addresses = self.addresses.iter().take(MAX_BEACON_ADDRESSES);
        let (entries, _) = bytes[FIXED_LEN..].as_chunks_mut::<ADDRESS_LEN>();
        let mut count = 0;
        for (entry, address) in entries.iter_mut().zip(addresses) {
            *entry = address::to_bytes(*address);
            count += 1;
        }
        bytes[83] = count;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn beacon() -> impl Strategy<Value = Beacon> {
        let address =
            any::<SocketAddr>().prop_map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()));
        let addresses = prop::collection::vec(address, 0..=MAX_BEACON_ADDRESSES);
        (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u64>(), any::<u64>(), 1u16.., addresses).prop_map(
            |(mesh, sender, timestamp, sequence, port, addresses)| {
                let (mesh, sender) = (MeshId(mesh), PublicKey(sender));
                Beacon { mesh, sender, timestamp, sequence, port, addresses }
            },
        )
    }

    #[test]
    fn the_plaintext_has_its_documented_layout() {
        let addresses = vec!["192.0.2.1:6374".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap()];
        let (mesh, sender) = (MeshId([1; 32]), PublicKey([2; 32]));
        let beacon = Beacon { mesh, sender, timestamp: 0x0303, sequence: 0x0404, port: 0x0506, addresses };
        let bytes = beacon.to_bytes();
        assert_eq!((&bytes[..32], &bytes[32..64]), (&[1; 32][..], &[2; 32][..]));
        assert_eq!(bytes[64..84], [3, 3, 0, 0, 0, 0, 0, 0, 4, 4, 0, 0, 0, 0, 0, 0, 6, 5, 0, 2]);
        assert_eq!(bytes[84..102], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1, 0xe6, 0x18]);
        assert_eq!(bytes[102..106], [0x20, 1, 0x0d, 0xb8]);
        assert_eq!((BEACON_SEALED_LEN, BEACON_PLAINTEXT_LEN), (236, 220));
    }

    #[test]
    fn flags_and_reserved_bytes_are_ignored_and_a_port_of_zero_is_refused() {
        let (mesh, sender) = (MeshId([1; 32]), PublicKey([2; 32]));
        let beacon = Beacon { mesh, sender, timestamp: 1, sequence: 2, port: 3, addresses: Vec::new() };
        let mut bytes = beacon.to_bytes();
        bytes[82] = 0xff;
        bytes[84..].fill(0xff);
        assert_eq!(Beacon::parse(&bytes), Some(beacon));
        bytes[83] = 8;
        assert_eq!(Beacon::parse(&bytes), None, "eight addresses");
        (bytes[80], bytes[83]) = (0, 0);
        assert_eq!(Beacon::parse(&bytes), None, "port 0");
    }

    proptest! {
        #[test]
        fn a_beacon_survives_its_encoding(beacon in beacon()) {
            prop_assert_eq!(Beacon::parse(&beacon.to_bytes()), Some(beacon));
        }

        #[test]
        fn only_the_one_size_type_and_version_parse(mut bytes in prop::collection::vec(any::<u8>(), 0..300), header: bool) {
            if header && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&BEACON_HEADER);
            }
            let is_beacon = bytes.len() == BEACON_LEN && bytes.starts_with(&BEACON_HEADER);
            prop_assert_eq!(SealedBeacon::parse(&bytes).is_ok(), is_beacon);
        }
    }
}
