//! In-place AEAD with the header as additional data: one key type over the libraries that do the work.
//!
//! | suite | library |
//! |---|---|
//! | AES-256-GCM, AES-128-GCM (NIST SP 800-38D) | ring or AWS-LC, see [`AesBackend::detect`] |
//! | ChaCha20-Poly1305 (RFC 8439) | ring |
//! | AEGIS-128L, AEGIS-128X2 (RFC 10032) | libaegis |
//!
//! What they hold of a key is wiped: AWS-LC clears what it frees, the keys of AEGIS wipe themselves, and ring's boxes are
//! the business of the program's allocator.

mod cpu;

use aegis::aegis128l::Aegis128L;
use aegis::aegis128x2::Aegis128X2;
use aws_lc_rs::aead as aws_lc;
use ring::aead as ring;
use zeroize::Zeroizing;

pub use cpu::{AesBackend, has_fast_aes, supported_suites};

use crate::wire::{HEADER_LEN, Suite, TAG_LEN};

/// Bytes of the longest nonce, AEGIS's. The others use its last 12.
const NONCE_LEN: usize = 16;

/// Bytes of the key of a 128-bit suite.
const SHORT_KEY_LEN: usize = 16;

/// One direction's key.
pub struct AeadKey {
    cipher: Cipher,
    big_endian: bool,
}

/// A key in the hands of its library.
enum Cipher {
    // Boxed: with its tables in place it would make every key half a kilobyte.
    Ring(Box<ring::LessSafeKey>),
    AwsLc(aws_lc::LessSafeKey),
    Aegis128L(Zeroizing<[u8; SHORT_KEY_LEN]>),
    Aegis128X2(Zeroizing<[u8; SHORT_KEY_LEN]>),
}

/// The AEAD refused: authentication failed, or the slice has no room for header and tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AeadError;

impl AeadKey {
    /// A key for `suite`, in the library that is fastest on this CPU. A suite with 128-bit keys takes the first half of
    /// `bytes`. `None` where the library refuses it, which none does.
    #[must_use]
    pub fn new(suite: Suite, bytes: &[u8; 32]) -> Option<Self> {
        Self::with_backend(suite, bytes, AesBackend::detect())
    }

    /// The same with AES-GCM by `backend`, whatever the CPU: for tests and measurements.
    #[must_use]
    pub fn with_backend(suite: Suite, bytes: &[u8; 32], backend: AesBackend) -> Option<Self> {
        let cipher = Cipher::new(suite, bytes, backend)?;
        Some(Self { cipher, big_endian: matches!(suite, Suite::Aes256Gcm | Suite::Aes128Gcm) })
    }

    /// Zero bytes, then the counter: as Noise gives it to the cipher (Noise §12.3, §12.4), little-endian for AEGIS, of which
    /// Noise does not know.
    #[inline]
    fn nonce(&self, counter: u64) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        let bytes = if self.big_endian { counter.to_be_bytes() } else { counter.to_le_bytes() };
        nonce[NONCE_LEN - 8..].copy_from_slice(&bytes);
        nonce
    }

    /// Seals `datagram` = header, plaintext, room for the tag.
    ///
    /// # Errors
    /// [`AeadError`] where there is no such room.
    #[inline]
    pub fn seal(&self, counter: u64, datagram: &mut [u8]) -> Result<(), AeadError> {
        let (header, rest) = datagram.split_first_chunk_mut::<HEADER_LEN>().ok_or(AeadError)?;
        let (plaintext, room) = rest.split_last_chunk_mut::<TAG_LEN>().ok_or(AeadError)?;
        *room = self.cipher.seal(&self.nonce(counter), header, plaintext)?;
        Ok(())
    }

    /// Opens `datagram` = header, ciphertext, tag; returns the plaintext's length.
    ///
    /// # Errors
    /// [`AeadError`]; the ciphertext is then overwritten.
    #[inline]
    pub fn open(&self, counter: u64, datagram: &mut [u8]) -> Result<usize, AeadError> {
        let (header, sealed) = datagram.split_first_chunk_mut::<HEADER_LEN>().ok_or(AeadError)?;
        self.cipher.open(&self.nonce(counter), header, sealed)
    }
}

impl Cipher {
    fn new(suite: Suite, bytes: &[u8; 32], backend: AesBackend) -> Option<Self> {
        let (short, _) = bytes.split_first_chunk::<SHORT_KEY_LEN>()?;
        match (suite, backend) {
            (Suite::Aes256Gcm, AesBackend::Ring) => Self::ring(&ring::AES_256_GCM, bytes),
            (Suite::Aes128Gcm, AesBackend::Ring) => Self::ring(&ring::AES_128_GCM, short),
            (Suite::Aes256Gcm, AesBackend::AwsLc) => Self::aws_lc(&aws_lc::AES_256_GCM, bytes),
            (Suite::Aes128Gcm, AesBackend::AwsLc) => Self::aws_lc(&aws_lc::AES_128_GCM, short),
            (Suite::ChaCha20Poly1305, _) => Self::ring(&ring::CHACHA20_POLY1305, bytes),
            (Suite::Aegis128L, _) => Some(Self::Aegis128L(Zeroizing::new(*short))),
            (Suite::Aegis128X2, _) => Some(Self::Aegis128X2(Zeroizing::new(*short))),
        }
    }

    fn ring(algorithm: &'static ring::Algorithm, bytes: &[u8]) -> Option<Self> {
        let key = ring::UnboundKey::new(algorithm, bytes).ok()?;
        Some(Self::Ring(Box::new(ring::LessSafeKey::new(key))))
    }

    fn aws_lc(algorithm: &'static aws_lc::Algorithm, bytes: &[u8]) -> Option<Self> {
        let key = aws_lc::UnboundKey::new(algorithm, bytes).ok()?;
        Some(Self::AwsLc(aws_lc::LessSafeKey::new(key)))
    }

    /// Encrypts `text` in place and returns the tag.
    #[inline]
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], text: &mut [u8]) -> Result<[u8; TAG_LEN], AeadError> {
        match self {
            Self::Ring(key) => {
                let nonce = ring::Nonce::assume_unique_for_key(short(nonce));
                let tag = key.seal_in_place_separate_tag(nonce, ring::Aad::from(aad), text).map_err(|_| AeadError)?;
                tag.as_ref().try_into().map_err(|_| AeadError)
            }
            Self::AwsLc(key) => {
                let nonce = aws_lc::Nonce::assume_unique_for_key(short(nonce));
                let tag = key.seal_in_place_separate_tag(nonce, aws_lc::Aad::from(aad), text).map_err(|_| AeadError)?;
                tag.as_ref().try_into().map_err(|_| AeadError)
            }
            Self::Aegis128L(key) => Ok(Aegis128L::new(key, nonce).encrypt_in_place(text, aad)),
            Self::Aegis128X2(key) => Ok(Aegis128X2::new(key, nonce).encrypt_in_place(text, aad)),
        }
    }

    /// Opens `sealed` = ciphertext, tag in place; returns the plaintext's length.
    #[inline]
    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &mut [u8]) -> Result<usize, AeadError> {
        let (text, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(AeadError)?;
        let len = text.len();
        match self {
            Self::Ring(key) => {
                let nonce = ring::Nonce::assume_unique_for_key(short(nonce));
                key.open_in_place(nonce, ring::Aad::from(aad), sealed).map_err(|_| AeadError)?;
            }
            Self::AwsLc(key) => {
                let nonce = aws_lc::Nonce::assume_unique_for_key(short(nonce));
                key.open_in_place(nonce, aws_lc::Aad::from(aad), sealed).map_err(|_| AeadError)?;
            }
            Self::Aegis128L(key) => {
                Aegis128L::new(key, nonce).decrypt_in_place(text, tag, aad).map_err(|_| AeadError)?;
            }
            Self::Aegis128X2(key) => {
                Aegis128X2::new(key, nonce).decrypt_in_place(text, tag, aad).map_err(|_| AeadError)?;
            }
        }
        Ok(len)
    }
}

/// The nonce of a cipher that takes 96 bits.
#[inline]
fn short(nonce: &[u8; NONCE_LEN]) -> [u8; 12] {
    let [_, _, _, _, rest @ ..] = *nonce;
    rest
}

#[cfg(test)]
mod tests;
