//! The two TOML files of a node, read into checked values.
#![forbid(unsafe_code)]

mod duration;
mod file;
pub mod key;

pub use duration::{Period, PeriodError};
