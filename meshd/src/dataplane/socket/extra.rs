//! Sockets with ports of their own beside those of the node's port: the few that sprays have left over.
//!
//! Every worker sends by them; the first one receives. What leaves by one whose buffer is full is lost, as on any narrow link:
//! backpressure is for the sockets that carry nearly everything.

use std::io;
use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use arc_swap::ArcSwap;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use proto::path::SocketId;

use super::cutting::Cutting;
use super::{Family, Sharing, SocketOptions, open};
use crate::sys::udp;

/// Peers that are reached so at the same time. Each costs a descriptor, and a look at it when something comes.
const MAX_KEPT: usize = 8;

/// The kept sockets, numbered from 1.
#[derive(Debug)]
pub(crate) struct Extras {
    family: Family,
    options: SocketOptions,
    kept: ArcSwap<[Option<Arc<StdSocket>>; MAX_KEPT]>,
    /// Tells which of them can be read.
    ready: Epoll,
    /// All workers send by them, so they have one turn for all.
    cutting: Cutting,
}

impl Extras {
    /// None yet; those to come are as `options` say.
    ///
    /// # Errors
    /// `EMFILE` and the like.
    pub(super) fn new(family: Family, options: &SocketOptions) -> io::Result<Arc<Self>> {
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Arc::new(Self {
            family,
            options: options.clone(),
            kept: ArcSwap::default(),
            ready,
            cutting: Cutting::default(),
        }))
    }

    /// Opens a socket like those of the node's port, at a port that the kernel chooses. It is not kept yet.
    ///
    /// # Errors
    /// `EMFILE` and the like.
    pub(crate) fn open(&self) -> io::Result<StdSocket> {
        open(self.family, 0, Sharing::Owner, &self.options).map(|(socket, _)| socket)
    }

    /// Sends one datagram by a socket that [`Extras::open`] made.
    ///
    /// # Errors
    /// Those of `sendto(2)`.
    pub(crate) fn send(&self, socket: BorrowedFd<'_>, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let place = self.family.place(to, self.options.underlay.to(to.ip()))?;
        udp::send(socket, &place.message(datagram, None))
    }

    /// Whose turn it is to change what one of them may be used for.
    pub(super) const fn cutting(&self) -> &Cutting {
        &self.cutting
    }

    /// A number that none has; `None`: there are enough.
    #[must_use]
    pub(crate) fn free(&self) -> Option<SocketId> {
        let place = self.kept.load().iter().position(Option::is_none)?;
        u8::try_from(place + 1).ok().map(SocketId)
    }

    /// Keeps a socket under a number that is [free](Self::free): workers send by it and receive from it from now on.
    ///
    /// # Errors
    /// `ENOSPC` where the user watches too many descriptors.
    pub(crate) fn keep(&self, id: SocketId, socket: &Arc<StdSocket>) -> io::Result<()> {
        self.ready.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, id.0.into()))?;
        self.set(id, Some(Arc::clone(socket)));
        Ok(())
    }

    /// Lets go of a socket, which is closed when nobody has it any more.
    pub(crate) fn let_go(&self, id: SocketId) {
        if let Some(socket) = self.get(id) {
            // Fails only for one that is not in the set.
            let _ = self.ready.delete(socket.as_fd());
            self.set(id, None);
        }
    }

    /// A kept socket.
    #[must_use]
    pub(crate) fn get(&self, id: SocketId) -> Option<Arc<StdSocket>> {
        self.kept.load().get(usize::from(id.0).checked_sub(1)?)?.clone()
    }

    /// The numbers of all kept sockets.
    #[must_use]
    pub(crate) fn ids(&self) -> Vec<SocketId> {
        let kept = self.kept.load();
        (1..).zip(kept.iter()).filter(|(_, socket)| socket.is_some()).map(|(id, _)| SocketId(id)).collect()
    }

    /// The numbers of those that have something to read.
    #[must_use]
    pub(crate) fn readable(&self) -> Vec<SocketId> {
        let mut events = [EpollEvent::empty(); MAX_KEPT];
        let count = self.ready.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        events.iter().take(count).filter_map(|event| u8::try_from(event.data()).ok()).map(SocketId).collect()
    }

    fn set(&self, id: SocketId, socket: Option<Arc<StdSocket>>) {
        let mut all = (**self.kept.load()).clone();
        if let Some(place) = usize::from(id.0).checked_sub(1).and_then(|place| all.get_mut(place)) {
            *place = socket;
        }
        self.kept.store(Arc::new(all));
    }
}

/// Readable while one of the sockets is.
impl AsFd for Extras {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.0.as_fd()
    }
}
