//! A carrier, a relay's acceptor and two stand-ins for daemons on one machine.

use super::*;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use proto::member::Host;

/// Long enough for anything on one machine.
const LIMIT: Duration = Duration::from_secs(10);

/// A daemon's socket, and its TLS.
fn daemon() -> (UdpSocket, Tls) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, Tls::new(Surroundings { underlay: Underlay::default(), mark: None, port }))
}

fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn carrier_to(at: SocketAddr, client: &mut Tls) -> SocketAddrV4 {
    client.relays.insert(PeerId(1), vec![PublicAddress { host: Host::Ip(at.ip()), port: at.port() }]);
    client.open(PeerId(1)).unwrap().unwrap()
}

#[test]
fn datagrams_reach_the_daemon_behind_the_acceptor_and_its_answers_come_back() {
    let ((here, mut client), (there, mut relay), at) = (daemon(), daemon(), free_port());
    let prepared = relay.prepare(&[at]).unwrap();
    relay.serve(prepared);
    let carrier = carrier_to(at, &mut client);
    assert_eq!(client.open(PeerId(1)).unwrap(), Some(carrier), "one for each relay");
    assert_eq!(client.open(PeerId(2)).unwrap(), None);
    let mut buffer = [0; 1 << 16];
    for size in [1, 2, 1_452, 1_452, 9_000, 65_507, 3] {
        let datagram = vec![size as u8; size];
        here.send_to(&datagram, carrier).unwrap();
        let (len, source) = there.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[..len], datagram);
        assert!(source.ip().is_loopback() && source.ip() != Ipv4Addr::LOCALHOST, "{source} stands for the client");
        there.send_to(&datagram, source).unwrap();
        assert_eq!(here.recv_from(&mut buffer).unwrap(), (size, SocketAddr::V4(carrier)));
    }
    // Nobody else speaks through it.
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    other.send_to(b"other", carrier).unwrap();
    here.send_to(b"mine", carrier).unwrap();
    let (len, _) = there.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"mine");
}

#[test]
fn a_carrier_finds_a_relay_that_comes_up_later_and_again_after_it_was_gone() {
    let ((here, mut client), at) = (daemon(), free_port());
    let carrier = carrier_to(at, &mut client);
    for _ in 0..2 {
        let (there, mut relay) = daemon();
        there.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        here.send_to(b"too early", carrier).unwrap();
        let prepared = relay.prepare(&[at]).unwrap();
        relay.serve(prepared);
        let started = std::time::Instant::now();
        let mut buffer = [0; 100];
        loop {
            here.send_to(b"hello", carrier).unwrap();
            if there.recv(&mut buffer).is_ok() {
                break;
            }
            assert!(started.elapsed() < LIMIT);
        }
        drop(relay);
        // Its listener goes with its thread.
        while TcpStream::connect(at).is_ok() {
            assert!(started.elapsed() < LIMIT);
        }
    }
}

#[test]
fn who_does_not_speak_tls_is_sent_away_and_reaches_no_daemon() {
    let ((there, mut relay), at) = (daemon(), free_port());
    let prepared = relay.prepare(&[at]).unwrap();
    relay.serve(prepared);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 600], &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 9]] {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(garbage).unwrap();
        let mut said = Vec::new();
        // An alert, or a reset.
        let _ = stream.read_to_end(&mut said);
        assert!(said.len() < 64, "{said:?}");
    }
    there.set_nonblocking(true).unwrap();
    assert!(there.recv(&mut [0; 1]).is_err());
}

#[test]
fn one_source_gets_so_many_connections_and_places_come_back() {
    let ((_there, mut relay), at) = (daemon(), free_port());
    let prepared = relay.prepare(&[at]).unwrap();
    relay.serve(prepared);
    let is_open = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        // What is refused is closed at once; what is taken waits for a TLS hello.
        stream.read(&mut [0; 1]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    };
    let mut streams: Vec<TcpStream> = (0..=limit::MAX_OF_SOURCE).map(|_| TcpStream::connect(at).unwrap()).collect();
    assert!(!is_open(streams.last_mut().unwrap()));
    assert!(is_open(&mut streams[0]));
    drop(streams);
    let started = std::time::Instant::now();
    while !is_open(&mut TcpStream::connect(at).unwrap()) {
        assert!(started.elapsed() < LIMIT);
    }
}

#[test]
fn a_port_that_is_taken_is_told() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = taken.local_addr().unwrap();
    let (place, error) = daemon().1.prepare(&[at]).err().unwrap();
    assert_eq!((place, error.kind()), (at, io::ErrorKind::AddrInUse));
}

#[test]
fn a_port_is_given_up_by_everywhere_for_one_address_and_back() {
    let ((_there, mut relay), port) = (daemon(), free_port().port());
    let everywhere = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
    let one = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // What is no TLS is sent away by who takes connections; one that came to a socket in the moment of its end is reset.
    let try_once = |host: [u8; 4]| {
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::from(host), port)) else { return false };
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
        stream.read_to_end(&mut Vec::new()).err().is_none_or(|error| error.kind() == io::ErrorKind::ConnectionReset)
    };
    let is_served = |host: [u8; 4]| (0..100).any(|_| try_once(host));
    let is_left = |host: [u8; 4]| {
        let started = std::time::Instant::now();
        while TcpStream::connect((Ipv4Addr::from(host), port)).is_ok() {
            assert!(started.elapsed() < LIMIT);
        }
    };
    let prepared = relay.prepare(&[everywhere]).unwrap();
    relay.serve(prepared);
    for _ in 0..2 {
        drop(relay.prepare(&[one]).expect("the port is this daemon's own"));
        assert!(is_served([127, 0, 0, 1]) && is_served([127, 0, 0, 2]), "a change that was not made");
        let prepared = relay.prepare(&[one]).unwrap();
        relay.serve(prepared);
        is_left([127, 0, 0, 2]);
        assert!(is_served([127, 0, 0, 1]));
        assert!(TcpListener::bind(one).is_err(), "it shares with nobody else");
        let prepared = relay.prepare(&[everywhere]).unwrap();
        relay.serve(prepared);
        assert!(is_served([127, 0, 0, 1]) && is_served([127, 0, 0, 2]));
    }
}
