//! mac1, mac2 and cookies: cheap refusal of strangers, and proof of address under load (after WireGuard §5.3, §5.4.4, §5.4.7).
//!
//! mac1 proves that the sender knows whom it talks to; it is checked before anything costly. Under load a responder also
//! wants mac2, keyed by a cookie that only the holder of the sender's address can have received.

use std::net::SocketAddr;
use std::time::Duration;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use zeroize::Zeroizing;

use super::crypto::{labelled_key, mac};
use crate::address::ip_bytes;
use crate::id::PublicKey;
use crate::time::Instant;
use crate::wire::{CookieReply, MAC_LEN};

/// How long a cookie secret lives; a cookie is valid for one to two of these (WireGuard §5.4.7: two minutes).
const COOKIE_LIFETIME: Duration = Duration::from_secs(120);

const MAC1_LABEL: &[u8] = b"meshd v1 mac1";
const COOKIE_LABEL: &[u8] = b"meshd v1 cookie";

/// Computes and checks mac1 for messages to the holder of one public key.
#[derive(Clone)]
pub struct Mac1 {
    key: hmac::Key,
    cookie_key: hmac::Key,
}

impl Mac1 {
    /// For messages that the holder of `key` receives.
    #[must_use]
    pub fn new(key: &PublicKey) -> Self {
        Self { key: labelled_key(MAC1_LABEL, key), cookie_key: labelled_key(COOKIE_LABEL, key) }
    }

    /// Whether a received message's mac1 is right.
    #[must_use]
    pub fn verify(&self, datagram: &[u8]) -> bool {
        let Some((signed, macs)) = datagram.split_last_chunk::<{ 2 * MAC_LEN }>() else { return false };
        constant_time_equal(&mac(&self.key, signed), &macs[..MAC_LEN])
    }

    /// Appends mac1, and mac2 where a cookie is held, to a message; returns the mac1.
    pub fn append(&self, message: &mut Vec<u8>, cookie: Option<&Cookie>) -> [u8; MAC_LEN] {
        let mac1 = mac(&self.key, message);
        message.extend(mac1);
        let mac2 = cookie.map_or([0; MAC_LEN], |cookie| mac(&cookie.key(), message));
        message.extend(mac2);
        mac1
    }

    /// Opens a cookie reply from the holder of the key, given to a message of ours with this mac1.
    #[must_use]
    pub fn open_cookie(&self, reply: &CookieReply, mac1: &[u8; MAC_LEN]) -> Option<Cookie> {
        let mut sealed = reply.sealed;
        let key = reply_key(&self.cookie_key, &reply.nonce)?;
        let cookie = key.open_in_place(Nonce::assume_unique_for_key([0; 12]), Aad::from(mac1), &mut sealed).ok()?;
        <[u8; 16]>::try_from(&*cookie).ok().map(|bytes| Cookie(Zeroizing::new(bytes)))
    }
}

/// Proof of address that a responder under load gave us.
#[derive(Clone)]
pub struct Cookie(Zeroizing<[u8; 16]>);

impl Cookie {
    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice())
    }
}

/// The responder's changing secret from which cookies are made.
pub struct CookieSecret {
    current: hmac::Key,
    previous: hmac::Key,
    since: Instant,
}

impl CookieSecret {
    /// Starts with 32 random bytes.
    #[must_use]
    pub fn new(seed: [u8; 32], now: Instant) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &seed);
        Self { current: key.clone(), previous: key, since: now }
    }

    /// Changes the secret where it is old. `seed` is called for 32 random bytes then.
    pub fn refresh(&mut self, now: Instant, seed: impl FnOnce() -> [u8; 32]) {
        if now - self.since >= COOKIE_LIFETIME {
            let fresh = hmac::Key::new(hmac::HMAC_SHA256, &seed());
            self.previous = std::mem::replace(&mut self.current, fresh);
            self.since = now;
        }
    }

    /// Whether mac2 of a message from `source` proves that its sender receives there.
    #[must_use]
    pub fn verify(&self, datagram: &[u8], source: SocketAddr) -> bool {
        let Some((signed, mac2)) = datagram.split_last_chunk::<MAC_LEN>() else { return false };
        // Who has no cookie says so: nearly all of a storm, which costs no hashing here then.
        if *mac2 == [0; MAC_LEN] {
            return false;
        }
        [&self.current, &self.previous].into_iter().any(|secret| {
            let cookie = Cookie(Zeroizing::new(cookie_of(secret, source)));
            constant_time_equal(&mac(&cookie.key(), signed), mac2)
        })
    }

    /// The reply that gives `source` its cookie. `own` is the mac1 of this node; `nonce` is 16 fresh random bytes.
    #[must_use]
    pub fn reply(&self, own: &Mac1, datagram: &[u8], source: SocketAddr, nonce: [u8; 16]) -> Option<CookieReply> {
        let (_, macs) = datagram.split_last_chunk::<{ 2 * MAC_LEN }>()?;
        let mac1 = macs.first_chunk::<MAC_LEN>()?;
        let mut sealed = [0; 32];
        let (cookie, tag_room) = sealed.split_at_mut(16);
        cookie.copy_from_slice(&cookie_of(&self.current, source));
        let key = reply_key(&own.cookie_key, &nonce)?;
        let nonce_zero = Nonce::assume_unique_for_key([0; 12]);
        let tag = key.seal_in_place_separate_tag(nonce_zero, Aad::from(mac1), cookie).ok()?;
        tag_room.copy_from_slice(tag.as_ref());
        let receiver = crate::id::SessionIndex(u32::from_le_bytes(*datagram.get(4..)?.first_chunk()?));
        Some(CookieReply { receiver, nonce, sealed })
    }
}

/// The cookie of an address and port under a secret.
fn cookie_of(secret: &hmac::Key, source: SocketAddr) -> [u8; 16] {
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&ip_bytes(source.ip()));
    bytes[16..].copy_from_slice(&source.port().to_be_bytes());
    mac(secret, &bytes)
}

/// The one-time key of a cookie reply. A fresh key per nonce lets the AEAD nonce be zero.
fn reply_key(key: &hmac::Key, nonce: &[u8; 16]) -> Option<LessSafeKey> {
    let bytes = hmac::sign(key, nonce);
    UnboundKey::new(&CHACHA20_POLY1305, bytes.as_ref()).ok().map(LessSafeKey::new)
}

fn constant_time_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "192.0.2.1:6374";

    fn message(to: &Mac1, cookie: Option<&Cookie>) -> (Vec<u8>, [u8; 16]) {
        let mut message = vec![1, 0, 0, 0, 9, 9, 9, 9, 42];
        let mac1 = to.append(&mut message, cookie);
        (message, mac1)
    }

    #[test]
    fn mac1_is_right_only_for_its_receiver_and_its_bytes() {
        let (ours, other) = (Mac1::new(&PublicKey([1; 32])), Mac1::new(&PublicKey([2; 32])));
        let (mut message, _) = message(&ours, None);
        assert!(ours.verify(&message) && !other.verify(&message));
        message[8] ^= 1;
        assert!(!ours.verify(&message));
        assert!(!ours.verify(&[]));
    }

    #[test]
    fn a_cookie_proves_the_address_that_it_was_sent_to_and_no_other() {
        let (mac1, now) = (Mac1::new(&PublicKey([1; 32])), Instant::ORIGIN);
        let secret = CookieSecret::new([3; 32], now);
        let source: SocketAddr = SOURCE.parse().unwrap();
        let (first, first_mac) = message(&mac1, None);
        assert!(!secret.verify(&first, source));
        let reply = secret.reply(&mac1, &first, source, [5; 16]).unwrap();
        let reply = CookieReply::parse(&reply.to_bytes()).unwrap();
        assert!(mac1.open_cookie(&reply, &[0; 16]).is_none(), "a reply to another message");
        let cookie = mac1.open_cookie(&reply, &first_mac).unwrap();
        let (second, _) = message(&mac1, Some(&cookie));
        assert!(secret.verify(&second, source));
        assert!(!secret.verify(&second, "192.0.2.1:6375".parse().unwrap()), "another port");
        assert!(!secret.verify(&second, "192.0.2.2:6374".parse().unwrap()), "another address");
    }

    #[test]
    fn a_cookie_outlives_one_change_of_the_secret_but_not_two() {
        let mac1 = Mac1::new(&PublicKey([1; 32]));
        let mut secret = CookieSecret::new([3; 32], Instant::ORIGIN);
        let source: SocketAddr = SOURCE.parse().unwrap();
        let (first, first_mac) = message(&mac1, None);
        let reply = secret.reply(&mac1, &first, source, [5; 16]).unwrap();
        let cookie = mac1.open_cookie(&reply, &first_mac).unwrap();
        let (second, _) = message(&mac1, Some(&cookie));
        secret.refresh(Instant::ORIGIN + COOKIE_LIFETIME, || [4; 32]);
        assert!(secret.verify(&second, source));
        secret.refresh(Instant::ORIGIN + COOKIE_LIFETIME * 2, || [5; 32]);
        assert!(!secret.verify(&second, source));
    }
}
