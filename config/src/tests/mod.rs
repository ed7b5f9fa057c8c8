//! Claims about whole files: what is refused and in which words, what is loaded, and what no input can do.

mod args;
mod examples;
mod files;
mod input;
mod lan;
mod mesh;
mod node;
mod reload;
mod select;
mod show;

use std::path::Path;

use crate::{Config, Problems};

/// What a node `a.b` in a mesh with `a.c` is told, with more lines in its `meshd.toml`.
pub(crate) fn example(more: &str) -> Config {
    let mut config = files::example(more);
    // Each time they lie in another folder.
    (config.node.key_file, config.node.mesh_file) = ("private.key".into(), Some("mesh.toml".into()));
    config
}

/// The public key of 32 equal bytes.
fn key(byte: u8) -> String {
    proto::id::PublicKey([byte; 32]).to_string()
}

/// An endpoint's table, with more lines below it.
fn endpoint(name: &str, byte: u8, more: &str) -> String {
    format!("[[endpoint]]\nname = \"{name}\"\npublic_key = \"{}\"\n{more}\n", key(byte))
}

/// Every problem of a mesh file, each as its text.
fn mesh_problems(text: &str) -> Vec<String> {
    texts(crate::parse_mesh(Path::new("mesh.toml"), text).map(|_| ()))
}

/// Every problem of a `meshd.toml`, each as its text.
fn node_problems(text: &str) -> Vec<String> {
    texts(crate::parse_node(Path::new("meshd.toml"), text))
}

fn texts(result: Result<(), Problems>) -> Vec<String> {
    result.err().map(|Problems(list)| list.iter().map(ToString::to_string).collect()).unwrap_or_default()
}
