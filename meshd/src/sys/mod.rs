//! Every `unsafe` line of the project: small safe wrappers, one system call each.
#![allow(unsafe_code)]

pub(crate) mod adjust;
pub(crate) mod heap;
pub(crate) mod notices;
pub(crate) mod tun;
pub(crate) mod udp;
pub(crate) mod wall;
