//! Empties a host's connection tracking, by netlink: `conntrack -F` is not on every machine.

use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

use crate::host::Host;

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE` (linux/netfilter/nfnetlink_conntrack.h).
const DELETE: u16 = 0x0102;

/// `NLM_F_REQUEST | NLM_F_ACK` (linux/netlink.h).
const REQUEST_AND_ANSWER: u16 = 0x0005;

/// A netlink header, and that of nfnetlink: any family, version 0.
const LENGTH: u32 = 20;

/// Forgets every connection that `host` tracks, of both families.
pub(super) fn flush(host: &Host) {
    // A deletion that names no connection deletes all.
    let mut request = Vec::new();
    request.extend(LENGTH.to_ne_bytes());
    request.extend(DELETE.to_ne_bytes());
    request.extend(REQUEST_AND_ANSWER.to_ne_bytes());
    request.extend([0; 12]);
    let mut answer = [0; 64];
    let length = host.enter(|| {
        let protocol = Some(SockProtocol::NetlinkNetFilter);
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .expect("open a netfilter socket");
        sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty()).expect("ask the kernel");
        recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).expect("hear the kernel")
    });
    // `struct nlmsgerr` begins with the error, 0 for none, behind a header of 16 bytes.
    let error = answer.get(..length).and_then(|answer| answer.get(16..)?.first_chunk().copied());
    assert_eq!(error.map(i32::from_ne_bytes), Some(0), "the connections of {} are not forgotten", host.name());
}
