//! What a NAT does, told by plain UDP sockets on both sides of it (RFC 4787, and RFC 5780 for the way to find out).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Allocation, Behaviour, Filtering, Internet, Mapping, Ports, Station};
use crate::daemon::Family;

/// The ports of each reflector.
const PORTS: [u16; 2] = [3478, 3479];

/// The inner ports: of what the mapping is told by, of what the filtering is, and of two hosts that hairpin.
const MAPPING_PORT: u16 = 6374;
const FILTERING_PORT: u16 = 6375;
const HAIRPIN_PORT: u16 = 6376;

/// How long a datagram may take that should arrive: a slow link there and back, on a busy machine.
const ARRIVES: Duration = Duration::from_secs(5);

/// How long to wait for one that may not arrive: as generous as a slow link there and back needs.
const MAY_ARRIVE: Duration = Duration::from_millis(1500);

/// The same when one that was sent later has arrived.
const OVERDUE: Duration = Duration::from_millis(100);

/// The greatest distance of two ports that counts as a sequence.
const SEQUENCE: u16 = 16;

/// Three public hosts that see where datagrams come from, and can send back, from two ports each.
#[derive(Debug)]
pub struct Reflectors {
    station: Station,
    /// By family, reflector and port.
    sockets: [[[UdpSocket; 2]; 3]; 2],
    /// Makes each datagram like no other.
    count: AtomicU64,
}

impl Reflectors {
    /// Three in one namespace: nothing outside can tell, for each has addresses of its own.
    ///
    /// # Panics
    /// When there is a host `reflectors` already.
    #[must_use]
    pub fn new(internet: &Internet<'_>) -> Self {
        let (station, _link) = internet.host("reflectors", 3);
        let open = |family: Family, reflector: usize, port: u16| {
            bind(&station, SocketAddr::new(station.addresses(family)[reflector], port))
        };
        let sockets = Family::BOTH.map(|family| [0, 1, 2].map(|number| PORTS.map(|port| open(family, number, port))));
        Self { station, sockets, count: AtomicU64::new(0) }
    }

    /// The host that they run in.
    #[must_use]
    pub const fn station(&self) -> &Station {
        &self.station
    }

    /// What stands before `inner`; none when no UDP gets out. It uses the inner ports 6374 and 6375.
    ///
    /// # Panics
    /// When `inner` has no address of the family, or what one reflector hears others do not.
    #[must_use]
    pub fn measure(&self, inner: &Station, family: Family) -> Option<Behaviour> {
        let socket = inner_socket(inner, family, MAPPING_PORT);
        let [one, two, three] = self.of(family);
        let first = self.observe(&socket, &one[0])?;
        let rest = [&one[1], &two[0], &three[0]].map(|reflector| self.observe(&socket, reflector).expect("UDP passes"));
        Some(Behaviour {
            mapping: mapping([first, rest[0], rest[1], rest[2]].map(|outer| outer.port())),
            filtering: self.filtering(inner, family)?,
            ports: if first.port() == MAPPING_PORT { Ports::Preserved } else { Ports::Rewritten },
        })
    }

    /// The outer endpoint that `inner`'s socket has towards the first reflector; none when its datagram does not arrive.
    #[must_use]
    pub fn outer(&self, inner: &UdpSocket) -> Option<SocketAddr> {
        let family = if inner.local_addr().expect("an address").is_ipv4() { Family::V4 } else { Family::V6 };
        self.observe(inner, &self.of(family)[0][0])
    }

    /// Whether a datagram of the `reflector`th, 0 to 2, from its first port arrives at `inner` through the outer endpoint.
    #[must_use]
    pub fn reaches(&self, reflector: usize, outer: SocketAddr, inner: &UdpSocket) -> bool {
        let family = if outer.is_ipv4() { Family::V4 } else { Family::V6 };
        let word = self.word();
        send(&self.of(family)[reflector][0], &word, outer);
        hear(inner, &word, MAY_ARRIVE).is_some()
    }

    /// The source that `two` sees when `one`, in the same LAN, sends to its outer endpoint; none when nothing arrives. It
    /// uses the inner port 6376.
    ///
    /// # Panics
    /// When UDP does not get out.
    #[must_use]
    pub fn hairpin(&self, one: &Station, two: &Station, family: Family) -> Option<SocketAddr> {
        let [one, two] = [one, two].map(|station| inner_socket(station, family, HAIRPIN_PORT));
        let outer = self.outer(&two).expect("UDP passes");
        let word = self.word();
        send(&one, &word, outer);
        hear(&two, &word, MAY_ARRIVE)
    }

    /// Who but the first reflector's first port reaches what sent there.
    fn filtering(&self, inner: &Station, family: Family) -> Option<Filtering> {
        let socket = inner_socket(inner, family, FILTERING_PORT);
        let [one, two, _] = self.of(family);
        let outer = self.observe(&socket, &one[0])?;
        let [same_address, other_address, asked] = [&one[1], &two[0], &one[0]].map(|reflector| {
            let word = self.word();
            send(reflector, &word, outer);
            word
        });
        // What must arrive was sent last.
        let heard = hear_until(&socket, &asked);
        Some(match (heard.contains(&same_address), heard.contains(&other_address)) {
            (_, true) => Filtering::EndpointIndependent,
            (true, false) => Filtering::AddressDependent,
            (false, false) => Filtering::EndpointDependent,
        })
    }

    fn of(&self, family: Family) -> &[[UdpSocket; 2]; 3] {
        match family {
            Family::V4 => &self.sockets[0],
            Family::V6 => &self.sockets[1],
        }
    }

    /// Where a datagram of `inner` comes from when it arrives at `reflector`.
    fn observe(&self, inner: &UdpSocket, reflector: &UdpSocket) -> Option<SocketAddr> {
        let word = self.word();
        send(inner, &word, reflector.local_addr().expect("an address"));
        hear(reflector, &word, ARRIVES)
    }

    fn word(&self) -> Vec<u8> {
        self.count.fetch_add(1, Ordering::Relaxed).to_be_bytes().to_vec()
    }
}

/// A socket of `station` at `port`, on its first address of the family.
///
/// # Panics
/// When it has none, or the port is in use.
#[must_use]
pub fn inner_socket(station: &Station, family: Family, port: u16) -> UdpSocket {
    let address: IpAddr = *station.addresses(family).first().expect("an address of the family");
    bind(station, SocketAddr::new(address, port))
}

fn bind(station: &Station, address: SocketAddr) -> UdpSocket {
    station.host.enter(|| UdpSocket::bind(address)).unwrap_or_else(|error| panic!("bind {address}: {error}"))
}

fn send(from: &UdpSocket, word: &[u8], to: SocketAddr) {
    // An ICMP error of a datagram before it would be reported here; that says nothing of this one.
    let _ = from.send_to(word, to).or_else(|_| from.send_to(word, to));
}

/// The source of `word` at `socket`; none when it does not come in time.
fn hear(socket: &UdpSocket, word: &[u8], limit: Duration) -> Option<SocketAddr> {
    let deadline = Instant::now() + limit;
    loop {
        let (heard, source) = receive(socket, deadline)?;
        if heard == word {
            return Some(source);
        }
    }
}

/// Everything that `socket` hears before `last`, and shortly after.
fn hear_until(socket: &UdpSocket, last: &[u8]) -> BTreeSet<Vec<u8>> {
    let (mut heard, mut deadline) = (BTreeSet::new(), Instant::now() + ARRIVES);
    while let Some((word, _)) = receive(socket, deadline) {
        if word == last {
            deadline = Instant::now() + OVERDUE;
        }
        heard.insert(word);
    }
    assert!(heard.contains(last), "an answer did not arrive");
    heard
}

fn receive(socket: &UdpSocket, deadline: Instant) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 64];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        socket.set_read_timeout(Some(left)).expect("set a timeout");
        // Not all that comes is an answer: an ICMP error ends the read, too.
        if let Ok((length, source)) = socket.recv_from(&mut buffer) {
            return Some((buffer.get(..length).unwrap_or_default().to_vec(), source));
        }
    }
}

/// What outer ports towards two ports of one address, and two more addresses, say.
fn mapping([first, same_address, second, third]: [u16; 4]) -> Mapping {
    let step = same_address.wrapping_sub(first);
    let is_sequence = second.wrapping_sub(same_address) == step && third.wrapping_sub(second) == step;
    if [same_address, second, third] == [first; 3] {
        Mapping::EndpointIndependent
    } else if same_address == first {
        Mapping::AddressDependent
    } else if is_sequence && step <= SEQUENCE {
        Mapping::EndpointDependent(Allocation::Sequential(step))
    } else {
        Mapping::EndpointDependent(Allocation::Random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_told_by_its_ports() {
        let cases = [
            ([7, 7, 7, 7], Mapping::EndpointIndependent),
            ([7, 7, 8, 9], Mapping::AddressDependent),
            ([7, 8, 9, 10], Mapping::EndpointDependent(Allocation::Sequential(1))),
            ([7, 9, 11, 13], Mapping::EndpointDependent(Allocation::Sequential(2))),
            ([65_535, 1, 3, 5], Mapping::EndpointDependent(Allocation::Sequential(2))),
            ([7, 107, 207, 307], Mapping::EndpointDependent(Allocation::Random)),
            ([7, 8, 9, 7], Mapping::EndpointDependent(Allocation::Random)),
        ];
        for (ports, expected) in cases {
            assert_eq!(mapping(ports), expected, "{ports:?}");
        }
    }
}
