//! Runs tools of the system that may or may not be there, for commands that tell about the machine.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long a tool may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Most bytes that are taken of what it writes: the rules of a large container host are a few MiB.
const MAX_OUTPUT: u64 = 16 << 20;

/// Runs a tool to its end and returns what it wrote, at most 16 MiB; after five seconds it is killed.
///
/// # Errors
/// In words: it is not there, failed (with the first line that it wrote about that), wrote too much, or took too long.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<Vec<u8>, String> {
    // Debian keeps tools of administrators where the PATH of a plain user does not lead.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", path).env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            format!("{program} is not installed")
        } else {
            format!("{program} does not start: {error}")
        }
    })?;
    let (sender, ends) = mpsc::channel();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let reader = move || {
        let mut written = Vec::new();
        let read = stdout.map_or(Ok(0), |pipe| pipe.take(MAX_OUTPUT + 1).read_to_end(&mut written));
        // Nobody waits any more where it came too late.
        let _ = sender.send(read.map(|_| written));
    };
    let (complaint_sender, complaints) = mpsc::channel();
    let complain = move || {
        let mut text = String::new();
        // As much as fits one line; text that is none says nothing.
        let _ = stderr.map(|pipe| pipe.take(4096).read_to_string(&mut text));
        let _ = complaint_sender.send(text);
    };
    std::thread::spawn(reader);
    std::thread::spawn(complain);
    let written = ends.recv_timeout(LIMIT);
    if !matches!(&written, Ok(Ok(bytes)) if bytes.len() as u64 <= MAX_OUTPUT) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(match written {
            Ok(Ok(_)) => format!("{program} writes more than {} MiB", MAX_OUTPUT >> 20),
            Ok(Err(error)) => format!("{program}: {error}"),
            Err(_) => format!("{program} takes longer than {} s", LIMIT.as_secs()),
        });
    }
    // It has closed its output, which is as good as its end.
    let status = child.wait().map_err(|error| format!("{program}: {error}"))?;
    match written {
        Ok(Ok(bytes)) if status.success() => Ok(bytes),
        _ => {
            let text = complaints.recv_timeout(LIMIT).unwrap_or_default();
            let line = text.lines().next().unwrap_or_default().trim();
            Err(format!("{program} fails: {line}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_is_absent_fails_or_works_is_told_apart() {
        assert_eq!(run("no-such-tool", &[]), Err("no-such-tool is not installed".to_owned()));
        assert_eq!(run("sh", &["-c", "echo because >&2; exit 3"]), Err("sh fails: because".to_owned()));
        assert_eq!(run("sh", &["-c", "echo good"]), Ok(b"good\n".to_vec()));
    }
}
