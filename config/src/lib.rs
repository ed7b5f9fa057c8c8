//! The two TOML files of a node, read into checked values.
//!
//! `meshd.toml` is this node; the mesh file is the same on every node. Both are walked by hand, so that one run reports
//! everything that is wrong with them, each with file, line, column, key, the nearest known name and what to do.
//!
//! Order of work: [`load()`] parses each file (`read`), turns its tables into drafts (`node`, `mesh`), holds the drafts
//! against each other (`check`) and only then makes a [`Config`] of them.
#![forbid(unsafe_code)]

mod address;
mod check;
mod duration;
pub mod edit;
mod error;
mod file;
mod health;
mod invite;
pub mod key;
mod lan;
mod load;
mod mesh;
mod model;
mod node;
mod paths;
mod rate;
mod read;
mod scalar;
mod shape;
mod source;
mod suggest;
mod syntax;

pub use duration::{Period, PeriodError};
pub use error::{Problem, Problems};
pub use invite::{InviteConfig, time_text, unix_now};
pub use load::{check, load, parse_mesh, parse_node};
pub use model::{
    ApiConfig, Balance, Config, DataplaneConfig, HealthConfig, InterfaceConfig, InterfacePattern, LanConfig, LanMode,
    ListenConfig, LogConfig, LogLevel, Mesh, NatConfig, NodeConfig, Offload, PathsConfig, RelayConfig, SessionConfig,
    StateConfig,
};
pub use rate::{Rate, RateError};
pub use suggest::nearest;

#[cfg(test)]
mod tests;
