//! The local API: HTTP/1.1 with JSON over a Unix socket. The command line is its first client.

pub(crate) mod client;
pub(crate) mod detail;
pub(crate) mod events;
pub(crate) mod exporter;
mod live;
pub(crate) mod log;
pub(crate) mod model;
pub(crate) mod netcheck;
pub(crate) mod reload;
pub(crate) mod server;
pub(crate) mod shared;
pub(crate) mod stream;
pub(crate) mod trace;
pub(crate) mod why;
