//! A network with a gateway of its own, which no packet leaves: the gateway's side is in another network namespace.

use std::sync::mpsc;

use nix::sched::{CloneFlags, unshare};

use crate::dataplane::device::namespace::ip;

/// Of the host: 192.168.1.2 and 2001:db8::2 on eth0, with default routes to 192.168.1.1 and fe80::1. Of the gateway also:
/// 192.168.1.66, which is somebody else.
pub(super) struct Lan {
    work: mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

impl Lan {
    /// To be called in a fresh namespace.
    pub(super) fn new() -> Self {
        let (work, todo) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (started, start) = mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            started.send(nix::unistd::gettid()).unwrap();
            for piece in todo {
                piece();
            }
        });
        let lan = Self { work };
        let thread = start.recv().unwrap();
        ip("link set lo up");
        ip("link add eth0 type veth peer name gate0");
        ip(&format!("link set gate0 netns {thread}"));
        for command in ["link set gate0 addrgenmode none", "link set gate0 up", "link set lo up"] {
            lan.there(move || ip(command));
        }
        for address in ["192.168.1.1/24", "192.168.1.66/24", "fe80::1/64 nodad", "2001:db8::1/64 nodad"] {
            lan.there(move || ip(&format!("addr add {address} dev gate0")));
        }
        for command in [
            "link set eth0 addrgenmode none",
            "link set eth0 up",
            "addr add 192.168.1.2/24 dev eth0",
            "addr add fe80::2/64 dev eth0 nodad",
            "addr add 2001:db8::2/64 dev eth0 nodad",
        ] {
            ip(command);
        }
        lan
    }

    /// Does something in the gateway's network: what is opened there stays there.
    pub(super) fn there<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.work.send(Box::new(move || done.send(work()).unwrap_or_default())).unwrap();
        result.recv().unwrap()
    }
}
