//! Who receives on a UDP port (`proc_net_udp`, proc(5)).

use std::fs;

use super::super::facts::{Look, PortHolder};

/// The sockets on a UDP port of any address of this machine; none for port 0.
///
/// # Errors
/// When `/proc` does not tell.
pub(super) fn holders(port: u16) -> Look<Vec<PortHolder>> {
    if port == 0 {
        return Ok(Vec::new());
    }
    let mut sockets = Vec::new();
    for file in ["/proc/self/net/udp", "/proc/self/net/udp6"] {
        match fs::read_to_string(file) {
            Ok(text) => sockets.extend(text.lines().skip(1).filter_map(|line| socket(line, port))),
            // A kernel without IPv6 has none of the second.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{file}: {error}")),
        }
    }
    Ok(sockets.into_iter().map(|(uid, inode)| PortHolder { uid, process: process_with(inode) }).collect())
}

/// User and inode of a socket on `port`, from its line.
fn socket(line: &str, port: u16) -> Option<(u32, u64)> {
    let mut fields = line.split_whitespace();
    let (_, local) = fields.nth(1)?.rsplit_once(':')?;
    let is_ours = u16::from_str_radix(local, 16) == Ok(port);
    // Remote address, state, queues, timer and retransmissions stand between.
    let (uid, inode) = (fields.nth(5)?, fields.nth(1)?);
    is_ours.then_some((uid.parse().ok()?, inode.parse().ok()?))
}

/// The process that has a socket open, among those that we may look into.
fn process_with(inode: u64) -> Option<(i32, String)> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has = |pid: &i32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|link| link.as_os_str() == wanted.as_str())
    };
    let pid = pids.into_iter().find(has)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some((pid, name.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_gives_user_and_inode_of_the_port_that_is_asked_for() {
        let line =
            " 2109: 00000000:18E6 00000000:0000 07 00000000:00000000 00:00000000 00000000   998        0 45327 2 0 0";
        assert_eq!(socket(line, 6374), Some((998, 45_327)));
        assert_eq!(socket(line, 6375), None);
        let six = " 1: 00000000000000000000000000000000:18E6 00000000000000000000000000000000:0000 07 0:0 00:0 0 0 0 77 2 0 0";
        assert_eq!(socket(six, 6374), Some((0, 77)));
        assert_eq!(socket("", 6374), None);
    }
}
