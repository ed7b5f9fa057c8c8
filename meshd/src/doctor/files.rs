//! Configuration, keys and the state folder.

use std::io::ErrorKind;

use config::{Outline, Problem};

use super::facts::{ConfigFacts, Facts, FolderFacts, KeyContent, KeyFacts, KeyKind, Life, ProcessFacts, StateFacts};
use super::finding::{Check, Finding};

/// Free bytes below which the state folder counts as full: the journal and the timestamp need a few KiB.
const FULL: u64 = 1 << 20;

/// Free bytes below which it soon will be.
const SCARCE: u64 = 16 << 20;

const CONFIG: Check = Check("config");
const KEY: Check = Check("key");
const STATE: Check = Check("state");
const INVITE: Check = Check("invite");

pub(super) fn config(facts: &Facts) -> Vec<Finding> {
    let ConfigFacts { path, outline, is_barred } = &facts.config;
    let (path, outline) = match outline {
        _ if *is_barred => {
            return vec![
                CONFIG.skipped(format!("{} may not be read by this user", path.display()), "run this as root"),
            ];
        }
        Ok(outline) => (path.display(), outline),
        Err(problems) => return problems.iter().map(problem).collect(),
    };
    let edit = |warning: &str| match place(warning) {
        Some(place) => format!("edit {place}"),
        None => format!("edit {path}"),
    };
    let warnings = outline.warnings.iter().map(|warning| CONFIG.warn(warning, edit(warning)));
    let left_out = CONFIG
        .warn(format!("{} is left out by [selector] of the mesh, so nothing runs here", outline.name), select(outline));
    let warnings = warnings.chain((!outline.selected).then_some(left_out));
    let (name, mesh, count) = (&outline.name, &outline.mesh_name, outline.members.endpoints.len());
    let good = CONFIG.ok(format!("{path}: {name} in mesh {mesh} of {count}"));
    std::iter::once(good).chain(warnings).collect()
}

/// What makes a node run that the mesh leaves out.
pub(super) fn select(outline: &Outline) -> String {
    format!("to have it run, give {} the labels of [selector] in the mesh file", outline.name)
}

/// The file, line and column in front of a warning.
fn place(warning: &str) -> Option<&str> {
    let (place, _) = warning.split_once(": ")?;
    let mut parts = place.rsplitn(3, ':');
    let is_number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u32>().is_ok());
    (is_number(parts.next()) && is_number(parts.next()) && parts.next().is_some()).then_some(place)
}

fn problem(problem: &Problem) -> Finding {
    let place = match problem.line {
        0 => problem.file.display().to_string(),
        line => format!("{}:{line}:{}", problem.file.display(), problem.column),
    };
    let fix = problem.help.clone().unwrap_or_else(|| format!("edit {place}"));
    CONFIG.fail(format!("{place}: {}", problem.message), fix)
}

pub(super) fn keys(facts: &Facts) -> Vec<Finding> {
    if facts.config.good().is_none() {
        return vec![KEY.skipped("the configuration does not say which", "mend the configuration first")];
    }
    facts.keys.iter().map(|key| judge_key(facts, key)).collect()
}

fn judge_key(facts: &Facts, key: &KeyFacts) -> Finding {
    let path = key.path.display();
    let public_key = match &key.content {
        KeyContent::Barred => return KEY.skipped(format!("{path} may not be read by this user"), "run this as root"),
        KeyContent::Bad { reason, help } => {
            let fix = help.clone().unwrap_or_else(|| format!("look at {path}"));
            return KEY.fail(reason, fix);
        }
        KeyContent::Good { public_key } => public_key.as_deref(),
    };
    if let (Some(owner), Life::Alive(alive)) = (key.owner, &facts.daemon.life)
        && let Ok(process) = &alive.process
        && process.uid != 0
        && process.uid != owner
    {
        let found = format!("{path} belongs to user {owner}, and the daemon runs as {}", process.uid);
        return KEY.fail(found, format!("chown {} {path}", process.uid));
    }
    let own = facts.config.good().and_then(|outline| outline.own()).map(|own| own.public_key.to_string());
    match (key.kind, public_key, own) {
        (KeyKind::Private, Some(has), Some(wanted)) if has != wanted => {
            let name = facts.config.good().map(|outline| outline.name.to_string()).unwrap_or_default();
            let found = format!("{path} is the key of {has}, and the mesh has {wanted} for {name}");
            KEY.fail(found, format!("set public_key of {name} to {has} in the mesh, on every node"))
        }
        (KeyKind::Private, ..) => KEY.ok(format!("{path}: for its owner only, and the one that the mesh knows")),
        (KeyKind::Preshared, ..) => KEY.ok(format!("{path}: for its owner only")),
    }
}

pub(super) fn state(facts: &Facts) -> Vec<Finding> {
    match &facts.state {
        Err(reason) => vec![STATE.skipped(reason, "mend the configuration first")],
        Ok(state) => {
            let left = leftover(facts, state);
            std::iter::once(folder(state)).chain(left).collect()
        }
    }
}

fn folder(state: &StateFacts) -> Finding {
    let dir = state.dir.display();
    match (state.writable, state.free) {
        (Err(ErrorKind::NotFound), _) => STATE.ok(format!("{dir} is not there yet: `meshd up` makes it")),
        (Err(ErrorKind::PermissionDenied), _) => {
            STATE.skipped(format!("{dir} may not be written by this user"), "run this as root or as the daemon's user")
        }
        (Err(kind), _) => STATE.fail(format!("{dir} cannot be written: {kind}"), format!("make {dir} writable")),
        (Ok(()), Some(free)) if free < FULL => {
            STATE.fail(format!("{dir} is full: {} KiB are free", free >> 10), format!("make room: df -h {dir}"))
        }
        (Ok(()), Some(free)) if free < SCARCE => {
            STATE.warn(format!("{dir} has {} MiB free", free >> 20), format!("make room: df -h {dir}"))
        }
        (Ok(()), _) => STATE.ok(format!("{dir} can be written")),
    }
}

/// Whether who uses an invitation can be written into the mesh file.
pub(super) fn invite(facts: &Facts) -> Vec<Finding> {
    let Some(folder) = &facts.mesh_folder else { return Vec::new() };
    let Life::Alive(alive) = &facts.daemon.life else { return Vec::new() };
    let (folder, process) = match (folder, &alive.process) {
        (Ok(folder), Ok(process)) => (folder, process),
        (Err(reason), _) | (_, Err(reason)) => {
            return vec![INVITE.skipped(format!("the folder of the mesh file: {reason}"), "run this as root")];
        }
    };
    let path = folder.path.display();
    vec![if may_write(process, folder) {
        INVITE.ok(format!("[invite] accept is on, and the daemon may write in {path}"))
    } else {
        let state =
            facts.state.as_ref().map_or_else(|_| "/var/lib/meshd".to_owned(), |state| state.dir.display().to_string());
        INVITE.warn(
            format!("[invite] accept is on, and the daemon may not write in {path}, where the mesh file is: nobody is let in"),
            format!("move the mesh file into {state}, the daemon's own folder, and name it in [node] mesh"),
        )
    }]
}

/// Whether a process may make files in a folder (path_resolution(7)).
fn may_write(process: &ProcessFacts, folder: &FolderFacts) -> bool {
    let shift = if process.uid == folder.uid {
        6
    } else if process.groups.contains(&folder.gid) {
        3
    } else {
        0
    };
    let is_permitted = process.capabilities.has_dac_override() || folder.mode >> shift & 0o3 == 0o3;
    is_permitted && !folder.is_read_only
}

fn leftover(facts: &Facts, state: &StateFacts) -> Option<Finding> {
    let left = match &state.leftover {
        Err(reason) => return Some(STATE.skipped(format!("the journal of changes: {reason}"), "run this as root")),
        Ok(left) => left.as_ref()?,
    };
    // Of a daemon that runs the journal is what it has to undo later.
    if !matches!(facts.daemon.life, Life::Absent) {
        return None;
    }
    if !left.is_present {
        return Some(STATE.ok("a daemon was killed before the last boot, which undid its changes"));
    }
    let found = format!("a daemon was killed: its forwarding and routes ({}) are still there", left.interface);
    Some(STATE.warn(found, "start it again: `meshd up` undoes them first, and at its end its own"))
}
