//! Identifiers and checked values: names, keys, indices. Parse once, then pass the type around.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Dense index of a peer in this process: the position of its run-time state. Never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u32);

impl PeerId {
    /// The index as a `usize`, to address dense tables.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Random 32-bit name that the receiver of datagrams gave to a session (WireGuard §5.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionIndex(pub u32);

impl fmt::Display for SessionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The name of a member: `<cluster>.<node>`, each part a DNS label (RFC 1123 §2.1), in lower case. Clones share its text:
/// whoever knows ten thousand peers knows each by name in several places, so the dot is looked for when it is wanted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointName(Arc<str>);

/// Why a text is no [`EndpointName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no dot, or more than one.
    #[error("a name has the form <cluster>.<node>, for example beijing.edge1")]
    Form,
    /// A part is empty or longer than 63 characters.
    #[error("each part of a name has 1 to 63 characters")]
    Length,
    /// A character other than `a-z`, `0-9` and an inner `-`.
    #[error("a name has lower-case letters, digits and inner hyphens only")]
    Character,
}

impl EndpointName {
    /// The cluster (site) part.
    #[must_use]
    pub fn cluster(&self) -> &str {
        self.parts().0
    }

    /// The node part.
    #[must_use]
    pub fn node(&self) -> &str {
        self.parts().1
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once('.').unwrap_or_default()
    }
}

impl FromStr for EndpointName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (cluster, node) = text.split_once('.').ok_or(NameError::Form)?;
        if node.contains('.') {
            return Err(NameError::Form);
        }
        for label in [cluster, node] {
            check_label(label)?;
        }
        Ok(Self(text.into()))
    }
}

fn check_label(label: &str) -> Result<(), NameError> {
    if label.is_empty() || label.len() > 63 {
        return Err(NameError::Length);
    }
    let inner = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !inner || label.starts_with('-') || label.ends_with('-') {
        return Err(NameError::Character);
    }
    Ok(())
}

impl fmt::Display for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An X25519 public key (RFC 7748 §6.1); as text 44 characters of base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// An X25519 private key. Wiped when dropped; has no `Debug`, and is text only by [`SecretKey::to_base64`].
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; 32]);

/// A pre-shared key of 32 bytes, mixed in by `psk2`. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; 32]);

/// A text is not 32 bytes of base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is 32 bytes in base64: 44 characters ending in =")]
pub struct KeyError;

impl SecretKey {
    /// A key of these bytes; X25519 clamps them when it uses them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes. The caller must not print or keep them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key as text, for the key file.
    #[must_use]
    pub fn to_base64(&self) -> zeroize::Zeroizing<String> {
        zeroize::Zeroizing::new(BASE64.encode(self.0))
    }
}

impl PresharedKey {
    /// All zeros: what `psk2` mixes in where no key is configured (WireGuard §5.2).
    pub const NONE: Self = Self([0; 32]);

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn decode(text: &str) -> Result<[u8; 32], KeyError> {
    let bytes = zeroize::Zeroizing::new(BASE64.decode(text.trim()).map_err(|_| KeyError)?);
    <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| KeyError)
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self)
    }
}

impl FromStr for SecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self)
    }
}

impl FromStr for PresharedKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = BASE64.encode(self.0);
        write!(f, "PublicKey({}…)", text.get(..8).unwrap_or_default())
    }
}

/// What two nodes must share to be in one mesh: a digest of the mesh's name, bound into every handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeshId(pub [u8; 32]);

impl MeshId {
    /// The identifier of the mesh with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"meshd mesh id v1");
        context.update(name.as_bytes());
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        Self(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_exactly_two_labels() {
        let name: EndpointName = "beijing.edge1".parse().unwrap();
        assert_eq!((name.cluster(), name.node(), name.as_str()), ("beijing", "edge1", "beijing.edge1"));
        for (text, why) in [
            ("edge1", NameError::Form),
            ("a.b.c", NameError::Form),
            (".edge1", NameError::Length),
            ("beijing.", NameError::Length),
            ("Beijing.edge1", NameError::Character),
            ("bei_jing.edge1", NameError::Character),
            ("-b.edge1", NameError::Character),
            ("b.edge1-", NameError::Character),
        ] {
            assert_eq!(text.parse::<EndpointName>(), Err(why), "{text}");
        }
        assert_eq!(format!("{}.e", "a".repeat(64)).parse::<EndpointName>(), Err(NameError::Length));
    }

    #[test]
    fn keys_survive_their_text_form_and_nothing_else_parses() {
        let key = PublicKey([7; 32]);
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!("".parse::<PublicKey>(), Err(KeyError));
        assert_eq!(BASE64.encode([7; 31]).parse::<PublicKey>(), Err(KeyError));
        assert_eq!("not base64 at all!".parse::<PublicKey>(), Err(KeyError));
    }

    #[test]
    fn debug_output_shows_no_whole_key() {
        assert!(format!("{:?}", PublicKey([7; 32])).len() < 25);
    }
}
