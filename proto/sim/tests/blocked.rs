//! A socket that is full in the middle of a super-packet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use proto::data::batch::{RecvBatch, SendBatch};
use proto::data::{Device, DeviceSend, Punt, Socket, SocketSend, Turn, Worker};
use proto::member::Kind;
use proto::packet::{Gso, Offload, Part};
use sim::link::Link;
use sim::packets;
use sim::world::World;

#[derive(Default)]
struct OneDevice(VecDeque<(Vec<u8>, Offload)>);

impl Device for OneDevice {
    fn recv(&mut self, buffer: &mut [u8]) -> Option<(usize, Offload)> {
        let (packet, offload) = self.0.pop_front()?;
        buffer[..packet.len()].copy_from_slice(&packet);
        Some((packet.len(), offload))
    }

    fn send(&mut self, _: &[u8], _: &[Part], _: Offload) -> DeviceSend {
        DeviceSend::Dropped
    }
}

/// Takes so many batches, then is full.
struct Tight {
    room: usize,
    sent: usize,
}

impl Socket for Tight {
    fn send(&mut self, batches: &[SendBatch]) -> SocketSend {
        if self.room == 0 {
            return SocketSend::Full;
        }
        self.room -= 1;
        self.sent += batches.first().map_or(0, SendBatch::count);
        SocketSend::Sent(1)
    }

    fn recv(&mut self, _: &mut RecvBatch) -> usize {
        0
    }
}

#[test]
fn a_super_packet_whose_session_ends_half_way_is_not_sent_twice() {
    let mut world = World::new(501, Link::GOOD);
    let names: Vec<_> = (0..2).map(|n| world.add_endpoint(&format!("site.edge{n}"), Kind::Edge)).collect();
    world.add_community("all", &names);
    world.start_all();
    world.send(&names[0], &names[1], 1);
    world.run_for(Duration::from_millis(50));
    let now = world.now();
    let packet = packets::numbered(world.inner(&names[0]), world.inner(&names[1]), 7, 100 * 200);
    let offload = Offload { gso: Gso::Udp, segment_size: 100, partial_checksum: true };
    let drops = world.host(&names[0]).node.drops();
    let published = proto::data::Published::new(world.host(&names[0]).table());
    // Lane 1, for the machine's own worker has lane 0.
    let mut worker = Worker::new(1, Arc::clone(&published), drops);
    let (mut device, mut socket) = (OneDevice::default(), Tight { room: 1, sent: 0 });
    device.0.push_back((packet, offload));
    assert_eq!(worker.turn_outbound(&mut device, &mut socket, now), Turn::Blocked);
    assert!(socket.sent > 0 && socket.sent < 200);
    // The peer says goodbye before the socket has room again.
    world.host(&names[0]).node.handle_shutdown(now);
    published.store(world.host(&names[0]).node.poll_table().unwrap());
    socket.room = 100;
    assert_eq!(worker.turn_outbound(&mut device, &mut socket, now), Turn::Drained);
    let punted = std::iter::from_fn(|| worker.poll_punt()).filter(|punt| matches!(punt, Punt::Packet { .. })).count();
    assert_eq!(punted, 0, "the core would send all of its segments once more");
}
