//! How a world runs: datagrams and deadlines in their order, the clock jumping from one to the next.

use std::net::SocketAddr;
use std::time::Duration;

use proto::id::EndpointName;
use proto::time::Instant;

use crate::host::{Host, Sent};
use crate::network::{Course, Owner};
use crate::packets;
use crate::trace::{Recording, Traffic};
use crate::world::World;

impl World {
    /// The present time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// An application at `from` sends packet `number` to `to`'s mesh address.
    pub fn send(&mut self, from: &EndpointName, to: &EndpointName, number: u64) {
        let packet = packets::numbered(self.inner(from), self.inner(to), number, 100);
        self.host(from).send_packet(packet);
        self.step(from);
    }

    /// Puts a datagram on the internet, from whatever source address.
    pub fn inject(&mut self, source: SocketAddr, destination: SocketAddr, datagram: Vec<u8>) {
        self.refresh();
        let course = self.network.appear(source, destination);
        self.launch(course, destination, datagram);
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some((at, next)) = self.next_event().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            match next {
                Next::Arrival => self.arrive(),
                Next::Deadline(number) => self.step_number(number),
            }
        }
        self.now = end;
    }

    /// Lets a machine do what it can do now.
    pub fn step(&mut self, name: &EndpointName) {
        let number = self.number(name);
        self.step_number(number);
    }

    /// Numbers of the packets that `name` received so far, sorted.
    pub fn numbers(&mut self, name: &EndpointName) -> Vec<u64> {
        let mut numbers: Vec<_> = self.host(name).received.iter().filter_map(|p| packets::number(p)).collect();
        numbers.sort_unstable();
        numbers
    }

    /// All that was put on the network so far, by whomever.
    #[must_use]
    pub fn total(&self) -> Traffic {
        self.trace.total
    }

    /// A digest of [`wire`](Self::wire), recorded or not: equal for equal runs of one build.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.trace.digest()
    }

    fn next_event(&mut self) -> Option<(Instant, Next)> {
        self.refresh();
        let arrival = self.network.next().map(|at| (at, Next::Arrival));
        let deadline = self.deadlines.first().map(|(at, number)| (*at, Next::Deadline(*number)));
        match (arrival, deadline) {
            (Some(a), Some(d)) => Some(if d.0 < a.0 { d } else { a }),
            (a, d) => a.or(d),
        }
    }

    fn arrive(&mut self) {
        let now = self.now;
        let Some(arrival) = self.network.arrive(now) else { return };
        match arrival.owner {
            Owner::Socket(number) => self.hear(number, arrival.source, arrival.datagram),
            Owner::Machine(number) => {
                let machine = self.machine(number);
                let Some(host) = machine.host.as_mut().filter(|_| machine.asleep.is_none()) else { return };
                host.deliver_at(arrival.source, arrival.port, arrival.datagram, now);
                self.step_number(number);
            }
        }
    }

    fn step_number(&mut self, number: usize) {
        // The scenario may have given it new addresses.
        self.refresh();
        let now = self.now;
        let machine = self.machine(number);
        if machine.asleep.is_some_and(|until| until > now) {
            return;
        }
        let has_slept = machine.asleep.take().is_some();
        let host = machine.host.as_mut().expect("the machine runs");
        if has_slept {
            host.node.handle_resume(now);
        }
        let sent = host.run(now);
        for datagram in sent {
            self.send_from(number, datagram);
        }
        self.touched.push(number);
    }

    fn send_from(&mut self, number: usize, sent: Sent) {
        let Sent { destination, port, datagram } = sent;
        let Some(machine) = self.machines.get_mut(number) else { return };
        let Some(mut from) = self.network.interface(&machine.attached, destination) else { return };
        port.into_iter().for_each(|port| from.address.set_port(port));
        machine.sent.add(datagram.len());
        let course = self.network.depart(Owner::Machine(number), from, destination, self.now, &mut self.rng);
        self.launch(course, destination, datagram);
    }

    pub(crate) fn launch(&mut self, course: Course, destination: SocketAddr, datagram: Vec<u8>) {
        self.trace.add(self.now, course.source, destination, &datagram);
        if self.recording == Recording::Full {
            self.wire.push((self.now, course.source, destination, datagram.clone()));
        }
        self.network.launch(course, datagram, self.link, self.now, &mut self.rng);
    }

    /// Looks at what may have changed: the addresses and deadlines of touched machines.
    pub(crate) fn refresh(&mut self) {
        while let Some(number) = self.touched.pop() {
            let Some(machine) = self.machines.get_mut(number) else { continue };
            let interfaces = machine.host.as_ref().map(Host::all_interfaces).unwrap_or_default();
            if machine.attached != *interfaces {
                machine.attached.iter().for_each(|old| self.network.detach(Owner::Machine(number), *old));
                interfaces.iter().for_each(|new| self.network.attach(Owner::Machine(number), *new));
                machine.attached = interfaces.into_owned();
            }
            let due = machine.due();
            if due != machine.deadline {
                machine.deadline.map(|old| self.deadlines.remove(&(old, number)));
                due.map(|new| self.deadlines.insert((new, number)));
                machine.deadline = due;
            }
        }
    }
}

enum Next {
    /// The network has a datagram to deliver.
    Arrival,
    /// A machine's timer.
    Deadline(usize),
}
