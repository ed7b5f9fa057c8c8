//! `meshd bugreport`: everything that helps to find a fault from afar in one tar file, and no secret.
//!
//! Secrets are kept out twice: configuration files lose them as they are read, and nothing is written when a secret of this node is
//! found anywhere in what was collected.

mod archive;
mod machine;
mod node;
mod redact;
mod secrets;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::plain;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::cli::effective;
use crate::doctor::{Facts, examine, gather, json as doctor_json, render};
use archive::Part;
use redact::redact;
use secrets::Secrets;

pub(crate) use archive::WARNING;

/// Longest configuration file that is taken, in bytes: no larger one is read by the daemon either.
const MAX_FILE: u64 = 64 << 20;

/// A report that holds no secret.
pub(crate) struct Report {
    /// The tar file.
    pub(crate) tar: Vec<u8>,
    /// A line for each part.
    pub(crate) contents: String,
    /// What it may be called: `meshd-bugreport-20261121-170000.tar`, in UTC.
    pub(crate) name: String,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    #[error(
        "a secret of this node is in {0}, so nothing was written: leave that part out by hand, and tell us how it got there"
    )]
    Secret(&'static str),
    #[error("cannot pack the report: {0}")]
    Pack(#[from] std::io::Error),
}

/// Collects everything, with or without a daemon: the configuration in `config`, and the daemon behind `socket` or behind the one
/// that the configuration names. Each part may take five seconds, and the question why peers are not reached twelve.
///
/// # Errors
/// When a secret would be in it.
pub(crate) async fn collect(config: &Path, socket: Option<&Path>) -> Result<Report, ReportError> {
    let facts = gather(config, socket).await;
    let mut secrets = Secrets::default();
    let mut parts = vec![Part::new("version.json", Ok(version(&facts)))];
    parts.extend(doctor(&facts));
    parts.extend(configuration(config, &mut secrets));
    parts.extend(machine::network(&facts));
    parts.extend(node::parts(&facts.daemon.socket).await);
    parts.extend(machine::system(&facts));
    let log = parts.iter().find(|part| part.name == "log.json").and_then(|part| part.content.as_deref().ok());
    parts.push(machine::journal(log));
    archive::bound(&mut parts);
    // The contents tell why parts are not there, in words of others.
    let contents = archive::contents(&parts);
    let texts = parts.iter().filter_map(|part| Some((part.name, part.content.as_deref().ok()?)));
    if let Some((name, _)) = texts.chain([("README.txt", contents.as_bytes())]).find(|(_, text)| secrets.are_in(text)) {
        return Err(ReportError::Secret(name));
    }
    let now = SystemTime::now();
    let seconds = now.duration_since(UNIX_EPOCH).as_ref().map_or(0, Duration::as_secs);
    Ok(Report { tar: archive::tar(&parts, seconds)?, contents, name: format!("meshd-bugreport-{}.tar", stamp(now)) })
}

fn version(facts: &Facts) -> Vec<u8> {
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let built = facts.clock.built.map(|built| built.as_secs());
    pretty(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "build": build,
        "built_unix_seconds": built,
        "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        "written_unix_seconds": facts.clock.now.as_secs(),
        "kernel": facts.kernel.release.as_ref().ok(),
    }))
}

fn doctor(facts: &Facts) -> [Part; 2] {
    let findings = examine(facts);
    let json = doctor_json(&findings).map(String::into_bytes).map_err(|error| error.to_string());
    [Part::new("doctor.txt", Ok(render(&findings).into_bytes())), Part::new("doctor.json", json)]
}

/// `meshd.toml` and the mesh file without their secrets, and every setting with who said so, all of which `secrets` learns, those in key files too.
fn configuration(path: &Path, secrets: &mut Secrets) -> Vec<Part> {
    let mut part = |name, path: &Path| {
        let text = read(path).map_err(|error| format!("{}: {error}", path.display()));
        let redacted = text.map(|text| {
            let redacted = redact(&text);
            redacted.secrets.iter().for_each(|secret| secrets.add(secret));
            (text, redacted.text.into_bytes())
        });
        let (text, redacted) = redacted.map_or_else(|error| (None, Err(error)), |(text, new)| (Some(text), Ok(new)));
        (text, Part::new(name, redacted))
    };
    let (text, own) = part("config/meshd.toml", path);
    let named = text.as_deref().map(Named::of).unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new(""));
    let mesh = (!named.is_inline).then(|| part("config/mesh.toml", &folder.join(&named.mesh)).1);
    for file in named.keys {
        secrets.add_file(&folder.join(file));
    }
    let effective = effective(path).map(String::into_bytes);
    std::iter::once(own).chain(mesh).chain([Part::new("config/effective.json", effective)]).collect()
}

fn read(path: &Path) -> std::io::Result<String> {
    let bytes = plain::read_named(path, MAX_FILE)?;
    String::from_utf8(bytes).map_err(std::io::Error::other)
}

/// Files that a `meshd.toml` names, as far as it can be read: a broken one must not let a key through.
struct Named {
    mesh: PathBuf,
    is_inline: bool,
    keys: Vec<PathBuf>,
}

impl Default for Named {
    fn default() -> Self {
        Self { mesh: "mesh.toml".into(), is_inline: false, keys: vec!["/var/lib/meshd/private.key".into()] }
    }
}

impl Named {
    fn of(text: &str) -> Self {
        let (root, _) = toml::de::DeTable::parse_recoverable(text);
        let root = root.get_ref();
        let node = root.get("node").and_then(|node| node.get_ref().as_table());
        let named = |key: &str| Some(PathBuf::from(node?.get(key)?.get_ref().as_str()?));
        let default = Self::default();
        let keys = [named("key_file"), named("psk_file")].into_iter().flatten();
        Self {
            mesh: named("mesh").unwrap_or(default.mesh),
            is_inline: root.contains_key("endpoint") && named("mesh").is_none(),
            keys: default.keys.into_iter().chain(keys).collect(),
        }
    }
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// Date and time in UTC, as file names have them.
fn stamp(now: SystemTime) -> String {
    let now = OffsetDateTime::from(now);
    let (date, time) = (now.date(), now.time());
    let month = u8::from(date.month());
    format!("{:04}{month:02}{:02}-{:02}{:02}{:02}", date.year(), date.day(), time.hour(), time.minute(), time.second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_the_time_in_utc() {
        assert_eq!(stamp(UNIX_EPOCH + Duration::from_secs(1_795_280_460)), "20261121-170100");
    }

    #[test]
    fn what_a_broken_file_names_is_found_all_the_same() {
        let named = Named::of("[node]\nkey_file = \"k\"\npsk_file = 'p'\nmesh = \"m\"\n[lan\nx = \n");
        assert_eq!((named.mesh, named.is_inline), ("m".into(), false));
        assert!(["k", "p"].iter().all(|name| named.keys.contains(&(*name).into())));
        assert!(Named::of("node = { name = 'a.b' }\nendpoint = []").is_inline);
    }
}
