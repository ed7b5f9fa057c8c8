//! Invitations: one line of text by which a machine that nobody knows yet becomes a member.
//!
//! It carries what the machine has to know of the mesh, and a private key that is good for one thing: to tell the inviter, once,
//! the public key that the machine has made for itself. So it is a secret until it is used or has expired.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ipnet::IpNet;
use ring::digest;
use zeroize::Zeroizing;

use crate::address::ip_bytes;
use crate::id::{EndpointName, PublicKey, SecretKey};
use crate::member::{Host, Kind, PublicAddress};

/// What every invitation begins with.
pub const PREFIX: &str = "meshd-invite-1:";

/// Longest text that is looked at, in bytes: names, and lists of 16 entries each, with room for the blanks that mail adds.
const LONGEST: usize = 32 << 10;

/// Most entries in a list.
const MAX_LIST: usize = 16;

/// Bytes of the checksum at the end.
const CHECKSUM: usize = 8;

/// What a host's name may be long (RFC 1035 §2.3.4), and a mesh's name in UTF-8.
const MAX_TEXT: usize = 256;

/// A moment in whole seconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// The time that is left until this moment; zero when it has passed.
    #[must_use]
    pub const fn left(self, now: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(now.0))
    }
}

/// An endpoint that is invited and has not joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invited {
    /// The name that it will have.
    pub name: EndpointName,
    /// The public half of the key in its invitation.
    pub key: PublicKey,
    /// From this moment on the invitation is void.
    pub until: UnixTime,
}

/// What an invitation says.
#[derive(Clone)]
pub struct Invitation {
    /// The mesh's name.
    pub mesh: String,
    /// Who invites.
    pub inviter: Inviter,
    /// The name that the invited machine will have.
    pub name: EndpointName,
    /// The mesh addresses that it will have, besides the one that follows from its key.
    pub addresses: Vec<IpAddr>,
    /// When it becomes void.
    pub until: UnixTime,
    /// The key to enrol with.
    pub secret: SecretKey,
}

/// What the invited has to know of the inviter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inviter {
    /// Its name.
    pub name: EndpointName,
    /// Edge or connector.
    pub kind: Kind,
    /// Its public key.
    pub key: PublicKey,
    /// Where it is dialled, best first.
    pub public_addresses: Vec<PublicAddress>,
    /// Its mesh addresses, besides the one that follows from its key.
    pub addresses: Vec<IpAddr>,
    /// Prefixes behind it.
    pub subnets: Vec<IpNet>,
}

/// Why a text is no [`Invitation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// It does not begin as one.
    #[error("it does not begin with \"{PREFIX}\"")]
    Prefix,
    /// It is not what was written: cut short, or changed on its way.
    #[error("it is damaged: a part is missing or was changed on the way")]
    Damaged,
}

impl Invitation {
    /// The invitation as one line of [`PREFIX`] and base64url (RFC 4648 §5), its last bytes a checksum.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut body = Zeroizing::new(Vec::with_capacity(1024));
        put_text(&mut body, &self.mesh);
        put_text(&mut body, self.inviter.name.as_str());
        body.push(u8::from(self.inviter.kind == Kind::Connector));
        body.extend(self.inviter.key.0);
        put_list(&mut body, &self.inviter.public_addresses, put_place);
        put_list(&mut body, &self.inviter.addresses, put_ip);
        put_list(&mut body, &self.inviter.subnets, put_net);
        put_text(&mut body, self.name.as_str());
        put_list(&mut body, &self.addresses, put_ip);
        body.extend(self.until.0.to_le_bytes());
        body.extend(self.secret.as_bytes());
        let sum = checksum(&body);
        body.extend(sum);
        Zeroizing::new(format!("{PREFIX}{}", *Zeroizing::new(BASE64URL.encode(&*body))))
    }

    /// Reads what [`Invitation::to_text`] wrote. Blanks and line ends do no harm, for mail and chat add them.
    ///
    /// # Errors
    /// [`InvitationError`].
    pub fn parse(text: &str) -> Result<Self, InvitationError> {
        let start = text.get(..LONGEST.min(text.len())).filter(|_| text.len() <= LONGEST);
        let mut bare = Zeroizing::new(String::with_capacity(text.len()));
        bare.extend(start.ok_or(InvitationError::Damaged)?.chars().filter(|c| !c.is_ascii_whitespace()));
        let code = bare.strip_prefix(PREFIX).ok_or(InvitationError::Prefix)?;
        let bytes = Zeroizing::new(BASE64URL.decode(code).map_err(|_| InvitationError::Damaged)?);
        let body = bytes.split_last_chunk::<CHECKSUM>().filter(|(body, sum)| checksum(body) == **sum);
        let mut rest = Rest(body.ok_or(InvitationError::Damaged)?.0);
        // Fields after those known here are of a later version.
        rest.invitation().ok_or(InvitationError::Damaged)
    }

    /// As the inviter's mesh has it.
    #[must_use]
    pub fn invited(&self) -> Invited {
        Invited { name: self.name.clone(), key: self.secret.public_key(), until: self.until }
    }
}

impl fmt::Debug for Invitation {
    /// Shows everything but the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation")
            .field("mesh", &self.mesh)
            .field("inviter", &self.inviter)
            .field("name", &self.name)
            .field("addresses", &self.addresses)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"meshd invite v1");
    context.update(body);
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend(len.to_le_bytes());
    out.extend(bytes.iter().take(len.into()));
}

/// A longer list is cut: its best entries come first.
fn put_list<T>(out: &mut Vec<u8>, list: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    let len = list.len().min(MAX_LIST);
    out.push(len.try_into().unwrap_or_default());
    list.iter().take(len).for_each(|one| put(out, one));
}

fn put_place(out: &mut Vec<u8>, place: &PublicAddress) {
    let text = match &place.host {
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
    };
    put_text(out, &text);
    out.extend(place.port.to_le_bytes());
}

fn put_ip(out: &mut Vec<u8>, ip: &IpAddr) {
    out.extend(ip_bytes(*ip));
}

fn put_net(out: &mut Vec<u8>, net: &IpNet) {
    out.push(net.prefix_len());
    put_ip(out, &net.addr());
}

/// What is still to be read.
struct Rest<'b>(&'b [u8]);

impl Rest<'_> {
    fn invitation(&mut self) -> Option<Invitation> {
        let mesh = self.text()?;
        let inviter = Inviter {
            name: self.text()?.parse().ok()?,
            kind: if self.bytes::<1>()? == [1] { Kind::Connector } else { Kind::Edge },
            key: PublicKey(self.bytes()?),
            public_addresses: self.list(Self::place)?,
            addresses: self.list(Self::ip)?,
            subnets: self.list(Self::net)?,
        };
        let name = self.text()?.parse().ok()?;
        let addresses = self.list(Self::ip)?;
        let until = UnixTime(u64::from_le_bytes(self.bytes()?));
        Some(Invitation { mesh, inviter, name, addresses, until, secret: SecretKey::from_bytes(self.bytes()?) })
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn text(&mut self) -> Option<String> {
        let len = usize::from(u16::from_le_bytes(self.bytes()?));
        let (text, rest) = self.0.split_at_checked(len).filter(|_| len <= MAX_TEXT)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(str::to_owned)
    }

    fn list<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let [len] = self.bytes()?;
        if usize::from(len) > MAX_LIST {
            return None;
        }
        (0..len).map(|_| one(self)).collect()
    }

    fn place(&mut self) -> Option<PublicAddress> {
        let text = self.text()?;
        let host = text.parse().map_or(Host::Name(text), Host::Ip);
        Some(PublicAddress { host, port: u16::from_le_bytes(self.bytes()?) })
    }

    fn ip(&mut self) -> Option<IpAddr> {
        self.bytes::<16>().map(|bytes| IpAddr::from(bytes).to_canonical())
    }

    fn net(&mut self) -> Option<IpNet> {
        let [len] = self.bytes()?;
        IpNet::new(self.ip()?, len).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = EndpointName> {
        "[a-z][a-z0-9]{0,20}\\.[a-z0-9]{1,20}".prop_map(|text| text.parse().unwrap())
    }

    fn ips() -> impl Strategy<Value = Vec<IpAddr>> {
        let ip = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
        proptest::collection::vec(ip.prop_map(|ip| ip.to_canonical()), 0..=MAX_LIST)
    }

    fn places() -> impl Strategy<Value = Vec<PublicAddress>> {
        let name = "[a-z]{1,20}\\.example".prop_map(Host::Name);
        let host = prop_oneof![name, any::<[u8; 4]>().prop_map(|ip| Host::Ip(ip.into()))];
        let place = (host, any::<u16>()).prop_map(|(host, port)| PublicAddress { host, port });
        proptest::collection::vec(place, 0..=MAX_LIST)
    }

    fn inviter() -> impl Strategy<Value = Inviter> {
        let kind = proptest::sample::select(vec![Kind::Edge, Kind::Connector]);
        (name(), kind, any::<[u8; 32]>(), places(), ips(), ips()).prop_map(
            |(name, kind, key, public_addresses, addresses, nets)| Inviter {
                name,
                kind,
                key: PublicKey(key),
                public_addresses,
                addresses,
                subnets: nets.into_iter().map(IpNet::from).collect(),
            },
        )
    }

    fn invitation() -> impl Strategy<Value = Invitation> {
        ("\\PC{1,64}", inviter(), name(), ips(), any::<u64>(), any::<[u8; 32]>()).prop_map(
            |(mesh, inviter, name, addresses, until, secret)| Invitation {
                mesh,
                inviter,
                name,
                addresses,
                until: UnixTime(until),
                secret: SecretKey::from_bytes(secret),
            },
        )
    }

    proptest! {
        #[test]
        fn an_invitation_survives_its_text_and_what_mail_does_to_it(invitation in invitation(), width in 5usize..90) {
            let text = invitation.to_text();
            let wrapped: Vec<String> = text.as_bytes().chunks(width).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
            for written in [text.to_string(), format!("  {}\r\n", wrapped.join("\r\n  "))] {
                let read = Invitation::parse(&written).unwrap();
                prop_assert_eq!((&read.mesh, &read.inviter, &read.name), (&invitation.mesh, &invitation.inviter, &invitation.name));
                prop_assert_eq!((&read.addresses, read.until), (&invitation.addresses, invitation.until));
                prop_assert_eq!(read.secret.as_bytes(), invitation.secret.as_bytes());
            }
        }

        #[test]
        fn a_text_with_one_character_changed_or_left_out_is_refused(
            invitation in invitation(), at in any::<proptest::sample::Index>(), to in "[A-Za-z0-9_:-]"
        ) {
            let text = invitation.to_text();
            let at = at.index(text.len());
            let (before, after) = (&text[..at], &text[at + 1..]);
            prop_assume!(text[at..=at] != to);
            for changed in [[before, &to, after].concat(), [before, after].concat()] {
                prop_assert!(Invitation::parse(&changed).is_err());
            }
        }

        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,200}") {
            for any in [text.clone(), [PREFIX, &text].concat()] {
                prop_assert!(Invitation::parse(&any).is_err());
            }
        }
    }

    #[test]
    fn the_time_left_is_zero_once_it_has_passed() {
        assert_eq!(UnixTime(90).left(UnixTime(30)), Duration::from_secs(60));
        assert_eq!(UnixTime(90).left(UnixTime(91)), Duration::ZERO);
    }
}
