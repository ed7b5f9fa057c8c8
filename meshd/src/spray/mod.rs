//! The sockets of a spray, from its beginning to its end: see `proto::node`'s part of it for what is sent when.

mod drive;

use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use proto::path::{SPRAY_SOCKETS, SocketId};
use proto::time::Instant;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use crate::dataplane::socket::Extras;

/// Longer than any probe; what is longer is none.
const LONGEST: usize = 2048;

/// How often it is looked at whether kept sockets are used.
const CHECK: Duration = Duration::from_secs(1);

/// What opens and keeps sockets for sprays.
pub(crate) struct Spray {
    extras: Arc<Extras>,
    /// Those of the spray that goes on.
    open: Vec<UdpSocket>,
    checked: Instant,
}

/// A datagram that came to one of the sockets of a spray.
pub(crate) struct Heard {
    socket: Arc<std::net::UdpSocket>,
    source: SocketAddr,
    datagram: Vec<u8>,
}

impl Spray {
    /// No spray goes on.
    pub(crate) const fn new(extras: Arc<Extras>, now: Instant) -> Self {
        Self { extras, open: Vec::new(), checked: now }
    }

    /// Opens sockets for a spray: [`SPRAY_SOCKETS`], or half of what there are descriptors for; returns how many.
    fn open(&mut self) -> usize {
        self.open = Vec::with_capacity(SPRAY_SOCKETS);
        while self.open.len() < SPRAY_SOCKETS {
            match self.extras.open().and_then(UdpSocket::from_std) {
                Ok(socket) => self.open.push(socket),
                Err(error) => {
                    tracing::warn!(%error, sockets = self.open.len(), "no more sockets for a spray");
                    // The rest of the daemon wants descriptors too.
                    self.open.truncate(self.open.len() / 2);
                    break;
                }
            }
        }
        self.open.len()
    }

    /// Sends one of `probes` from each socket.
    fn fire(&self, probes: &[Vec<u8>], target: SocketAddr) {
        for (socket, probe) in self.open.iter().zip(probes) {
            if let Err(error) = self.extras.send(socket.as_fd(), probe, target) {
                tracing::debug!(address = %target, %error, "not sent");
            }
        }
    }

    /// Closes the sockets of the spray that goes on, but those that are kept.
    fn close(&mut self) {
        self.open = Vec::new();
    }

    /// Waits for what comes to one of the sockets; for ever, while no spray goes on.
    pub(crate) async fn heard(&mut self) -> Heard {
        if self.open.is_empty() {
            return pending().await;
        }
        let mut memory = [0; LONGEST];
        poll_fn(|context| {
            let heard = self.open.iter().find_map(|socket| take(socket, &mut memory, context));
            heard.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Numbers of kept sockets, if it is time to look at whether they are used.
    fn due(&mut self, now: Instant) -> Vec<SocketId> {
        if now - self.checked < CHECK {
            return Vec::new();
        }
        self.checked = now;
        self.extras.ids()
    }
}

/// What waits at a socket; `None`: nothing does, and the task is woken when that changes.
fn take(socket: &UdpSocket, memory: &mut [u8], context: &mut Context<'_>) -> Option<Heard> {
    loop {
        let mut buffer = ReadBuf::new(memory);
        match socket.poll_recv_from(context, &mut buffer) {
            Poll::Pending => return None,
            Poll::Ready(Ok(source)) => return heard(socket, source, buffer.filled()).ok(),
            // What a past datagram met, told once.
            Poll::Ready(Err(_)) => {}
        }
    }
}

fn heard(socket: &UdpSocket, source: SocketAddr, datagram: &[u8]) -> io::Result<Heard> {
    let socket = Arc::new(socket.as_fd().try_clone_to_owned()?.into());
    let source = SocketAddr::new(source.ip().to_canonical(), source.port());
    Ok(Heard { socket, source, datagram: datagram.to_vec() })
}
