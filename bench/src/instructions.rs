//! `bench instructions`: counts the instructions of each operation of the fast path under valgrind's callgrind.
//!
//! Each operation runs twice in a process of its own, the second time with more repetitions; the difference, divided by
//! the repetitions that it has more, is free of start-up and set-up, and does not depend on the machine's mood. Where a
//! run needs preparation, that is counted alone too and taken off.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bench::operations;

use crate::{Outcome, tools};

/// Repetitions of the two runs.
const FEW: u64 = 50;
const MANY: u64 = 250;

/// Callgrind counts one `rep movsb` as one instruction per byte; glibc would take it for copies over 2 KiB.
const COPY_BY_VECTORS: &str = "glibc.cpu.x86_rep_movsb_threshold=1073741824";

/// Prints a table.
pub(crate) fn count() -> Outcome {
    tools::need("valgrind").map_err(|error| format!("{error}; on Debian: apt-get install valgrind"))?;
    let program = std::env::current_exe()?.with_file_name("instructions");
    if !program.is_file() {
        return Err("the program `instructions` is not built; cargo build --release -p bench builds it".into());
    }
    println!("| operation | instructions | bytes | instructions per byte |\n|---|---|---|---|");
    for entry in operations::all() {
        let mut instructions = difference(&program, entry.name, &[])?;
        if entry.is_prepared {
            instructions -= difference(&program, entry.name, &["prepare-only"])?.min(instructions);
        }
        println!("| {} | {instructions} | {} | {} |", entry.name, entry.bytes, per_byte(instructions, entry.bytes));
    }
    Ok(())
}

fn per_byte(instructions: u64, bytes: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
    let ratio = instructions as f64 / bytes as f64;
    if bytes == 0 { "-".to_owned() } else { format!("{ratio:.3}") }
}

fn difference(program: &Path, operation: &str, after: &[&str]) -> Outcome<u64> {
    let count = |repetitions: u64| {
        let number = repetitions.to_string();
        run(program, &[&[operation, number.as_str()], after].concat())
    };
    let (few, many) = (count(FEW)?, count(MANY)?);
    Ok(many.saturating_sub(few) / (MANY - FEW))
}

fn run(program: &Path, arguments: &[&str]) -> Outcome<u64> {
    let file = output_file();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", &format!("--callgrind-out-file={}", file.display())])
        .arg(program)
        .args(arguments)
        .env("GLIBC_TUNABLES", COPY_BY_VECTORS)
        .output()?;
    let text = fs::read_to_string(&file).unwrap_or_default();
    // Left behind it would only fill the folder.
    let _ = fs::remove_file(&file);
    let told = || format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    total(&text).filter(|_| output.status.success()).ok_or_else(|| told().into())
}

fn output_file() -> PathBuf {
    std::env::temp_dir().join(format!("meshd-bench-callgrind.{}", std::process::id()))
}

/// The program's total in callgrind's own format: `summary:` or `totals:`, then instructions read.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("summary:").or_else(|| line.strip_prefix("totals:")))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_callgrind_is_read() {
        assert_eq!(total("version: 1\nevents: Ir\nsummary: 123456\n\nfn=(1) main\n"), Some(123_456));
        assert_eq!(total("events: Ir\n"), None);
    }
}
