//! The two TOML files of a node, read into checked values.
//!
//! `meshd.toml` is this node; the mesh file is the same on every node. Both are walked by hand, so that one run reports
//! everything that is wrong with them, each with file, line, column, key, the nearest known name and what to do.
//!
//! Order of work: [`load()`] parses each file (`read`), turns its tables into drafts (`node`, `mesh`, and `args` for what
//! nodes take from the mesh), holds the drafts
//! against each other (`check`) and only then makes a [`Config`] of them.
#![forbid(unsafe_code)]

mod address;
mod args;
mod check;
mod digest;
mod duration;
pub mod edit;
mod error;
mod file;
mod health;
mod invite;
pub mod key;
mod label;
mod lan;
mod load;
mod mesh;
mod metrics;
mod model;
mod node;
mod note;
mod outline;
mod owner;
mod paths;
pub mod plain;
mod rate;
mod read;
mod reload;
mod scalar;
mod settings;
mod shape;
mod show;
mod source;
mod suggest;
mod syntax;

pub use args::is_arg;
pub use digest::MeshDigest;
pub use duration::{Period, PeriodError};
pub use error::{Problem, Problems};
pub use invite::{InviteConfig, time_text, unix_now};
pub use load::{check, load, outline, parse_mesh, parse_node};
pub use model::{
    ApiConfig, Balance, Config, DataplaneConfig, HealthConfig, InterfaceConfig, InterfacePattern, LanConfig, LanMode,
    ListenConfig, LogConfig, LogFormat, LogLevel, Mesh, MetricsConfig, NatConfig, NodeConfig, Offload, PathsConfig,
    RelayConfig, ReloadConfig, SessionConfig, StateConfig,
};
pub use note::{Origin, Setting, Value};
pub use outline::{Outline, key_file};
pub use owner::{give_to_owner, is_anothers};
pub use rate::{Rate, RateError};
pub use reload::{Baseline, Changes, Class, Fixed, Key, Tally, class};
pub use show::{Extent, Shown, show};
pub use suggest::nearest;

#[cfg(test)]
mod tests;
