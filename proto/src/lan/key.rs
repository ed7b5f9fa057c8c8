//! The key that members of one LAN share, and how it seals their beacons.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::wire::{BEACON_HEADER, BEACON_LEN, BEACON_SALT_LEN, Beacon, SealedBeacon};

const LABEL: &[u8] = b"meshd beacon v1";

/// What seals and opens beacons; made from a [`Token`](super::Token). Wiped when dropped; has no `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct BeaconKey([u8; 32]);

/// A beacon does not open: it was sealed under another key, is damaged, or says what no beacon may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Authentication failed.
    Sealed,
    /// It is authentic and malformed.
    Malformed,
}

impl BeaconKey {
    /// A key of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes. The caller must not print or keep them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The datagram of a beacon. `salt` is fresh random bytes: two beacons with one salt would have one key and nonce.
    /// `None` where the library refuses, which it does not.
    #[must_use]
    pub fn seal(&self, beacon: &Beacon, salt: [u8; BEACON_SALT_LEN]) -> Option<Vec<u8>> {
        let mut plaintext = beacon.to_bytes();
        let key = self.of_beacon(&salt)?;
        let tag = key.seal_in_place_separate_tag(nonce(), Aad::from(BEACON_HEADER), &mut plaintext).ok()?;
        let mut datagram = Vec::with_capacity(BEACON_LEN);
        for part in [&BEACON_HEADER[..], &salt, &plaintext, tag.as_ref()] {
            datagram.extend(part);
        }
        Some(datagram)
    }

    /// Opens a beacon.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, beacon: &SealedBeacon<'_>) -> Result<Beacon, OpenError> {
        let key = self.of_beacon(beacon.salt).ok_or(OpenError::Sealed)?;
        let mut sealed = *beacon.sealed;
        let plaintext = key.open_in_place(nonce(), Aad::from(BEACON_HEADER), &mut sealed);
        let plaintext = plaintext.map_err(|_| OpenError::Sealed)?;
        plaintext.first_chunk().and_then(Beacon::parse).ok_or(OpenError::Malformed)
    }

    fn of_beacon(&self, salt: &[u8; BEACON_SALT_LEN]) -> Option<LessSafeKey> {
        let key = derive(salt, &self.0, LABEL)?;
        UnboundKey::new(&CHACHA20_POLY1305, key.as_slice()).ok().map(LessSafeKey::new)
    }
}

/// HKDF-SHA256 (RFC 5869), 32 bytes. `None` where the library refuses, which it does not for one block of output.
pub(super) fn derive(salt: &[u8], secret: &[u8], info: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let info = [info];
    pseudorandom.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(key.as_mut_slice())).ok()?;
    Some(key)
}

/// Each beacon has a key of its own, so the nonce may be zero.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{MeshId, PublicKey};
    use proptest::prelude::*;

    const KEY: BeaconKey = BeaconKey::from_bytes([7; 32]);

    fn beacon(addresses: usize) -> Beacon {
        let (mesh, sender) = (MeshId([1; 32]), PublicKey([2; 32]));
        let addresses = vec![std::net::SocketAddr::from(([192, 0, 2, 1], 6374)); addresses];
        Beacon { mesh, sender, timestamp: 1, sequence: 2, port: 6374, addresses }
    }

    fn open(key: &BeaconKey, datagram: &[u8]) -> Option<Beacon> {
        key.open(&SealedBeacon::parse(datagram).ok()?).ok()
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_under_the_same_key_only(key: [u8; 32], other: [u8; 32], salt: [u8; 16], n in 0usize..=7) {
            let (key, other) = (BeaconKey::from_bytes(key), BeaconKey::from_bytes(other));
            let datagram = key.seal(&beacon(n), salt).unwrap();
            prop_assert_eq!(datagram.len(), BEACON_LEN);
            prop_assert_eq!(open(&key, &datagram), Some(beacon(n)));
            prop_assert_eq!(open(&other, &datagram), None);
        }
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let datagram = KEY.seal(&beacon(3), [9; 16]).unwrap();
        for bit in 0..BEACON_LEN * 8 {
            let mut flipped = datagram.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&KEY, &flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn two_beacons_of_one_content_have_nothing_in_common_but_the_header() {
        let (one, two) = (KEY.seal(&beacon(0), [1; 16]).unwrap(), KEY.seal(&beacon(0), [2; 16]).unwrap());
        let same = one.iter().zip(&two).skip(4).filter(|(a, b)| a == b).count();
        assert!(same < 16, "{same} of 252 bytes");
    }
}
