//! Packets on worker threads: TUN device, UDP sockets, and the loop between them.
