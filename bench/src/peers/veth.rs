//! The kernel alone: traffic straight over the link, without a tunnel.

use super::{Install, Over, Peer, nothing_to_prepare};

pub(crate) const VETH: Peer = Peer {
    name: "veth",
    about: "the kernel alone, no tunnel",
    is_limit: true,
    programs: &[],
    install: Install::Other("needs nothing"),
    version: None,
    mtu: 1500,
    over: Over::Link,
    prepare: nothing_to_prepare,
    start: |_| Ok(None),
    configure: |_| Ok(()),
};
