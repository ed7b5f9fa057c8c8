//! In-place AEAD by ring: AES-256-GCM (NIST SP 800-38D) and ChaCha20-Poly1305 (RFC 8439), with the header as additional data.

use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::wire::{HEADER_LEN, Suites, TAG_LEN};

/// One direction's key.
pub struct AeadKey {
    key: LessSafeKey,
    big_endian: bool,
}

/// The AEAD refused: authentication failed, or the slice has no room for header and tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AeadError;

impl AeadKey {
    /// A key for `suite`; `None` where that names no single known suite.
    #[must_use]
    pub fn new(suite: Suites, bytes: &[u8; 32]) -> Option<Self> {
        let (algorithm, big_endian) = match suite {
            Suites::AES_256_GCM => (&AES_256_GCM, true),
            Suites::CHACHA20_POLY1305 => (&CHACHA20_POLY1305, false),
            Suites(_) => return None,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, bytes).ok()?);
        Some(Self { key, big_endian })
    }

    /// Four zero bytes, then the counter in the byte order that Noise gives the cipher (Noise §12.3, §12.4).
    #[inline]
    fn nonce(&self, counter: u64) -> Nonce {
        let mut nonce = [0; 12];
        let bytes = if self.big_endian { counter.to_be_bytes() } else { counter.to_le_bytes() };
        nonce[4..].copy_from_slice(&bytes);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals `datagram` = header, plaintext, room for the tag.
    ///
    /// # Errors
    /// [`AeadError`] where there is no such room.
    #[inline]
    pub fn seal(&self, counter: u64, datagram: &mut [u8]) -> Result<(), AeadError> {
        let (header, rest) = datagram.split_first_chunk_mut::<HEADER_LEN>().ok_or(AeadError)?;
        let (plaintext, room) = rest.split_last_chunk_mut::<TAG_LEN>().ok_or(AeadError)?;
        let tag = self.key.seal_in_place_separate_tag(self.nonce(counter), Aad::from(&*header), plaintext);
        room.copy_from_slice(tag.map_err(|_| AeadError)?.as_ref());
        Ok(())
    }

    /// Opens `datagram` = header, ciphertext, tag; returns the plaintext's length.
    ///
    /// # Errors
    /// [`AeadError`]; the ciphertext is then overwritten.
    #[inline]
    pub fn open(&self, counter: u64, datagram: &mut [u8]) -> Result<usize, AeadError> {
        let (header, rest) = datagram.split_first_chunk_mut::<HEADER_LEN>().ok_or(AeadError)?;
        let opened = self.key.open_in_place(self.nonce(counter), Aad::from(&*header), rest);
        opened.map(|plaintext| plaintext.len()).map_err(|_| AeadError)
    }
}

/// Whether this CPU has instructions for AES and carry-less multiplication, without which AES-GCM loses to ChaCha20.
#[must_use]
pub fn has_fast_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}
