//! Runs tools of the system that may or may not be there, for commands that tell about the machine.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::unistd::geteuid;

/// Where the system's tools are.
const SYSTEM: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// How long a tool may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Most bytes that are taken of what it writes: the rules of a large container host are a few MiB.
const MAX_OUTPUT: u64 = 16 << 20;

/// Runs a tool to its end and returns what it wrote, at most 16 MiB; after five seconds it is killed.
///
/// # Errors
/// In words: it is not there, failed (with the first line that it wrote about that), wrote too much, or took too long.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let path = search_path(geteuid().is_root(), std::env::var_os("PATH"));
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

/// Where tools are looked for: never in the current folder, in which anybody may have put a program, and as root only where root alone
/// puts them.
fn search_path(is_root: bool, given: Option<OsString>) -> OsString {
    let given = given.filter(|_| !is_root).unwrap_or_default();
    let own = std::env::split_paths(&given).filter(|folder| folder.is_absolute());
    // Debian keeps tools of administrators where the PATH of a plain user does not lead.
    let all = own.chain(SYSTEM.map(PathBuf::from));
    // No part has a colon, for all were split at colons.
    std::env::join_paths(all).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_never_looked_for_in_the_current_folder() {
        let system = "/usr/sbin:/usr/bin:/sbin:/bin";
        let path =
            |is_root, given: Option<&str>| search_path(is_root, given.map(OsString::from)).into_string().unwrap();
        for given in [None, Some(""), Some(":"), Some(".:bin::../x")] {
            assert_eq!(path(false, given), system, "{given:?}");
        }
        assert_eq!(path(false, Some("/home/a/bin::/usr/bin")), format!("/home/a/bin:/usr/bin:{system}"));
        assert_eq!(path(true, Some("/home/a/bin:/usr/bin")), system, "root's tools are the system's");
    }

    #[test]
    fn a_tool_that_is_absent_fails_or_works_is_told_apart() {
        assert_eq!(run("no-such-tool", &[]), Err("no-such-tool is not installed".to_owned()));
        assert_eq!(run("sh", &["-c", "echo because >&2; exit 3"]), Err("sh fails: because".to_owned()));
        assert_eq!(run("sh", &["-c", "echo good"]), Ok(b"good\n".to_vec()));
    }
}
