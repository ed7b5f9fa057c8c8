//! The token: the secret that those configure who should find each other, and the key made of it.

use std::fmt;
use std::str::FromStr;

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::key::{BeaconKey, derive};
use crate::id::MeshId;

const LABEL: &[u8] = b"meshd beacon v1 token";

/// Hex digits of a short token.
const SHORT_LEN: usize = 8;

/// Fewest hex digits of a good token, 128 bits.
const HEX_LEN: usize = 32;

/// Fewest base64 characters of a good token, 132 bits.
const BASE64_LEN: usize = 22;

/// Longest token in characters, far beyond what is of use.
const LONGEST: usize = 128;

/// Fewest different characters of a good token. Of 32 random hex digits fewer come once in ten million times.
const DIFFERENT: usize = 8;

/// What Argon2id takes for a short token: 19 MiB twice over, the least that OWASP's Password Storage Cheat Sheet advises.
/// Some 30 ms on a server; a small box takes perhaps ten times as long, once at start.
const ARGON2: (u32, u32, u32) = (19 * 1024, 2, 1);

/// A token that was found fit. Wiped when dropped; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    text: Zeroizing<String>,
    strength: Strength,
}

/// How hard a token is to guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// At least 128 bits, as far as one can tell.
    Good,
    /// Eight hex digits: 32 bits, which days of guessing at a recorded beacon find.
    Short,
}

/// Why a text is no [`Token`]. Never shows the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Fewer characters than 128 bits need, or more than 128.
    #[error("is not 32 to 128 hex digits or 22 to 128 characters of base64")]
    Length,
    /// A character that neither hex nor base64 has.
    #[error("has characters that are neither hex nor base64")]
    Character,
    /// Words or repetition.
    #[error("does not look random")]
    Pattern,
}

impl Token {
    /// How hard it is to guess.
    #[must_use]
    pub const fn strength(&self) -> Strength {
        self.strength
    }

    /// The key of its holders in `mesh`. For a short token this takes up to a second and 19 MiB, so call it once.
    /// `None` where the libraries refuse, which they do not.
    #[must_use]
    pub fn key(&self, mesh: &MeshId) -> Option<BeaconKey> {
        let key = match self.strength {
            Strength::Good => derive(LABEL, self.text.as_bytes(), b"")?,
            Strength::Short => self.stretch(mesh)?,
        };
        Some(BeaconKey::from_bytes(*key))
    }

    /// Argon2id (RFC 9106). The mesh is the salt, so that a table of all short tokens serves against one mesh at most.
    fn stretch(&self, mesh: &MeshId) -> Option<Zeroizing<[u8; 32]>> {
        let (memory, passes, lanes) = ARGON2;
        let params = Params::new(memory, passes, lanes, None).ok()?;
        let mut key = Zeroizing::new([0; 32]);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(self.text.as_bytes(), &mesh.0, key.as_mut_slice()).ok()?;
        Some(key)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        // As written by hand or by tools: padding and the case of hex digits make no other token.
        let text = text.trim_end_matches('=');
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let token = |strength| {
            let text = if is_hex { text.to_ascii_lowercase() } else { text.to_owned() };
            Ok(Self { text: Zeroizing::new(text), strength })
        };
        if is_hex && text.len() == SHORT_LEN {
            return token(Strength::Short);
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')) {
            return Err(TokenError::Character);
        }
        let shortest = if is_hex { HEX_LEN } else { BASE64_LEN };
        if !(shortest..=LONGEST).contains(&text.len()) {
            return Err(TokenError::Length);
        }
        if is_hex && different(text) < DIFFERENT || !is_hex && !looks_random(text) {
            return Err(TokenError::Pattern);
        }
        token(Strength::Good)
    }
}

/// Whether base64 has what hardly any phrase has: many characters, of both cases.
fn looks_random(text: &str) -> bool {
    let has = |is: fn(&u8) -> bool| text.as_bytes().iter().any(is);
    different(text) >= DIFFERENT && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase)
}

fn different(text: &str) -> usize {
    text.bytes().collect::<std::collections::BTreeSet<_>>().len()
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:?})", self.strength)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SecretKey;
    use proptest::prelude::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f";

    fn key(text: &str, mesh: &str) -> [u8; 32] {
        let token: Token = text.parse().unwrap();
        *token.key(&MeshId::from_name(mesh)).unwrap().as_bytes()
    }

    #[test]
    fn good_tokens_have_128_bits_and_short_ones_eight_hex_digits() {
        for text in [HEX, "AAECAwQFBgcICQoLDA0ODw", "AAECAwQFBgcICQoLDA0ODw==", "AAEC_wQFBgcI-QoLDA0ODxAR"] {
            assert_eq!(text.parse::<Token>().map(|token| token.strength()), Ok(Strength::Good), "{text}");
        }
        for text in ["1b1bb567", "1B1BB567", "00000000"] {
            assert_eq!(text.parse::<Token>().map(|token| token.strength()), Ok(Strength::Short), "{text}");
        }
        for (text, why) in [
            ("", TokenError::Length),
            ("1b1bb56", TokenError::Length),
            ("1b1bb5678", TokenError::Length),
            ("lab", TokenError::Length),
            (&HEX[1..], TokenError::Length),
            ("AAECAwQFBgcICQoLDA0OD", TokenError::Length),
            (&HEX.repeat(5), TokenError::Length),
            ("correct horse battery staple", TokenError::Character),
            ("\u{430}AECAwQFBgcICQoLDA0ODw", TokenError::Character),
            ("correcthorsebatterystaple", TokenError::Pattern),
            (&"01".repeat(16), TokenError::Pattern),
            (&"Zz".repeat(16), TokenError::Pattern),
        ] {
            assert_eq!(text.parse::<Token>().map(|_| ()), Err(why), "{text}");
        }
    }

    #[test]
    fn equal_tokens_make_equal_keys_however_they_are_written() {
        assert_eq!(key(HEX, "lab"), key(&HEX.to_uppercase(), "lab"));
        assert_eq!(key("AAECAwQFBgcICQoLDA0ODw", "lab"), key("AAECAwQFBgcICQoLDA0ODw==", "lab"));
        assert_eq!(key("1b1bb567", "lab"), key("1B1BB567", "lab"));
        assert_ne!(key(HEX, "lab"), key(&HEX.replacen('0', "1", 1), "lab"));
    }

    #[test]
    fn a_short_token_has_another_key_in_each_mesh() {
        assert_ne!(key("1b1bb567", "lab"), key("1b1bb567", "field"));
    }

    #[test]
    fn no_token_is_shown() {
        let token: Token = HEX.parse().unwrap();
        assert_eq!(format!("{token:?}"), "Token(Good)");
    }

    proptest! {
        #[test]
        fn what_the_key_command_prints_is_a_good_token(bytes: [u8; 32]) {
            let text = SecretKey::from_bytes(bytes).to_base64();
            prop_assert_eq!(text.parse::<Token>().map(|token| token.strength()), Ok(Strength::Good));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = text.parse::<Token>();
        }
    }
}
