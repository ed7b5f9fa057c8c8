//! A worker thread: one TUN queue and one UDP socket in one epoll set, both directions run to completion.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use proto::data::{Published, Punt, Turn, Worker};
use proto::path::SocketId;
use proto::stats::{DropCounters, DropReason};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::device::TunDevice;
use super::socket::UdpSocket;
use crate::clock::Clock;

const DEVICE: u64 = 1;
const SOCKET: u64 = 2;
const STOP: u64 = 3;
const EXTRAS: u64 = 4;

/// What a worker thread is made of.
pub(crate) struct Parts {
    pub(crate) lane: u8,
    pub(crate) device: TunDevice,
    pub(crate) socket: UdpSocket,
    pub(crate) published: Arc<Published>,
    pub(crate) drops: Arc<DropCounters>,
    pub(crate) punts: mpsc::Sender<Punt>,
    pub(crate) clock: Clock,
}

/// A running worker; stops and joins when dropped.
pub(crate) struct Handle {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Starts the thread.
    ///
    /// Should it end before it is told to, `ended` gets the reason: the others cannot do its part of the work.
    pub(crate) fn spawn(parts: Parts, ended: mpsc::Sender<io::Error>) -> io::Result<Self> {
        let stop = Arc::new(EventFd::new()?);
        let mut thread = Thread::new(parts, Arc::clone(&stop))?;
        let name = format!("meshd-data-{}", thread.lane);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let ended = Ended(ended);
            if let Err(error) = thread.run() {
                // Full: the driver has been told by another worker.
                let _ = ended.0.try_send(error);
            }
            let (lane, device, socket) = (thread.lane, thread.device.stats(), thread.socket.stats());
            tracing::debug!(lane, ?device, ?socket, "worker stopped");
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

/// Tells of a panic too, which unwinds through it.
struct Ended(mpsc::Sender<io::Error>);

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.try_send(io::Error::other("a worker panicked"));
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Fails only where it was written 2^64 times already, and then it is readable anyway.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("worker panicked");
        }
    }
}

struct Thread {
    lane: u8,
    worker: Worker,
    device: TunDevice,
    socket: UdpSocket,
    epoll: Epoll,
    /// Kept so that the descriptor in the epoll set stays open.
    _stop: Arc<EventFd>,
    drops: Arc<DropCounters>,
    punts: mpsc::Sender<Punt>,
    clock: Clock,
    /// The socket was full: the device is out of the epoll set until it is writable.
    is_blocked: bool,
}

impl Thread {
    fn new(parts: Parts, stop: Arc<EventFd>) -> io::Result<Self> {
        let Parts { lane, device, socket, published, drops, punts, clock } = parts;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(device.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, DEVICE))?;
        epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, SOCKET))?;
        epoll.add(stop.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        if lane == 0 {
            epoll.add(socket.extras().as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, EXTRAS))?;
        }
        let worker = Worker::new(lane, published, Arc::clone(&drops));
        Ok(Self { lane, worker, device, socket, epoll, _stop: stop, drops, punts, clock, is_blocked: false })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 4];
        loop {
            let ready = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(ready) => ready,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let (mut device, mut socket, mut extras) = (false, false, false);
            for event in events.iter().take(ready) {
                match event.data() {
                    DEVICE => device = true,
                    // An error is read like a datagram, and so cleared.
                    SOCKET => {
                        socket |= event.events() != EpollFlags::EPOLLOUT;
                        device |= event.events().contains(EpollFlags::EPOLLOUT);
                    }
                    EXTRAS => extras = true,
                    _ => return Ok(()),
                }
            }
            if extras {
                self.receive_extras();
            }
            self.serve(device, socket || extras)?;
            if self.device.is_gone() {
                return Err(io::Error::other("the TUN interface was deleted by another program"));
            }
        }
    }

    /// Runs one turn each way; epoll tells of what is left, and of the stop, which so is heard under any load. Datagrams
    /// first: what they bring makes the kernel's TCP put ACKs into the device's queue at once, and they can go out without
    /// another wake-up.
    fn serve(&mut self, device: bool, socket: bool) -> io::Result<()> {
        let now = self.clock.now();
        if socket {
            let _: Turn = self.worker.turn_inbound(&mut self.device, &mut self.socket, now);
        }
        if device || socket {
            let turn = self.worker.turn_outbound(&mut self.device, &mut self.socket, now);
            self.set_blocked(turn == Turn::Blocked)?;
        }
        self.hand_over();
        Ok(())
    }

    /// Takes what came to sockets beside the main one.
    fn receive_extras(&mut self) {
        let now = self.clock.now();
        for id in self.socket.extras().readable() {
            self.socket.read_from(id);
            let _: Turn = self.worker.turn_inbound(&mut self.device, &mut self.socket, now);
        }
        self.socket.read_from(SocketId::MAIN);
    }

    fn set_blocked(&mut self, is_blocked: bool) -> io::Result<()> {
        if is_blocked == self.is_blocked {
            return Ok(());
        }
        self.is_blocked = is_blocked;
        let (device, socket) = if is_blocked {
            (EpollFlags::empty(), EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT)
        } else {
            (EpollFlags::EPOLLIN, EpollFlags::EPOLLIN)
        };
        self.epoll.modify(self.device.as_fd(), &mut EpollEvent::new(device, DEVICE))?;
        self.epoll.modify(self.socket.as_fd(), &mut EpollEvent::new(socket, SOCKET))?;
        Ok(())
    }

    fn hand_over(&mut self) {
        while let Some(punt) = self.worker.poll_punt() {
            match self.punts.try_send(punt) {
                Ok(()) => {}
                // The core is behind. It will not catch up by getting more; whoever sent this will send again.
                Err(TrySendError::Full(_) | TrySendError::Closed(_)) => self.drops.add(DropReason::PuntFull, 1),
            }
        }
    }
}
