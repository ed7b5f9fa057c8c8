//! The UDP socket against the kernel: over loopback, and where fragments matter in a network namespace of its own.

use nix::poll::PollFlags;
use proto::data::batch::Destination;

use super::*;
use crate::dataplane::device::namespace::{in_namespace, ip};
use crate::dataplane::device::tests::await_events;

fn bind(options: &SocketOptions) -> UdpSocket {
    UdpSocket::bind(0, 1, options).unwrap().pop().unwrap()
}

fn address(socket: &UdpSocket, ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), socket.local_addr().unwrap().port())
}

/// `lens.len()` datagrams, all different.
fn batch(to: SocketAddr, lens: &[usize]) -> SendBatch {
    let mut batch = SendBatch::new();
    for (i, len) in lens.iter().enumerate() {
        let datagram = batch.push(to, *len).unwrap();
        datagram.fill(i as u8);
        datagram[len - 1] = 0xff;
    }
    batch
}

fn wait(socket: &UdpSocket) {
    assert!(await_events(socket, PollFlags::POLLIN, 5_000).contains(PollFlags::POLLIN), "nothing came");
}

/// The next `count` datagrams, and the number of messages in which they came.
fn receive(socket: &mut UdpSocket, source: SocketAddr, count: usize) -> (Vec<Vec<u8>>, usize) {
    let (mut batch, mut datagrams, mut messages) = (RecvBatch::new(), Vec::new(), 0);
    while datagrams.len() < count {
        wait(socket);
        messages += socket.recv(&mut batch);
        let (metas, memory) = batch.messages();
        for (slot, meta) in metas.iter().enumerate() {
            assert_eq!(meta.source, source);
            let start = RecvBatch::slot_start(slot);
            datagrams.extend(memory[start..start + meta.len].chunks(meta.stride).map(<[u8]>::to_vec));
        }
    }
    (datagrams, messages)
}

fn assert_arrives(sender: &mut UdpSocket, receiver: &mut UdpSocket, ip: &str, lens: &[usize]) -> usize {
    let batch = batch(address(receiver, ip), lens);
    assert_eq!(sender.send(std::slice::from_ref(&batch)), SocketSend::Sent(1));
    let (datagrams, messages) = receive(receiver, address(sender, ip), batch.count());
    assert!(datagrams.iter().map(Vec::as_slice).eq(batch.datagrams()), "not what was sent");
    messages
}

const TEN_AND_A_SHORT_ONE: [usize; 11] = [1_200, 1_200, 1_200, 1_200, 1_200, 1_200, 1_200, 1_200, 1_200, 1_200, 77];

#[test]
fn a_batch_arrives_whole_in_one_message() {
    for ip in ["127.0.0.1", "::1"] {
        let (mut sender, mut receiver) = (bind(&SocketOptions::default()), bind(&SocketOptions::default()));
        assert_eq!(assert_arrives(&mut sender, &mut receiver, ip, &TEN_AND_A_SHORT_ONE), 1, "{ip}");
        assert_eq!((sender.stats().sent.segmented, sender.stats().sent.datagrams), (1, 11));
        assert_eq!((receiver.stats().received.messages, receiver.stats().received.merged), (1, 1));
    }
}

#[test]
fn a_batch_arrives_whole_without_gro() {
    for ip in ["127.0.0.1", "::1"] {
        let options = SocketOptions { gro: false, ..SocketOptions::default() };
        let (mut sender, mut receiver) = (bind(&SocketOptions::default()), bind(&options));
        assert_eq!(assert_arrives(&mut sender, &mut receiver, ip, &TEN_AND_A_SHORT_ONE), 11, "{ip}");
        assert_eq!(receiver.stats().received.merged, 0);
    }
}

#[test]
fn a_batch_arrives_whole_without_gso() {
    for ip in ["127.0.0.1", "::1"] {
        let options = SocketOptions { gso: false, ..SocketOptions::default() };
        let (mut sender, mut receiver) = (bind(&options), bind(&SocketOptions::default()));
        assert_arrives(&mut sender, &mut receiver, ip, &TEN_AND_A_SHORT_ONE);
        assert_eq!((sender.stats().sent.segmented, sender.stats().sent.datagrams), (0, 11));
    }
}

#[test]
fn the_largest_batches_arrive_whole() {
    let (mut sender, mut receiver) = (bind(&SocketOptions::default()), bind(&SocketOptions::default()));
    for lens in [vec![1_452; 45], vec![100; 64], vec![1; 64], vec![9_000; 7], vec![1_400]] {
        for ip in ["127.0.0.1", "::1"] {
            assert_eq!(assert_arrives(&mut sender, &mut receiver, ip, &lens), 1, "{ip} {lens:?}");
        }
    }
    // Over loopback even a datagram of the largest size needs no fragments.
    assert_arrives(&mut sender, &mut receiver, "127.0.0.1", &[65_507]);
}

#[test]
fn batches_of_many_sizes_to_many_receivers_go_in_one_call() {
    for (gso, ip) in [(true, "127.0.0.1"), (true, "::1"), (false, "::1")] {
        let mut sender = bind(&SocketOptions { gso, ..SocketOptions::default() });
        let mut receivers: Vec<_> = (0..8).map(|_| bind(&SocketOptions::default())).collect();
        let lens: [&[usize]; 4] = [&[100; 20], &[1_300, 40], &[77], &[9, 9]];
        let batches: Vec<_> =
            receivers.iter().zip(lens.iter().cycle()).map(|(to, lens)| batch(address(to, ip), lens)).collect();
        let mut done = 0;
        while done < batches.len() {
            let SocketSend::Sent(count) = sender.send(&batches[done..]) else { panic!("room for all of it") };
            assert!(count == 8 || !gso, "{count}");
            done += count;
        }
        for (receiver, batch) in receivers.iter_mut().zip(&batches) {
            let (datagrams, _) = receive(receiver, address(&sender, ip), batch.count());
            assert!(datagrams.iter().map(Vec::as_slice).eq(batch.datagrams()), "not what was sent");
        }
        assert_eq!((sender.stats().sent.datagrams, sender.stats().sent.segmented), (50, if gso { 6 } else { 0 }));
    }
}

#[test]
fn slots_are_many_only_while_messages_are_small() {
    let (mut sender, mut receiver) = (bind(&SocketOptions::default()), bind(&SocketOptions::default()));
    let mut slots = RecvBatch::new();
    let to = address(&receiver, "::1");
    let mut send = |messages: &[&[usize]]| {
        for lens in messages {
            assert_eq!(sender.send(&[batch(to, lens)]), SocketSend::Sent(1));
        }
    };
    let large: &[usize] = &[1_000; 50];
    send(&[large, &[500], large, large, &[400], &[300]]);
    let counts: Vec<_> = std::iter::from_fn(|| Some(receiver.recv(&mut slots)).filter(|&n| n > 0)).collect();
    assert_eq!(counts, [6]);
    send(&[large, large]);
    assert_eq!(receiver.recv(&mut slots), 2, "the last message was small");
    send(&[large, large, &[10], &[20], &[30]]);
    let counts: Vec<_> = std::iter::from_fn(|| Some(receiver.recv(&mut slots)).filter(|&n| n > 0)).collect();
    assert_eq!(counts, [1, 1, 1, 2]);
}

#[test]
fn nothing_waiting_is_no_message() {
    let mut socket = bind(&SocketOptions::default());
    assert_eq!(socket.recv(&mut RecvBatch::new()), 0);
    assert_eq!(socket.stats().received, ReceiveStats::default());
}

#[test]
fn an_empty_datagram_is_a_message_without_datagrams() {
    let (sender, mut receiver) = (bind(&SocketOptions::default()), bind(&SocketOptions::default()));
    let handle = sender.try_clone_sender().unwrap();
    handle.send_to(&[], address(&receiver, "127.0.0.1")).unwrap();
    wait(&receiver);
    let mut slots = RecvBatch::new();
    assert_eq!(receiver.recv(&mut slots), 1);
    assert_eq!(slots.messages().0[0].len, 0);
}

#[test]
fn a_sender_handle_has_the_address_of_its_socket() {
    let (sender, mut receiver) = (bind(&SocketOptions::default()), bind(&SocketOptions::default()));
    let handle = sender.try_clone_sender().unwrap();
    for ip in ["127.0.0.1", "::1"] {
        handle.send_to(b"hello", address(&receiver, ip)).unwrap();
        assert_eq!(receive(&mut receiver, address(&sender, ip), 1).0, [b"hello"]);
    }
}

/// The first bytes of what is waiting at each socket.
fn waiting(sockets: &mut [UdpSocket]) -> Vec<Vec<[u8; 3]>> {
    let mut slots = RecvBatch::new();
    let mut drain = |socket: &mut UdpSocket| {
        let mut heads = Vec::new();
        while socket.recv(&mut slots) > 0 {
            let (metas, memory) = slots.messages();
            for (slot, meta) in metas.iter().enumerate() {
                let message = &memory[RecvBatch::slot_start(slot)..][..meta.len];
                heads.extend(message.chunks(meta.stride).map(|datagram| [datagram[0], datagram[1], datagram[2]]));
            }
        }
        heads
    };
    sockets.iter_mut().map(&mut drain).collect()
}

#[test]
fn lanes_of_one_peer_come_to_the_sockets_in_turn_and_all_else_to_the_first() {
    for ip in ["127.0.0.1", "::1"] {
        let mut sockets = UdpSocket::bind(0, 4, &SocketOptions::default()).unwrap();
        let (sender, to) = (bind(&SocketOptions::default()).try_clone_sender().unwrap(), address(&sockets[0], ip));
        let datagram = |kind: u8, lane: u8| [kind, 0, lane, 0, 0, 0, 0, 0];
        for lane in (0..8).chain([255]) {
            sender.send_to(&datagram(4, lane), to).unwrap();
        }
        assert_eq!(
            waiting(&mut sockets),
            [
                vec![[4, 0, 0], [4, 0, 4]],
                vec![[4, 0, 1], [4, 0, 5]],
                vec![[4, 0, 2], [4, 0, 6]],
                vec![[4, 0, 3], [4, 0, 7], [4, 0, 255]]
            ],
            "{ip}"
        );
        // Not a lane: the third byte of a handshake is anything.
        for kind in [1, 2, 3, 5, 0, 99] {
            sender.send_to(&datagram(kind, 3), to).unwrap();
        }
        let counts: Vec<_> = waiting(&mut sockets).iter().map(Vec::len).collect();
        assert_eq!(counts, [6, 0, 0, 0], "{ip}");
    }
}

#[test]
fn a_datagram_that_is_too_short_to_have_a_lane_comes_to_the_first_socket() {
    let mut sockets = UdpSocket::bind(0, 2, &SocketOptions::default()).unwrap();
    let sender = bind(&SocketOptions::default()).try_clone_sender().unwrap();
    for bytes in [&[][..], &[4], &[4, 1]] {
        sender.send_to(bytes, address(&sockets[0], "::1")).unwrap();
    }
    let mut slots = RecvBatch::new();
    assert_eq!((sockets[0].recv(&mut slots), sockets[1].recv(&mut slots)), (3, 0));
}

#[test]
fn segments_of_one_send_come_to_the_socket_of_their_lane() {
    let mut sockets = UdpSocket::bind(0, 2, &SocketOptions::default()).unwrap();
    let mut sender = bind(&SocketOptions::default());
    let batches = [0, 1].map(|lane| {
        let mut batch = SendBatch::new();
        for _ in 0..20 {
            batch.push(address(&sockets[0], "::1"), 1_000).unwrap()[..3].copy_from_slice(&[4, 0, lane]);
        }
        batch
    });
    assert_eq!(sender.send(&batches), SocketSend::Sent(2));
    assert_eq!(waiting(&mut sockets), [vec![[4, 0, 0]; 20], vec![[4, 0, 1]; 20]]);
}

#[test]
fn sockets_without_a_group_cannot_be_steered() {
    let error = udp::steer_by_lane(bind(&SocketOptions::default()).as_fd(), 2).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn nobody_else_gets_into_a_group_of_sockets() {
    let options = SocketOptions::default();
    let sockets = UdpSocket::bind(0, 4, &options).unwrap();
    let port = sockets[0].local_addr().unwrap().port();
    assert!(sockets.iter().all(|socket| socket.local_addr().unwrap().port() == port));
    assert_eq!(UdpSocket::bind(port, 4, &options).err().map(|e| e.kind()), Some(io::ErrorKind::AddrInUse));
}

#[test]
fn an_ipv4_socket_serves_where_there_is_no_ipv6() {
    let bind = || UdpSocket::bind_one(Family::V4, 0, Sharing::Owner, &SocketOptions::default()).unwrap();
    let (mut sender, mut receiver) = (bind(), bind());
    assert_eq!(assert_arrives(&mut sender, &mut receiver, "127.0.0.1", &TEN_AND_A_SHORT_ONE), 1);
    let to: SocketAddr = "[::1]:9".parse().unwrap();
    assert_eq!(sender.send(&[batch(to, &[10, 10])]), SocketSend::Dropped);
    assert_eq!(sender.stats().sent.dropped, 2);
    let error = sender.try_clone_sender().unwrap().send_to(b"x", to).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EAFNOSUPPORT));
}

#[test]
fn a_full_socket_takes_the_batch_again_when_it_is_writable() {
    in_namespace(|| {
        // What waits for a neighbour to be found counts as not sent yet. (What waits on a TUN queue does not.)
        ip("link add v0 type veth peer name v1");
        ip("link set v0 up");
        ip("link set v1 up");
        ip("addr add 10.9.0.1/24 dev v0");
        for (gso, to) in [(true, "10.9.0.2:9"), (false, "10.9.0.3:9")] {
            let mut socket = bind(&SocketOptions { gso, send_buffer: 40_000, ..SocketOptions::default() });
            let batch = batch(to.parse().unwrap(), &[1_200; 50]);
            let sent =
                (0..100).take_while(|_| socket.send(std::slice::from_ref(&batch)) == SocketSend::Sent(1)).count();
            assert!(sent < 100, "never full");
            assert_eq!(socket.send(std::slice::from_ref(&batch)), SocketSend::Full);

            assert!(await_events(&socket, PollFlags::POLLOUT, 0).is_empty(), "not writable while it is full");
            ip(&format!("neigh replace {} lladdr 02:00:00:00:00:01 dev v0", to.trim_end_matches(":9")));
            while socket.send(std::slice::from_ref(&batch)) == SocketSend::Full {
                assert!(await_events(&socket, PollFlags::POLLOUT, 5_000).contains(PollFlags::POLLOUT));
            }
            let stats = socket.stats().sent;
            assert_eq!((stats.datagrams, stats.dropped), ((sent as u64 + 1) * 50, 0), "each datagram once");
            assert_eq!(stats.segmented > 0, gso);
        }
    });
}

#[test]
fn a_batch_that_the_path_is_too_narrow_for_goes_one_by_one_in_fragments() {
    in_namespace(|| {
        ip("link set lo up");
        ip("link set lo mtu 1300");
        let (mut sender, mut receiver) = (bind(&SocketOptions::default()), bind(&SocketOptions::default()));
        for (round, ip) in ["127.0.0.1", "::1"].into_iter().enumerate() {
            assert_arrives(&mut sender, &mut receiver, ip, &[1_400; 10]);
            assert_eq!(sender.stats().sent.refused, round as u64 + 1);
            assert_arrives(&mut sender, &mut receiver, ip, &[1_400; 10]);
            assert_eq!(sender.stats().sent.refused, round as u64 + 1, "not tried again so soon");
        }
        assert_eq!((sender.stats().sent.segmented, sender.stats().sent.dropped), (0, 0));
    });
}

#[test]
fn an_unreachable_destination_is_a_drop() {
    in_namespace(|| {
        ip("link set lo up");
        let mut socket = bind(&SocketOptions::default());
        for to in ["192.0.2.1:9", "[2001:db8::1]:9"] {
            assert_eq!(socket.send(&[batch(to.parse().unwrap(), &[100; 10])]), SocketSend::Dropped);
            assert_eq!(socket.send(&[batch(to.parse().unwrap(), &[100])]), SocketSend::Dropped);
        }
        assert_eq!(socket.stats().sent.dropped, 22);
        // A closed port answers by ICMP, which an unconnected socket does not hear of.
        for _ in 0..3 {
            assert_eq!(socket.send(&[batch("127.0.0.1:9".parse().unwrap(), &[100; 10])]), SocketSend::Sent(1));
        }
        assert_eq!(socket.recv(&mut RecvBatch::new()), 0);
        assert_eq!(socket.stats().received.failed, 0);
    });
}

#[test]
fn the_mark_and_the_buffers_are_set() {
    in_namespace(|| {
        let options = SocketOptions { mark: NonZeroU32::new(0x6d65), ..SocketOptions::default() };
        let socket = bind(&options);
        let socket = socket2::SockRef::from(&socket.socket);
        assert_eq!(socket.mark().unwrap(), 0x6d65);
        // The kernel doubles it for its own bookkeeping. SO_RCVBUFFORCE needs rights over the first namespace, so here
        // it was the fallback, bounded by rmem_max.
        assert!(socket.recv_buffer_size().unwrap() > 212_992);
        assert!(!socket.only_v6().unwrap());
    });
}

#[test]
fn ipv6_that_is_switched_off_does_not_hinder_ipv4() {
    in_namespace(|| {
        ip("link set lo up");
        std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        let (mut sender, mut receiver) = (bind(&SocketOptions::default()), bind(&SocketOptions::default()));
        assert_eq!(assert_arrives(&mut sender, &mut receiver, "127.0.0.1", &TEN_AND_A_SHORT_ONE), 1);
        assert_eq!(sender.send(&[batch("[::1]:9".parse().unwrap(), &[10, 10])]), SocketSend::Dropped);
    });
}

#[test]
fn a_message_that_was_cut_off_leaves_an_empty_slot() {
    let source = Some(SocketAddr::from(([192, 0, 2, 1], 1)));
    let whole = udp::Received { len: 300, stride: Some(100), source, truncated: false };
    let mut stats = ReceiveStats::default();
    let lens = [whole, udp::Received { truncated: true, ..whole }, udp::Received { source: None, ..whole }, whole]
        .map(|message| meta_of(message, SocketId::MAIN, &mut stats).len);
    assert_eq!(lens, [300, 0, 0, 300]);
    assert_eq!(stats, ReceiveStats { messages: 4, merged: 2, cut_off: 2, failed: 0 });
}

#[test]
fn a_worker_may_be_given_its_socket() {
    fn is_send<T: Send + 'static>(_: &T) {}
    is_send(&bind(&SocketOptions::default()));
}

#[test]
fn a_kept_socket_sends_and_receives_at_a_port_of_its_own_until_it_is_let_go() {
    let (mut socket, mut other) = (bind(&SocketOptions::default()), bind(&SocketOptions::default()));
    let extras = Arc::clone(socket.extras());
    let (extra, id) = (Arc::new(extras.open().unwrap()), extras.free().unwrap());
    extras.keep(id, &extra).unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], extra.local_addr().unwrap().port()));
    let main = batch(address(&other, "127.0.0.1"), &[50, 50]);
    let mut by_extra = SendBatch::new();
    let to = Destination { socket: id, ..Destination::from(address(&other, "127.0.0.1")) };
    (0..3).for_each(|_| by_extra.push(to, 100).unwrap().fill(7));
    let own = address(&socket, "127.0.0.1");
    let mut both = [main, by_extra];
    for source in [own, at] {
        assert_eq!(socket.send(&both), SocketSend::Sent(1), "not what leaves by another");
        let count = both[0].count();
        assert_eq!(receive(&mut other, source, count).0.len(), count);
        both.reverse();
    }
    let by_handle = socket.try_clone_sender().unwrap();
    by_handle.send_by(id, b"probe", address(&other, "127.0.0.1"), Fragments::Never).unwrap();
    assert_eq!(receive(&mut other, at, 1).0, [b"probe".to_vec()]);

    other.try_clone_sender().unwrap().send_to(b"back", at).unwrap();
    assert!(await_events(&*extras, PollFlags::POLLIN, 5_000).contains(PollFlags::POLLIN));
    assert_eq!(extras.readable(), [id]);
    socket.read_from(id);
    let mut received = RecvBatch::new();
    assert_eq!(socket.recv(&mut received), 1);
    assert_eq!(received.messages().0[0].socket, id);
    assert!(extras.readable().is_empty());

    extras.let_go(id);
    both.reverse();
    assert_eq!(socket.send(&both[..1]), SocketSend::Dropped);
    assert!(by_handle.send_by(id, b"probe", at, Fragments::Never).is_err() && extras.ids().is_empty());
}

#[test]
fn no_more_sockets_are_kept_than_there_are_numbers() {
    let socket = bind(&SocketOptions::default());
    let extras = socket.extras();
    let extra = || Arc::new(extras.open().unwrap());
    let kept: Vec<_> = std::iter::from_fn(|| extras.free().inspect(|id| extras.keep(*id, &extra()).unwrap())).collect();
    assert_eq!((kept.len(), extras.ids()), (8, kept.clone()));
    extras.let_go(kept[3]);
    assert_eq!(extras.free(), Some(kept[3]));
}
