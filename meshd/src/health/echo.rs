//! One ICMP echo to one host (RFC 792, RFC 4443 section 4).

use std::io;
use std::net::{IpAddr, SocketAddr};

use proto::packet::checksum;
use ring::rand::{SecureRandom as _, SystemRandom};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::probation::PATIENCE;

/// Random bytes by which an answer is told from those to others.
const TOKEN: usize = 16;

/// Type, code, checksum, identifier and sequence number.
const HEADER: usize = 8;

/// Packets read in vain for one answer; a socket of the raw kind shows all of the host's ICMP.
const MAX_READ: u32 = 64;

/// Whether a host answers to a ping in time. A socket for each, so that none outlives the addresses and routes that it was made for.
///
/// # Errors
/// When it cannot be asked: no socket, or no way there.
pub(super) async fn answers(host: IpAddr) -> io::Result<bool> {
    let socket = open(host)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SocketAddr::new(host, 0).into())?;
    let mut token = [0; TOKEN];
    SystemRandom::new().fill(&mut token).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    // To the runtime it is a socket of messages like any other.
    let socket = UdpSocket::from_std(socket.into())?;
    socket.send(&request(host, token)).await?;
    match tokio::time::timeout(PATIENCE, answered(&socket, host, token)).await {
        Ok(result) => result,
        Err(_) => Ok(false),
    }
}

/// Of the kind that shows only its own answers where the system gives it (`net.ipv4.ping_group_range`), or else a raw one.
fn open(host: IpAddr) -> io::Result<Socket> {
    let (domain, protocol) = match host {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    Socket::new(domain, Type::DGRAM, Some(protocol)).or_else(|_| Socket::new(domain, Type::RAW, Some(protocol)))
}

fn request(host: IpAddr, token: [u8; TOKEN]) -> Vec<u8> {
    let kind = if host.is_ipv4() { 8 } else { 128 };
    let identifier = [token[0], token[1]];
    let mut message = [&[kind, 0, 0, 0], &identifier[..], &[0, 1], &token[..]].concat();
    if host.is_ipv4() {
        // The kernel does it for IPv6, whose sum covers the addresses.
        let sum = !checksum::sum(&message);
        message.splice(2..4, sum.to_be_bytes());
    }
    message
}

async fn answered(socket: &UdpSocket, host: IpAddr, token: [u8; TOKEN]) -> io::Result<bool> {
    let mut buffer = [0; 256];
    for _ in 0..MAX_READ {
        let len = socket.recv(&mut buffer).await?;
        if buffer.get(..len).is_some_and(|packet| is_answer(packet, host, token)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The packet may begin with its IPv4 header: raw sockets show it.
fn is_answer(packet: &[u8], host: IpAddr, token: [u8; TOKEN]) -> bool {
    let header = packet.first().filter(|first| host.is_ipv4() && **first >> 4 == 4);
    let header = header.map_or(0, |first| usize::from(first & 0xf) * 4);
    let kind = if host.is_ipv4() { 0 } else { 129 };
    let message = packet.get(header..).unwrap_or_default();
    message.first() == Some(&kind) && message.get(HEADER..).is_some_and(|payload| payload == token)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN_BYTES: [u8; TOKEN] = [0x45; TOKEN];

    #[test]
    fn a_request_is_a_ping_with_a_right_checksum_and_its_answer_is_told_with_and_without_an_ip_header() {
        let host: IpAddr = "10.1.2.3".parse().unwrap();
        let mut message = request(host, TOKEN_BYTES);
        assert_eq!((message[0], checksum::sum(&message)), (8, 0xffff));
        assert!(!is_answer(&message, host, TOKEN_BYTES), "our own, on loopback");
        message[0] = 0;
        assert!(is_answer(&message, host, TOKEN_BYTES));
        assert!(!is_answer(&message, host, [1; TOKEN]), "somebody else's");
        let header = [[0x45].as_slice(), &[0; 19]].concat();
        assert!(is_answer(&[header, message.clone()].concat(), host, TOKEN_BYTES));
        message[0] = 129;
        assert!(is_answer(&message, "fd00::1".parse().unwrap(), TOKEN_BYTES));
        assert!(!is_answer(&[], host, TOKEN_BYTES));
    }
}
