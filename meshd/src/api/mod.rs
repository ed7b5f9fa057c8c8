//! The local API: HTTP/1.1 with JSON over a Unix socket. The command line is its first client.

pub(crate) mod client;
pub(crate) mod detail;
pub(crate) mod model;
pub(crate) mod netcheck;
pub(crate) mod server;
pub(crate) mod shared;
pub(crate) mod why;
