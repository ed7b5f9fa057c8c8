//! Where the headers of an inner packet end: IPv4 (RFC 791), IPv6 (RFC 8200), TCP (RFC 9293), UDP (RFC 768).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Gso;
use super::MAX_PACKET;

/// The headers of one packet. All offsets count from the first byte of the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// IP version.
    pub version: Version,
    /// What follows the IP header, as far as meshd can work with it.
    pub transport: Transport,
    /// Where the IP header (and its IPv4 options) ends.
    pub l4_offset: usize,
    /// Where all headers end: past the TCP options or the UDP header; `l4_offset` for [`Transport::Other`].
    pub header_len: usize,
}

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

/// A transport whose packets can be segmented and coalesced, or any other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A whole TCP segment.
    Tcp,
    /// A whole UDP datagram that fills its IP packet.
    Udp,
    /// Everything else: other protocols, IPv4 fragments, IPv6 extension headers, and UDP with a surplus area (RFC
    /// 9868).
    Other,
}

/// Why bytes are not a packet that meshd carries, or not with the offload that they came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end within the headers.
    #[error("{len} bytes end within the headers")]
    TooShort {
        /// Bytes there are.
        len: usize,
    },
    /// More bytes than [`MAX_PACKET`].
    #[error("{len} bytes are more than a packet may have")]
    TooLong {
        /// Bytes there are.
        len: usize,
    },
    /// Neither IPv4 nor IPv6.
    #[error("IP version {version}")]
    BadVersion {
        /// The version field.
        version: u8,
    },
    /// The IP or UDP length field contradicts the byte count.
    #[error("a length field says {stated} bytes, but there are {actual}")]
    LengthMismatch {
        /// Bytes according to the field.
        stated: usize,
        /// Bytes there are.
        actual: usize,
    },
    /// An IPv4 header length below 20 bytes or beyond the packet.
    #[error("IPv4 header length {len}")]
    BadHeaderLength {
        /// Bytes according to the field.
        len: usize,
    },
    /// A TCP data offset below 20 bytes or beyond the packet.
    #[error("TCP data offset {len}")]
    BadDataOffset {
        /// Bytes according to the field.
        len: usize,
    },
    /// A super-packet that does not hold the transport its offload names.
    #[error("super-packet of kind {gso:?} with transport {transport:?}")]
    WrongTransport {
        /// What the offload says.
        gso: Gso,
        /// What the packet holds.
        transport: Transport,
    },
    /// A super-packet with segments of zero bytes.
    #[error("super-packet without segment size")]
    NoSegmentSize,
    /// A partial checksum in a packet without a checksum that meshd could complete.
    #[error("partial checksum, but neither TCP nor UDP")]
    NoChecksumField,
    /// The packet is said to lie where there is no memory.
    #[error("{len} bytes at {start} lie outside the memory")]
    OutsideMemory {
        /// Offset of the first byte.
        start: usize,
        /// Bytes.
        len: usize,
    },
}

impl Layout {
    /// Finds the headers of `packet`, whose IP length must be its byte count exactly.
    ///
    /// # Errors
    /// [`Malformed`] says which header field contradicts the bytes.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        if packet.len() > MAX_PACKET {
            return Err(Malformed::TooLong { len: packet.len() });
        }
        match packet.first().map(|first| first >> 4) {
            Some(4) => parse_v4(packet),
            Some(6) => parse_v6(packet),
            Some(version) => Err(Malformed::BadVersion { version }),
            None => Err(Malformed::TooShort { len: 0 }),
        }
    }

    /// Where the transport's checksum field lies; `None` for [`Transport::Other`].
    #[inline]
    #[must_use]
    pub const fn checksum_offset(&self) -> Option<usize> {
        match self.transport {
            Transport::Tcp => Some(self.l4_offset.saturating_add(16)),
            Transport::Udp => Some(self.l4_offset.saturating_add(6)),
            Transport::Other => None,
        }
    }
}

/// Source and destination. Looks at nothing but the version and the minimum header length.
#[inline]
#[must_use]
pub fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => {
            let (source, destination) = split_pair::<4, 8>(packet.get(12..)?.first_chunk()?)?;
            Some((Ipv4Addr::from(source).into(), Ipv4Addr::from(destination).into()))
        }
        6 => {
            let (source, destination) = split_pair::<16, 32>(packet.get(8..)?.first_chunk()?)?;
            Some((Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into()))
        }
        _ => None,
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;
/// More-fragments flag and fragment offset (RFC 791 §3.1): all zero in a whole packet.
const FRAGMENT: u16 = 0x3fff;

pub(super) const IPV4_HEADER: usize = 20;
pub(super) const IPV6_HEADER: usize = 40;
pub(super) const TCP_HEADER: usize = 20;
pub(super) const UDP_HEADER: usize = 8;

impl Transport {
    /// Its protocol number; zero for [`Transport::Other`].
    pub(super) const fn protocol(self) -> u8 {
        match self {
            Self::Tcp => TCP,
            Self::Udp => UDP,
            Self::Other => 0,
        }
    }
}

#[inline]
fn parse_v4(packet: &[u8]) -> Result<Layout, Malformed> {
    let header = packet.first_chunk::<IPV4_HEADER>().ok_or(Malformed::TooShort { len: packet.len() })?;
    let stated = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if stated != packet.len() {
        return Err(Malformed::LengthMismatch { stated, actual: packet.len() });
    }
    let len = usize::from(header[0] & 15) << 2;
    if len < IPV4_HEADER || len > packet.len() {
        return Err(Malformed::BadHeaderLength { len });
    }
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT != 0;
    parse_transport(packet, Version::V4, len, if is_fragment { 0 } else { header[9] })
}

#[inline]
fn parse_v6(packet: &[u8]) -> Result<Layout, Malformed> {
    let header = packet.first_chunk::<IPV6_HEADER>().ok_or(Malformed::TooShort { len: packet.len() })?;
    let stated = usize::from(u16::from_be_bytes([header[4], header[5]])).saturating_add(IPV6_HEADER);
    if stated != packet.len() {
        return Err(Malformed::LengthMismatch { stated, actual: packet.len() });
    }
    parse_transport(packet, Version::V6, IPV6_HEADER, header[6])
}

#[inline]
fn parse_transport(packet: &[u8], version: Version, l4_offset: usize, protocol: u8) -> Result<Layout, Malformed> {
    let rest = packet.get(l4_offset..).unwrap_or_default();
    let (transport, len) = match protocol {
        TCP => (Transport::Tcp, tcp_header_len(rest)?),
        UDP => udp_header_len(rest)?,
        _ => (Transport::Other, 0),
    };
    Ok(Layout { version, transport, l4_offset, header_len: l4_offset.saturating_add(len) })
}

#[inline]
fn tcp_header_len(rest: &[u8]) -> Result<usize, Malformed> {
    let header = rest.first_chunk::<TCP_HEADER>().ok_or(Malformed::TooShort { len: rest.len() })?;
    let len = usize::from(header[12] >> 4) << 2;
    if len < TCP_HEADER || len > rest.len() {
        return Err(Malformed::BadDataOffset { len });
    }
    Ok(len)
}

#[inline]
fn udp_header_len(rest: &[u8]) -> Result<(Transport, usize), Malformed> {
    let header = rest.first_chunk::<UDP_HEADER>().ok_or(Malformed::TooShort { len: rest.len() })?;
    let stated = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if stated == rest.len() {
        Ok((Transport::Udp, UDP_HEADER))
    } else if (UDP_HEADER..rest.len()).contains(&stated) {
        Ok((Transport::Other, 0))
    } else {
        Err(Malformed::LengthMismatch { stated, actual: rest.len() })
    }
}

#[inline]
fn split_pair<const N: usize, const M: usize>(pair: &[u8; M]) -> Option<([u8; N], [u8; N])> {
    Some((*pair.first_chunk()?, *pair.last_chunk()?))
}

/// Reads a big-endian field.
#[inline]
pub(super) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|field| u16::from_be_bytes(*field))
}

/// Writes a big-endian field; `None` where it lies outside.
#[inline]
pub(super) fn write_u16(bytes: &mut [u8], at: usize, value: u16) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = value.to_be_bytes();
    Some(())
}

/// A length that was checked against [`MAX_PACKET`], as the field that holds it.
#[inline]
pub(super) fn field(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}
