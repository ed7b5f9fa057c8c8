//! Gateways that speak PCP, NAT-PMP and UPnP as badly as they are told to.

use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use super::lan::Lan;

/// How one of the protocols is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Not at all.
    Silent,
    /// By what a gateway says that does not know it.
    Unsupported,
    /// No.
    Refuses,
    /// The address, and so many seconds.
    Grants([u8; 4], u32),
    /// The same, from an address that was not asked.
    FromElsewhere([u8; 4], u32),
    /// The same for another question, then noise.
    Lies,
}

/// What the gateway does, and has been asked.
#[derive(Clone)]
pub(super) struct Gateway(Arc<Mutex<State>>);

struct State {
    pcp: Manner,
    nat_pmp: Manner,
    upnp: Manner,
    /// PCP and NAT-PMP requests, and UPnP actions with their arguments.
    seen: Vec<Vec<u8>>,
}

impl Gateway {
    /// Starts one that answers nothing, on the current runtime.
    pub(super) fn start(lan: &Lan) -> Self {
        let gateway = Self(Arc::new(Mutex::new(State {
            pcp: Manner::Silent,
            nat_pmp: Manner::Silent,
            upnp: Manner::Silent,
            seen: Vec::new(),
        })));
        let open = |address: &'static str| {
            let socket = lan.there(move || open(address.parse().unwrap()));
            UdpSocket::from_std(socket).unwrap()
        };
        tokio::spawn(gateway.clone().serve_ports(open("192.168.1.1:5351"), open("192.168.1.66:5351")));
        tokio::spawn(gateway.clone().serve_ports(open("[fe80::1]:5351"), open("[::]:0")));
        tokio::spawn(gateway.clone().serve_search(open("192.168.1.1:1900"), open("192.168.1.66:1900")));
        let listener = lan.there(|| std::net::TcpListener::bind("192.168.1.1:5000").unwrap());
        listener.set_nonblocking(true).unwrap();
        tokio::spawn(gateway.clone().serve_actions(TcpListener::from_std(listener).unwrap()));
        gateway
    }

    pub(super) fn set(&self, pcp: Manner, nat_pmp: Manner, upnp: Manner) {
        let mut state = self.0.lock().unwrap();
        (state.pcp, state.nat_pmp, state.upnp) = (pcp, nat_pmp, upnp);
    }

    /// The requests so far.
    pub(super) fn seen(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().seen.clone()
    }

    /// The UPnP actions so far.
    pub(super) fn actions(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| String::from_utf8_lossy(&seen).into_owned()).collect()
    }

    fn manner(&self, choose: impl FnOnce(&State) -> Manner) -> Manner {
        choose(&self.0.lock().unwrap())
    }

    fn see(&self, what: &[u8]) {
        self.0.lock().unwrap().seen.push(what.to_vec());
    }

    async fn serve_ports(self, socket: UdpSocket, elsewhere: UdpSocket) {
        let mut buffer = [0; 1_100];
        loop {
            let (len, client) = socket.recv_from(&mut buffer).await.unwrap();
            let request = &buffer[..len];
            self.see(request);
            let is_pcp = request[0] == 2;
            let manner = self.manner(|state| if is_pcp { state.pcp } else { state.nat_pmp });
            let answer = if is_pcp { pcp(request, manner) } else { nat_pmp(request, manner) };
            let Some(mut answer) = answer else { continue };
            if manner == Manner::Lies {
                // The nonce, or the port; and then something of the right length.
                answer[if is_pcp { 24 } else { 9 }] ^= 1;
                socket.send_to(&answer, client).await.unwrap();
                socket.send_to(&vec![0xa5; answer.len()], client).await.unwrap();
            } else if matches!(manner, Manner::FromElsewhere(..)) {
                elsewhere.send_to(&answer, client).await.unwrap();
            } else {
                socket.send_to(&answer, client).await.unwrap();
            }
        }
    }

    async fn serve_search(self, socket: UdpSocket, elsewhere: UdpSocket) {
        let mut buffer = [0; 1_100];
        loop {
            let (len, client) = socket.recv_from(&mut buffer).await.unwrap();
            assert!(buffer[..len].starts_with(b"M-SEARCH * HTTP/1.1\r\n"));
            let answer = |host: &str| {
                format!("HTTP/1.1 200 OK\r\nEXT:\r\nLOCATION: http://{host}:5000/root.xml\r\nSERVER: x\r\n\r\n")
                    .into_bytes()
            };
            let (from, host) = match self.manner(|state| state.upnp) {
                Manner::Silent => continue,
                Manner::FromElsewhere(..) => (&elsewhere, "192.168.1.1"),
                Manner::Lies => (&socket, "192.168.1.66"),
                Manner::Unsupported | Manner::Refuses | Manner::Grants(..) => (&socket, "192.168.1.1"),
            };
            from.send_to(&answer(host), client).await.unwrap();
        }
    }

    async fn serve_actions(self, listener: TcpListener) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = String::new();
            while !is_whole(&text) {
                let mut buffer = [0; 4_096];
                let len = stream.read(&mut buffer).await.unwrap();
                text += std::str::from_utf8(&buffer[..len]).unwrap();
            }
            let body = self.act(&text);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes()).await;
        }
    }

    fn act(&self, request: &str) -> String {
        if request.starts_with("GET /root.xml ") {
            return DESCRIPTION.to_owned();
        }
        assert!(request.starts_with("POST /control "), "{request}");
        let action = request.split_once("<u:").unwrap().1.split_once(' ').unwrap().0.to_owned();
        let argument = |name: &str| {
            let (_, rest) = request.split_once(&format!("<{name}>"))?;
            rest.split_once('<').map(|(value, _)| value.to_owned())
        };
        let names = ["NewExternalPort", "NewInternalPort", "NewInternalClient", "NewLeaseDuration"];
        let arguments: Vec<_> = names.into_iter().filter_map(argument).collect();
        self.see(format!("{action} {}", arguments.join(" ")).trim().as_bytes());
        let manner = self.manner(|state| state.upnp);
        let answer = |content: String| {
            format!(
                "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>{content}</s:Body></s:Envelope>"
            )
        };
        let fault = |code| {
            answer(format!("<s:Fault><detail><UPnPError><errorCode>{code}</errorCode></UPnPError></detail></s:Fault>"))
        };
        match (manner, &*action) {
            (Manner::Refuses, "AddPortMapping") => fault(606),
            // The port that is wanted first is taken, and leases are not known.
            (Manner::Grants(..), "AddPortMapping") if arguments[0] == "6374" => fault(718),
            (Manner::Grants(..), "AddPortMapping") if arguments[3] != "0" => fault(725),
            (Manner::Grants([a, b, c, d], _), "GetExternalIPAddress") => answer(format!(
                "<u:{action}Response xmlns:u=\"x\"><NewExternalIPAddress>{a}.{b}.{c}.{d}</NewExternalIPAddress></u:{action}Response>"
            )),
            (Manner::Refuses, "GetExternalIPAddress") => answer(format!(
                "<u:{action}Response xmlns:u=\"x\"><NewExternalIPAddress>203.0.113.9</NewExternalIPAddress></u:{action}Response>"
            )),
            _ => answer(format!("<u:{action}Response xmlns:u=\"x\"/>")),
        }
    }
}

/// A socket that leaves IPv4 to others; a link-local address is the gateway's.
fn open(mut address: SocketAddr) -> StdUdpSocket {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM.nonblocking(), None).unwrap();
    if let SocketAddr::V6(address) = &mut address {
        socket.set_only_v6(true).unwrap();
        if address.ip().is_unicast_link_local() {
            address.set_scope_id(nix::net::if_::if_nametoindex("gate0").unwrap());
        }
    }
    socket.bind(&address.into()).unwrap();
    socket.into()
}

const DESCRIPTION: &str = "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\"><device><deviceList><device>\
    <serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
    <controlURL>/control</controlURL></service></serviceList></device></deviceList></device></root>";

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let mut length =
        head.lines().filter_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
    body.len() >= length.next().map_or(0, |length| length.trim().parse().unwrap())
}

fn pcp(request: &[u8], manner: Manner) -> Option<Vec<u8>> {
    let (ip, lifetime) = match manner {
        Manner::Silent => return None,
        Manner::Unsupported => return Some(vec![0, 0x81, 0, 1, 0, 0, 0, 9]),
        Manner::Refuses => ([0; 4], 0),
        Manner::Grants(ip, lifetime) | Manner::FromElsewhere(ip, lifetime) => (ip, lifetime),
        Manner::Lies => ([203, 0, 113, 66], 600),
    };
    let mut answer = request.to_vec();
    answer[1] |= 0x80;
    answer[3] = if manner == Manner::Refuses { 2 } else { 0 };
    let is_deletion = request[4..8] == [0; 4];
    answer[4..8].copy_from_slice(&(if is_deletion { 0 } else { lifetime }).to_be_bytes());
    let is_v6 = request[8..18] != [0; 10];
    if is_v6 {
        // A firewall, which changes no address.
        answer.copy_within(8..24, 44);
    } else {
        answer[44..60].copy_from_slice(&std::net::Ipv4Addr::from(ip).to_ipv6_mapped().octets());
    }
    answer[8..24].fill(0);
    answer[42..44].copy_from_slice(&7_000u16.to_be_bytes());
    Some(answer)
}

fn nat_pmp(request: &[u8], manner: Manner) -> Option<Vec<u8>> {
    let (ip, lifetime) = match manner {
        Manner::Silent => return None,
        Manner::Unsupported => return Some(vec![0, request[1] | 0x80, 0, 5, 0, 0, 0, 9]),
        Manner::Refuses => return Some(vec![0, request[1] | 0x80, 0, 2, 0, 0, 0, 9]),
        Manner::Grants(ip, lifetime) | Manner::FromElsewhere(ip, lifetime) => (ip, lifetime),
        Manner::Lies => ([203, 0, 113, 66], 600),
    };
    let mut answer = vec![0, request[1] | 0x80, 0, 0, 0, 0, 0, 9];
    if request[1] == 0 {
        answer.extend(ip);
        return Some(answer);
    }
    answer.extend(&request[4..6]);
    let is_deletion = request[8..12] == [0; 4];
    answer.extend((if is_deletion { 0u16 } else { 7_001 }).to_be_bytes());
    answer.extend((if is_deletion { 0 } else { lifetime }).to_be_bytes());
    Some(answer)
}

/// A STUN server that tells everybody one address, in the plain form.
pub(super) async fn serve_stun(socket: UdpSocket, address: SocketAddr) {
    let SocketAddr::V4(address) = address else { panic!("IPv4") };
    let mut buffer = [0; 100];
    loop {
        let (len, client) = socket.recv_from(&mut buffer).await.unwrap();
        assert_eq!((len, &buffer[..2]), (20, &[0, 1][..]));
        let mut answer = [&[1, 1, 0, 12], &buffer[4..20], &[0, 1, 0, 8, 0, 1]].concat();
        answer.extend(address.port().to_be_bytes());
        answer.extend(address.ip().octets());
        socket.send_to(&answer, client).await.unwrap();
    }
}
