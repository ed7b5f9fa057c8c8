//! Configuration, keys and the state folder.

use std::io::ErrorKind;

use config::Problem;

use super::facts::{ConfigFacts, Facts, KeyContent, KeyFacts, KeyKind, Life, StateFacts};
use super::finding::{Check, Finding};

/// Free bytes below which the state folder counts as full: the journal and the timestamp need a few KiB.
const FULL: u64 = 1 << 20;

/// Free bytes below which it soon will be.
const SCARCE: u64 = 16 << 20;

const CONFIG: Check = Check("config");
const KEY: Check = Check("key");
const STATE: Check = Check("state");

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
    let warnings = outline.warnings.iter().map(|warning| CONFIG.warn(warning, format!("edit {path}")));
    let (name, mesh, count) = (&outline.name, &outline.mesh_name, outline.members.endpoints.len());
    let good = CONFIG.ok(format!("{path}: {name} in mesh {mesh} of {count}"));
    std::iter::once(good).chain(warnings).collect()
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
