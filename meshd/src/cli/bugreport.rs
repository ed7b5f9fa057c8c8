//! `meshd bugreport`: one file with everything that helps to find a fault from afar.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::text::bytes;
use super::{ConfigArgs, Result, block_on};
use crate::bugreport::{Report, WARNING, collect};

#[derive(Args)]
pub(super) struct BugreportArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// File to make, or `-` for standard output; it must not exist. Without this: meshd-bugreport-DATE.tar in this folder
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// API socket of the daemon, where it is not the one that the configuration names
    #[arg(long, value_name = "PATH", env = "MESHD_SOCKET")]
    socket: Option<PathBuf>,
}

/// Collects, writes, and says what was written.
pub(super) fn main(args: &BugreportArgs) -> Result {
    let collected = block_on(async { Ok(collect(&args.config.config, args.socket.as_deref()).await) })?;
    let Report { tar, contents, name } = collected?;
    let path = args.out.clone().unwrap_or_else(|| name.into());
    let is_stdout = path == Path::new("-");
    if is_stdout {
        let mut out = io::stdout().lock();
        out.write_all(&tar).and_then(|()| out.flush())?;
    } else {
        write(&path, &tar).map_err(|error| refusal(&path, &error))?;
    }
    let place = if is_stdout { "standard output".to_owned() } else { path.display().to_string() };
    let summary = format!("wrote {place} ({}):\n{contents}\n{WARNING}\n", bytes(tar.len() as u64));
    // Standard output may be the report.
    io::stderr().lock().write_all(summary.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn refusal(path: &Path, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AlreadyExists {
        format!("{} exists already; name another with --out", path.display())
    } else {
        format!("cannot write {}: {error}", path.display())
    }
}

/// Writes a file for its owner only, whole or not at all.
fn write(path: &Path, tar: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(tar).and_then(|()| file.sync_all()).inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })
}
