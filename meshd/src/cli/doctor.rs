//! `meshd doctor`: what on this machine keeps a node from working, and what to do about each.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{ConfigArgs, Result, block_on, print};
use crate::doctor::{Level, count, examine, gather, json, render};

#[derive(Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// API socket of the daemon, where it is not the one that the configuration names
    #[arg(long, value_name = "PATH", env = "MESHD_SOCKET")]
    socket: Option<PathBuf>,
}

/// Looks, judges, and prints; fails where something failed.
pub(super) fn main(args: &DoctorArgs) -> Result {
    let facts = block_on(async { Ok(gather(&args.config.config, args.socket.as_deref()).await) })?;
    let findings = examine(&facts);
    print(&if args.json { json(&findings)? } else { render(&findings) })?;
    Ok(if count(&findings, Level::Fail) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
