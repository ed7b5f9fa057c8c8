//! One simulated machine: a node, one worker, a device that is a queue and a socket that is the world's network.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use proto::data::batch::{RECV_SLOTS, RecvBatch, RecvMeta, SendBatch};
use proto::data::{Device, DeviceSend, ForwardingTable, Published, Socket, SocketSend, Turn, Worker};
use proto::event::Event;
use proto::node::Node;
use proto::packet::{Gso, Offload, Part};
use proto::path::SocketId;
use proto::time::Instant;
use proto::wire::MachineView;

use crate::network::Interface;
use crate::spray::{Spray, Taken};

/// A machine in the world.
pub struct Host {
    /// The protocol machine; scenarios ask it questions.
    pub node: Node,
    /// Where its datagrams come from and go to: one leaves by the interface in whose site its destination is, or else
    /// by the first of its family. Changing them is roaming.
    pub interfaces: Vec<Interface>,
    /// Inner packets that it received, oldest first.
    pub received: Vec<Vec<u8>>,
    /// What its node said, with the time.
    pub events: Vec<(Instant, Event)>,
    /// Made when there is something to carry: its buffers are what a machine takes most of.
    worker: Option<Worker>,
    published: Arc<Published>,
    device: QueueDevice,
    socket: QueueSocket,
    pub(crate) spray: Spray,
}

/// A datagram that leaves a machine.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Where to.
    pub destination: SocketAddr,
    /// The port that it leaves by, if not the interface's own.
    pub port: Option<u16>,
    /// UDP payload.
    pub datagram: Vec<u8>,
}

#[derive(Default)]
struct QueueDevice {
    to_read: VecDeque<Vec<u8>>,
    written: Vec<Vec<u8>>,
}

impl Device for QueueDevice {
    fn recv(&mut self, buffer: &mut [u8]) -> Option<(usize, Offload)> {
        let packet = self.to_read.pop_front()?;
        buffer.get_mut(..packet.len())?.copy_from_slice(&packet);
        Some((packet.len(), Offload::default()))
    }

    fn send(&mut self, memory: &[u8], parts: &[Part], offload: Offload) -> DeviceSend {
        if offload.gso != Gso::None {
            return DeviceSend::Refused;
        }
        let bytes = parts.iter().filter_map(|part| memory.get(part.start..part.start + part.len));
        self.written.push(bytes.flatten().copied().collect());
        DeviceSend::Sent
    }
}

#[derive(Default)]
struct QueueSocket {
    arrived: VecDeque<(SocketAddr, SocketId, Vec<u8>)>,
    sent: Vec<(SocketAddr, SocketId, Vec<u8>)>,
}

impl Socket for QueueSocket {
    fn send(&mut self, batches: &[SendBatch]) -> SocketSend {
        for batch in batches {
            self.sent
                .extend(batch.datagrams().map(|datagram| (batch.destination(), batch.socket(), datagram.to_vec())));
        }
        SocketSend::Sent(batches.len())
    }

    fn recv(&mut self, batch: &mut RecvBatch) -> usize {
        let mut metas = Vec::new();
        while metas.len() < RECV_SLOTS
            && let Some((source, socket, datagram)) = self.arrived.pop_front()
        {
            let start = RecvBatch::slot_start(metas.len());
            if let Some(slot) = batch.memory_mut().get_mut(start..start + datagram.len()) {
                slot.copy_from_slice(&datagram);
            }
            metas.push(RecvMeta { len: datagram.len(), stride: datagram.len(), source, socket });
        }
        batch.set_filled(metas)
    }
}

impl Host {
    /// A machine at `interfaces` that runs `node`.
    #[must_use]
    pub fn new(mut node: Node, interfaces: Vec<Interface>) -> Self {
        let published = node.publish();
        Self {
            node,
            interfaces,
            received: Vec::new(),
            events: Vec::new(),
            worker: None,
            published,
            device: QueueDevice::default(),
            socket: QueueSocket::default(),
            spray: Spray::default(),
        }
    }

    /// The newest table that its workers can see.
    #[must_use]
    pub fn table(&self) -> Arc<ForwardingTable> {
        self.published.load()
    }

    /// An application on the machine sends a packet.
    pub fn send_packet(&mut self, packet: Vec<u8>) {
        self.device.to_read.push_back(packet);
    }

    /// A datagram arrives at the node's port.
    pub fn deliver(&mut self, source: SocketAddr, datagram: Vec<u8>) {
        self.socket.arrived.push_back((source, SocketId::MAIN, datagram));
    }

    /// A datagram arrives at some port.
    pub(crate) fn deliver_at(&mut self, source: SocketAddr, port: u16, datagram: Vec<u8>, now: Instant) {
        match self.spray.take(port) {
            Taken::By(socket) => self.socket.arrived.push_back((source, socket, datagram)),
            Taken::Guess(socket) => self.handle_guess(source, socket, port, &datagram, now),
            Taken::No => {}
        }
    }

    /// Runs everything that can run now, and returns what it sends.
    pub fn run(&mut self, now: Instant) -> Vec<Sent> {
        self.node.handle_timeout(now);
        self.drain(now);
        let is_idle = self.socket.arrived.is_empty() && self.device.to_read.is_empty();
        while !is_idle && self.work(now) == Turn::More {}
        self.received.append(&mut self.device.written);
        let mut sent = std::mem::take(&mut self.spray.sent);
        sent.extend(self.socket.sent.drain(..).filter_map(|(destination, socket, datagram)| {
            Some(Sent { destination, port: self.spray.port_of(socket)?, datagram })
        }));
        sent
    }

    fn work(&mut self, now: Instant) -> Turn {
        let make = || Worker::new(0, Arc::clone(&self.published), self.node.drops());
        let worker = self.worker.get_or_insert_with(make);
        let inbound = worker.turn_inbound(&mut self.device, &mut self.socket, now);
        let outbound = worker.turn_outbound(&mut self.device, &mut self.socket, now);
        while let Some(punt) = worker.poll_punt() {
            self.node.handle_punt(punt, now);
        }
        self.drain(now);
        if (inbound, outbound) == (Turn::Drained, Turn::Drained) { Turn::Drained } else { Turn::More }
    }

    fn drain(&mut self, now: Instant) {
        // The table first: a peer may answer a transmit before we look again.
        if let Some(table) = self.node.poll_table() {
            self.published.store(table);
        }
        while let Some(transmit) = self.node.poll_transmit() {
            self.socket.sent.push((transmit.destination, transmit.socket, transmit.datagram));
        }
        while let Some(packet) = self.node.poll_packet() {
            self.device.written.push(packet);
        }
        let mut has_answered = false;
        while let Some(event) = self.node.poll_event() {
            self.spray(&event, now);
            if let Event::WhyAsked { peer, question } = &event {
                self.node.answer_why(*peer, question, MachineView::Good, now);
                has_answered = true;
            }
            self.events.push((now, event));
        }
        if has_answered {
            self.drain(now);
        }
    }
}
