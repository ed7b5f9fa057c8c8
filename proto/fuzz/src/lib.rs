//! Fuzz targets of everything in `proto` that reads bytes of others, and the oracles that judge what comes out.
//!
//! A target is a function of bytes. It draws what it needs from them ([`input::Input`]), runs it through the real code and
//! panics where an oracle disagrees, so any fuzzer can drive it. `cargo test -p fuzz` does, with the same inputs in every
//! run; longer, and with other inputs, where asked:
//!
//! ```text
//! PROPTEST_CASES=1000000 PROPTEST_RNG_SEED=7 cargo test --release -p fuzz chains
//! ```
#![forbid(unsafe_code)]
// A target has only one way to say that something is wrong: the panic that fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod beacons;
pub mod input;
pub mod oracle;
pub mod questions;
pub mod rig;
pub mod targets;
pub mod traffic;
