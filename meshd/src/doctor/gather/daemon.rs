//! The daemon: by its API, and by what `/proc` says of the process behind the socket.

use std::fs;
use std::path::Path;
use std::time::Duration;

use axum::http::Method;
use tokio::net::UnixStream;

use super::super::facts::{Alive, DaemonFacts, Life, Look, ProcessFacts};
use super::kernel::capabilities_of;
use crate::api::client::{ClientError, call};
use crate::api::model::{Mode, Status};

/// How long it may take; it needs milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn daemon(socket: &Path) -> DaemonFacts {
    let has_socket_file = fs::symlink_metadata(socket).is_ok();
    DaemonFacts { socket: socket.to_owned(), has_socket_file, life: life(socket).await }
}

async fn life(socket: &Path) -> Life {
    let pid = pid_behind(socket).await;
    match call::<Status>(socket, LIMIT, Method::GET, "/v1/status", None::<&()>).await {
        Ok(status) => Life::Alive(Box::new(alive(status, pid))),
        Err(ClientError::Connect { .. }) => Life::Absent,
        Err(ClientError::Permission(_) | ClientError::Refused(_)) => Life::Barred,
        Err(ClientError::Silent(_) | ClientError::Timeout | ClientError::Protocol(_)) => Life::Silent { pid },
    }
}

/// The process that made the socket listen (`SO_PEERCRED`, unix(7)); 0 stands for one in a namespace that is invisible from here.
async fn pid_behind(socket: &Path) -> Option<i32> {
    let stream = tokio::time::timeout(LIMIT, UnixStream::connect(socket)).await.ok()?.ok()?;
    stream.peer_cred().ok()?.pid().filter(|pid| *pid > 0)
}

fn alive(status: Status, pid: Option<i32>) -> Alive {
    let node = status.node;
    Alive {
        pid,
        version: node.daemon,
        port: node.port,
        is_resting: status.mode == Mode::NotSelected,
        offloads: node.offloads,
        health: status.health.into_iter().map(|health| health.text).collect(),
        process: pid.ok_or_else(|| "its process is in another namespace".to_owned()).and_then(process),
    }
}

fn process(pid: i32) -> Look<ProcessFacts> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).map_err(|error| error.to_string());
    let (status, limits) = (read("status")?, read("limits")?);
    let field = |text: &str, start: &str, index: usize| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(start))?.split_whitespace().nth(index)?.parse().ok()
    };
    let uid = field(&status, "Uid:", 1).and_then(|uid| u32::try_from(uid).ok()).ok_or("no Uid in its status")?;
    let ids = |start: &str, skip: usize| {
        let ids = status.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default();
        ids.split_whitespace().skip(skip).filter_map(|id| id.parse().ok()).collect::<Vec<u32>>()
    };
    // Real, effective, saved and of the file system, in this order.
    let groups = ids("Gid:", 1).into_iter().take(1).chain(ids("Groups:", 0)).collect();
    // "unlimited" is no number, and more than enough.
    let descriptor_limit = field(&limits, "Max open files", 0).unwrap_or(u64::MAX);
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).map_err(|error| error.to_string());
    Ok(ProcessFacts { uid, groups, capabilities: capabilities_of(&pid.to_string())?, descriptors, descriptor_limit })
}
