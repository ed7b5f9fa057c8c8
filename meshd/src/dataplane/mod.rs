//! Packets on worker threads: TUN device, UDP sockets, and the loop between them.

pub(crate) mod device;
pub(crate) mod socket;
pub(crate) mod worker;
