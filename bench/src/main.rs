//! Measures meshd against other userspace tunnels, side by side on this machine, and counts the instructions of its fast
//! path. `bench --help` tells how; `bench/README.md` tells what the figures mean.
#![forbid(unsafe_code)]

mod arguments;
mod compare;
mod daemon;
mod install;
mod instructions;
mod iperf;
mod latency;
mod machine;
mod measure;
mod peers;
mod plot;
mod record;
mod scale;
mod statistics;
mod table;
mod testbed;
mod tools;
mod ways;

use std::error::Error;
use std::process::ExitCode;

use arguments::{Action, Arguments};
use clap::Parser as _;
use netns_tests::sandbox;

/// What can go wrong here ends in a text for the user.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome<ExitCode> {
    if sandbox::is_inside() {
        let inside = match arguments.action {
            Action::Scale => scale::inside,
            Action::Ways => ways::inside,
            Action::Compare | Action::Crowd | Action::Instructions => compare::inside,
        };
        return inside(arguments).map(|()| ExitCode::SUCCESS);
    }
    let chosen = arguments.chosen()?;
    if arguments.install {
        install::install(&chosen)?;
    }
    match arguments.action {
        Action::Compare | Action::Scale | Action::Ways => compare::outside(arguments),
        Action::Crowd => scale::crowd::run(arguments.plan.as_deref()).map(|()| ExitCode::SUCCESS),
        Action::Instructions => instructions::count().map(|()| ExitCode::SUCCESS),
    }
}
