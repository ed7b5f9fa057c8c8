//! The meshd daemon and its command line.

mod dataplane;
mod host;
mod sys;

fn main() {}
