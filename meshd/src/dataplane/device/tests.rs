//! The TUN device against the kernel, each test in a network namespace of its own.

use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use proto::data::batch::SendBatch;
use proto::data::{Socket, SocketSend};

use super::namespace::{in_namespace, ip};
use super::*;
use crate::dataplane::socket::{SocketOptions, UdpSocket};
use proto::packet::checksum;
use proto::packet::layout::Layout;

const PARTIAL: Offload = Offload { gso: Gso::None, segment_size: 0, partial_checksum: true };
const PORT: u16 = 5_000;

/// Opens interface `m0` with 10.9.0.1/24 and fd09::1/64 on it. The neighbours are 10.9.0.2 and fd09::2.
fn open(queues: usize, most: OffloadLevel) -> (Vec<TunDevice>, DeviceInfo) {
    let opened = TunDevice::open("m0", queues, most).unwrap();
    std::fs::write("/proc/sys/net/ipv6/conf/m0/router_solicitations", "0").unwrap();
    ip("link set m0 up");
    ip("addr add 10.9.0.1/24 dev m0");
    ip("addr add fd09::1/64 dev m0 nodad");
    // Even so the kernel takes it into use a moment later, in a work queue; until then nothing for it is delivered.
    let started = Instant::now();
    while StdSocket::bind("[fd09::1]:0").is_err() {
        assert!(started.elapsed() < Duration::from_secs(5), "fd09::1 is never ready");
        std::thread::sleep(Duration::from_millis(1));
    }
    opened
}

fn open_one(most: OffloadLevel) -> TunDevice {
    open(1, most).0.pop().unwrap()
}

/// What happened to a descriptor within so many milliseconds.
pub(crate) fn await_events(fd: &impl AsFd, interest: PollFlags, millis: u16) -> PollFlags {
    let mut fds = [PollFd::new(fd.as_fd(), interest)];
    poll(&mut fds, PollTimeout::from(millis)).unwrap();
    fds[0].revents().unwrap()
}

/// The next packet of `protocol`; the kernel's own multicast chatter is skipped.
fn next(device: &mut TunDevice, protocol: u8) -> (Vec<u8>, Offload) {
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        let events = await_events(&*device, PollFlags::POLLIN, 5_000);
        assert!(!events.is_empty(), "nothing came: {:?}", device.stats());
        while let Some((len, offload)) = device.recv(&mut buffer) {
            let packet = buffer[..len].to_vec();
            if packet[if packet[0] >> 4 == 4 { 9 } else { 6 }] == protocol {
                return (packet, offload);
            }
        }
    }
}

fn socket() -> StdSocket {
    let socket = StdSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn write(device: &mut TunDevice, packet: &[u8], offload: Offload) -> DeviceSend {
    device.send(packet, &[Part { start: 0, len: packet.len() }], offload)
}

/// `packet` on its way back: addresses and ports swapped. No checksum changes by that.
fn reverse(packet: &[u8]) -> Vec<u8> {
    let (mut packet, layout) = (packet.to_vec(), Layout::parse(packet).unwrap());
    let (addresses, len) = if packet[0] >> 4 == 4 { (12, 4) } else { (8, 16) };
    packet[addresses..addresses + 2 * len].rotate_left(len);
    packet[layout.l4_offset..layout.l4_offset + 4].rotate_left(2);
    packet
}

/// A packet from the neighbour, its transport checksum partial. `header` is the transport header.
fn from_neighbour(version: u8, protocol: u8, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let l4_len = u16::try_from(header.len() + payload.len()).unwrap();
    let mut packet = if version == 4 {
        let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1];
        ip[2..4].copy_from_slice(&(l4_len + 20).to_be_bytes());
        assert!(checksum::complete_at(&mut ip, 0, 10));
        ip
    } else {
        let mut ip = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
        ip[4..6].copy_from_slice(&l4_len.to_be_bytes());
        ip.extend("fd09::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        ip.extend("fd09::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        ip
    };
    let l4_offset = packet.len();
    packet.extend(header);
    packet.extend(payload);
    let at = l4_offset + if protocol == 6 { 16 } else { 6 };
    let pseudo = checksum::pseudo_header_sum(&packet, &Layout::parse(&packet).unwrap(), l4_len.into());
    packet[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    packet
}

fn udp_header(payload_len: usize) -> [u8; 8] {
    let [len0, len1] = u16::try_from(payload_len + 8).unwrap().to_be_bytes();
    let [port0, port1] = PORT.to_be_bytes();
    [port0, port1, port0, port1, len0, len1, 0, 0]
}

/// A TCP header to a port that nobody listens on, without ACK: the reset acknowledges every byte that arrived.
fn tcp_header() -> [u8; 20] {
    [0x13, 0x88, 0x13, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 8, 0xff, 0xff, 0, 0, 0, 0]
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn a_new_interface_has_every_offload_that_this_kernel_has() {
    in_namespace(|| {
        let (devices, info) = open(1, OffloadLevel::TcpUdp);
        assert_eq!((devices.len(), info.name.as_str()), (1, "m0"));
        let index = std::fs::read_to_string("/sys/class/net/m0/ifindex");
        // /sys may still show the network of the parent.
        if let Ok(index) = index {
            assert_eq!(index.trim(), info.index.to_string());
        }
        assert_eq!(info.offload, OffloadLevel::TcpUdp, "Linux 6.2 and later");
    });
}

#[test]
fn the_kernel_may_choose_the_name() {
    in_namespace(|| {
        let (_first, info) = TunDevice::open("mesh%d", 1, OffloadLevel::TcpUdp).unwrap();
        let (_second, other) = TunDevice::open("mesh%d", 1, OffloadLevel::Plain).unwrap();
        assert_eq!((info.name.as_str(), other.name.as_str()), ("mesh0", "mesh1"));
        assert_ne!(info.index, other.index);
    });
}

#[test]
fn what_cannot_be_opened_is_an_error() {
    in_namespace(|| {
        let _holder = open_one(OffloadLevel::TcpUdp);
        let code = |name| TunDevice::open(name, 1, OffloadLevel::TcpUdp).err().and_then(|e| e.raw_os_error());
        assert_eq!(code("m0"), Some(libc::EBUSY));
        assert_eq!(code("lo"), Some(libc::EINVAL));
        assert_eq!(code("sixteen-letters-"), Some(libc::EINVAL));
    });
}

#[test]
fn a_datagram_comes_out_unfinished_and_its_reply_goes_back_in() {
    in_namespace(|| {
        let (mut device, socket) = (open_one(OffloadLevel::TcpUdp), socket());
        socket.send_to(b"ping", ("10.9.0.2", PORT)).unwrap();
        let (mut packet, offload) = next(&mut device, 17);
        assert_eq!(offload, PARTIAL);
        assert!(packet.ends_with(b"ping"));

        assert_eq!(write(&mut device, &reverse(&packet), PARTIAL), DeviceSend::Sent);
        let mut buffer = [0; 100];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 4);

        assert!(vnet::complete_checksum(&mut packet));
        assert!(checksum::verify(&packet, &Layout::parse(&packet).unwrap()));
        assert_eq!(write(&mut device, &reverse(&packet), Offload::default()), DeviceSend::Sent);
        assert_eq!(socket.recv(&mut buffer).unwrap(), 4);
        assert_eq!((device.stats().written, device.stats().dropped_other), (2, 0));
    });
}

#[test]
fn a_udp_super_packet_comes_out_whole() {
    in_namespace(|| {
        let mut device = open_one(OffloadLevel::TcpUdp);
        let mut socket = UdpSocket::bind(0, 1, &SocketOptions::default()).unwrap().pop().unwrap();
        for to in ["10.9.0.2:5000", "[fd09::2]:5000"] {
            let (mut batch, to) = (SendBatch::new(), to.parse::<SocketAddr>().unwrap());
            for len in [1_000; 9].into_iter().chain([300]) {
                batch.push(to, len).unwrap().fill(7);
            }
            assert_eq!(socket.send(std::slice::from_ref(&batch)), SocketSend::Sent(1));
            let (packet, offload) = next(&mut device, 17);
            assert_eq!(offload, Offload { gso: Gso::Udp, segment_size: 1_000, partial_checksum: true });
            let layout = Layout::parse(&packet).unwrap();
            assert_eq!(packet.len() - layout.header_len, 9_300);
        }
        assert_eq!(device.stats().read_super, 2);
    });
}

#[test]
fn a_tcp_super_packet_of_many_parts_reaches_the_kernels_tcp_whole() {
    in_namespace(|| {
        let mut device = open_one(OffloadLevel::TcpUdp);
        for version in [4, 6] {
            let packet = from_neighbour(version, 6, &tcp_header(), &pattern(40_000));
            let header_len = packet.len() - 40_000;
            let first = Part { start: 0, len: header_len + 1_360 };
            let rest = (1..30).map(|i| Part { start: header_len + i * 1_360, len: 1_360.min(40_000 - i * 1_360) });
            let parts: Vec<_> = std::iter::once(first).chain(rest).collect();
            let offload = Offload { gso: Gso::Tcp, segment_size: 1_360, partial_checksum: true };
            assert_eq!(device.send(&packet, &parts, offload), DeviceSend::Sent);

            let (reset, _) = next(&mut device, 6);
            let l4 = Layout::parse(&reset).unwrap().l4_offset;
            assert_eq!(reset[l4 + 13], 0x14, "RST and ACK");
            assert_eq!(reset[l4 + 8..l4 + 12], 40_000_u32.to_be_bytes(), "acknowledges all of it");
        }
        assert_eq!((device.stats().written_super, device.stats().refused), (2, 0));
    });
}

#[test]
fn a_udp_super_packet_reaches_a_socket_as_its_datagrams() {
    in_namespace(|| {
        let (mut device, socket) = (open_one(OffloadLevel::TcpUdp), socket());
        let payload = pattern(64 * 100 - 40);
        let packet = from_neighbour(4, 17, &udp_header(payload.len()), &payload);
        let offload = Offload { gso: Gso::Udp, segment_size: 100, partial_checksum: true };
        assert_eq!(write(&mut device, &packet, offload), DeviceSend::Sent);
        for datagram in payload.chunks(100) {
            let mut buffer = [0; 2_000];
            let len = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], datagram);
        }
    });
}

#[test]
fn more_parts_than_one_call_carries_are_copied_together() {
    in_namespace(|| {
        let (mut device, socket) = (open_one(OffloadLevel::TcpUdp), socket());
        let payload = pattern(900);
        let packet = from_neighbour(4, 17, &udp_header(900), &payload);
        let first = Part { start: 0, len: 128 };
        let parts: Vec<_> = std::iter::once(first).chain((128..928).map(|start| Part { start, len: 1 })).collect();
        assert_eq!(device.send(&packet, &parts, PARTIAL), DeviceSend::Sent);
        let mut buffer = [0; 2_000];
        let len = socket.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..len], payload);
    });
}

#[test]
fn a_plain_device_refuses_super_packets_and_finishes_checksums() {
    in_namespace(|| {
        let (mut devices, info) = open(1, OffloadLevel::Plain);
        let (mut device, socket) = (devices.pop().unwrap(), socket());
        assert_eq!(info.offload, OffloadLevel::Plain);
        let offload = Offload { gso: Gso::Tcp, segment_size: 1_360, partial_checksum: true };
        let super_packet = from_neighbour(4, 6, &tcp_header(), &pattern(40_000));
        assert_eq!(write(&mut device, &super_packet, offload), DeviceSend::Refused);

        // The kernel segments and finishes what it hands to a plain device.
        let mut sender = UdpSocket::bind(0, 1, &SocketOptions::default()).unwrap().pop().unwrap();
        let mut batch = SendBatch::new();
        for _ in 0..3 {
            batch.push("10.9.0.2:5000".parse::<SocketAddr>().unwrap(), 500).unwrap().fill(7);
        }
        assert_eq!(sender.send(std::slice::from_ref(&batch)), SocketSend::Sent(1));
        for _ in 0..3 {
            let (packet, offload) = next(&mut device, 17);
            assert_eq!((packet.len(), offload), (528, Offload::default()));
            assert!(checksum::verify(&packet, &Layout::parse(&packet).unwrap()));
        }

        let packet = from_neighbour(4, 17, &udp_header(5), b"hello");
        let parts = [Part { start: 0, len: 30 }, Part { start: 30, len: 3 }];
        assert_eq!(device.send(&packet, &parts, PARTIAL), DeviceSend::Sent);
        let mut buffer = [0; 100];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 5, "the kernel verified the checksum");

        // Whole packets in parts, without a checksum to finish.
        let mut finished = packet;
        assert!(vnet::complete_checksum(&mut finished));
        assert_eq!(device.send(&finished, &parts, Offload::default()), DeviceSend::Sent);
        assert_eq!(socket.recv(&mut buffer).unwrap(), 5);
    });
}

/// 200 segments of one byte are more than UDP_MAX_SEGMENTS: the kernel refuses such a packet whatever the device.
fn refused_by_any_kernel() -> (Vec<u8>, Offload) {
    let packet = from_neighbour(4, 17, &udp_header(200), &pattern(200));
    (packet, Offload { gso: Gso::Udp, segment_size: 1, partial_checksum: true })
}

#[test]
fn a_kind_that_is_refused_again_and_again_is_no_longer_tried() {
    in_namespace(|| {
        let mut device = open_one(OffloadLevel::TcpUdp);
        let (bad, offload) = refused_by_any_kernel();
        for _ in 0..GsoWrites::ENOUGH {
            assert_ne!(device.udp, GsoWrites::Off);
            assert_eq!(write(&mut device, &bad, offload), DeviceSend::Refused);
        }
        assert_eq!(device.udp, GsoWrites::Off);
        let good = from_neighbour(4, 17, &udp_header(200), &pattern(200));
        let offload = Offload { segment_size: 100, ..offload };
        assert_eq!(write(&mut device, &good, offload), DeviceSend::Refused, "without a system call");
        assert_eq!(write(&mut device, &good, PARTIAL), DeviceSend::Sent, "but ordinary packets go");
        assert_eq!(device.tcp, GsoWrites::Untried { refusals: 0 }, "and the other kind is not concerned");
    });
}

#[test]
fn bad_packets_do_not_switch_off_a_kind_that_works() {
    in_namespace(|| {
        let (mut device, _socket) = (open_one(OffloadLevel::TcpUdp), socket());
        let good = from_neighbour(4, 17, &udp_header(200), &pattern(200));
        let (bad, offload) = refused_by_any_kernel();
        let good_offload = Offload { segment_size: 100, ..offload };
        assert_eq!(write(&mut device, &good, good_offload), DeviceSend::Sent);
        for _ in 0..20 {
            assert_eq!(write(&mut device, &bad, offload), DeviceSend::Refused);
        }
        assert_eq!(write(&mut device, &good, good_offload), DeviceSend::Sent);
    });
}

#[test]
fn an_interface_that_is_down_drops_and_takes_super_packets_when_it_is_up_again() {
    in_namespace(|| {
        let mut device = open_one(OffloadLevel::TcpUdp);
        ip("link set m0 down");
        let packet = from_neighbour(4, 6, &tcp_header(), &pattern(40_000));
        let offload = Offload { gso: Gso::Tcp, segment_size: 1_360, partial_checksum: true };
        for _ in 0..10 {
            assert_eq!(write(&mut device, &packet, offload), DeviceSend::Dropped);
        }
        assert_eq!(device.stats().dropped_down, 10);
        ip("link set m0 up");
        assert_eq!(write(&mut device, &packet, offload), DeviceSend::Sent);
    });
}

#[test]
fn a_deleted_interface_is_noticed() {
    in_namespace(|| {
        let mut device = open_one(OffloadLevel::TcpUdp);
        while device.recv(&mut vec![0; MAX_PACKET]).is_some() {}
        assert!(!device.is_gone());
        ip("link del m0");
        assert!(await_events(&device, PollFlags::POLLIN, 5_000).contains(PollFlags::POLLERR));
        assert_eq!(device.recv(&mut vec![0; MAX_PACKET]), None);
        assert!(device.is_gone());
        let packet = from_neighbour(4, 17, &udp_header(5), b"hello");
        assert_eq!(write(&mut device, &packet, PARTIAL), DeviceSend::Dropped);
    });
}

#[test]
fn a_packet_that_is_not_what_it_is_said_to_be_is_dropped_before_the_kernel_sees_it() {
    in_namespace(|| {
        let mut device = open_one(OffloadLevel::TcpUdp);
        let packet = from_neighbour(4, 17, &udp_header(5), b"hello");
        let tcp = Offload { gso: Gso::Tcp, segment_size: 100, partial_checksum: true };
        assert_eq!(write(&mut device, &packet, tcp), DeviceSend::Dropped);
        assert_eq!(device.send(&packet, &[], PARTIAL), DeviceSend::Dropped);
        let outside = [Part { start: 0, len: 30 }, Part { start: 30, len: 4 }];
        assert_eq!(device.send(&packet, &outside, PARTIAL), DeviceSend::Dropped);
        assert_eq!(device.send(&packet, &[Part { start: 1, len: usize::MAX }], PARTIAL), DeviceSend::Dropped);
        assert_eq!(device.stats().dropped_malformed, 4);
    });
}

#[test]
fn all_queues_read_and_write() {
    in_namespace(|| {
        let (mut devices, info) = open(3, OffloadLevel::TcpUdp);
        assert_eq!((devices.len(), info.offload), (3, OffloadLevel::TcpUdp));
        let socket = socket();
        for device in &mut devices {
            let packet = from_neighbour(4, 17, &udp_header(5), b"hello");
            assert_eq!(write(device, &packet, PARTIAL), DeviceSend::Sent);
            assert_eq!(socket.recv(&mut [0; 100]).unwrap(), 5);
        }
        // Flows are spread over the queues by their hash.
        for port in 1..=100 {
            socket.send_to(b"x", SocketAddr::from(([10, 9, 0, 2], port))).unwrap();
        }
        let mut read = 0;
        for device in &mut devices {
            while let Some((_, offload)) = device.recv(&mut vec![0; MAX_PACKET]) {
                read += u64::from(offload == PARTIAL);
            }
        }
        assert!(read >= 100, "{read}");
    });
}

#[test]
fn a_flow_is_read_from_the_queue_that_it_was_written_to() {
    in_namespace(|| {
        let (mut devices, _) = open(3, OffloadLevel::TcpUdp);
        let socket = socket();
        // There and back again, so that no queue can be right by its hash alone.
        for (index, port) in
            [0, 1, 2, 1, 0, 2].into_iter().flat_map(|index| (6_000_u16..6_020).map(move |p| (index, p)))
        {
            let mut header = udp_header(5);
            header[..2].copy_from_slice(&port.to_be_bytes());
            let packet = from_neighbour(4, 17, &header, b"hello");
            assert_eq!(write(&mut devices[index], &packet, PARTIAL), DeviceSend::Sent);
            assert_eq!(socket.recv(&mut [0; 100]).unwrap(), 5);
            socket.send_to(b"reply", ("10.9.0.2", port)).unwrap();
            let (reply, _) = next(&mut devices[index], 17);
            assert!(reply.ends_with(b"reply"));
        }
    });
}

#[test]
fn an_inherited_interface_is_reset() {
    in_namespace(|| {
        ip("tuntap add dev m0 mode tun vnet_hdr");
        let (device, info) = TunDevice::open("m0", 1, OffloadLevel::TcpUdp).unwrap();
        assert_eq!(info.offload, OffloadLevel::TcpUdp);
        drop(device);
        // Now it is left with offloads that a plain device must not see the results of.
        let (mut device, socket) = (open_one(OffloadLevel::Plain), socket());
        socket.send_to(b"ping", ("10.9.0.2", PORT)).unwrap();
        let (packet, offload) = next(&mut device, 17);
        assert_eq!(offload, Offload::default());
        assert!(checksum::verify(&packet, &Layout::parse(&packet).unwrap()));
    });
}
