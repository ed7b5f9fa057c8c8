//! The two TOML files of a node, read into checked values.
#![forbid(unsafe_code)]

mod duration;

pub use duration::{Period, PeriodError};
