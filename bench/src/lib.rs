//! The operations of meshd's fast path, set up so that they can be repeated: for timing with criterion
//! (`benches/fastpath.rs`) and for counting instructions (`src/bin/instructions.rs`).
#![forbid(unsafe_code)]
// A benchmark that cannot set up its operation has only one way to say so.
#![allow(clippy::expect_used)]

mod memory;
pub mod operations;
