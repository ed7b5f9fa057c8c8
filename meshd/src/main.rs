//! The meshd daemon and its command line.

mod api;
mod cli;
mod clock;
mod daemon;
mod dataplane;
mod driver;
mod host;
mod report;
mod resolver;
mod state;
mod sys;

fn main() -> std::process::ExitCode {
    cli::main()
}
