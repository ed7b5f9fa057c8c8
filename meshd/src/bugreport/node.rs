//! Parts that the daemon tells, as it tells them: also what this program does not know of.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::archive::{MAX_PART, Part};
use crate::api::client::fetch;

/// How long a part may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks the daemon for everything; what it does not have is not there.
pub(super) async fn parts(socket: &Path) -> Vec<Part> {
    let mut parts = Vec::new();
    let paths = [
        ("status.json", "/v1/status"),
        ("netcheck.json", "/v1/netcheck"),
        ("events.json", "/v1/events"),
        ("metrics.txt", "/v1/metrics"),
    ];
    for (name, path) in paths {
        parts.push(Part::new(name, ask(socket, LIMIT, path).await));
    }
    let status = parts.first().and_then(|part| part.content.as_deref().ok());
    let peers = peers(socket, status.unwrap_or_default()).await;
    parts.insert(1, Part::new("peers.json", peers));
    parts
}

async fn ask(socket: &Path, limit: Duration, path: &str) -> Result<Vec<u8>, String> {
    fetch(socket, limit, path, MAX_PART + 1).await.map_err(|error| error.to_string())
}

/// A list of every peer in full, as far as the time goes.
async fn peers(socket: &Path, status: &[u8]) -> Result<Vec<u8>, String> {
    let status: Value = serde_json::from_slice(status).map_err(|_| "there is no status".to_owned())?;
    let names = status["peers"].as_array().into_iter().flatten().filter_map(|peer| peer["name"].as_str());
    let begun = Instant::now();
    let mut out = b"[".to_vec();
    for name in names {
        let left = LIMIT.saturating_sub(begun.elapsed());
        if left.is_zero() || out.len() > MAX_PART {
            break;
        }
        if let Ok(peer) = ask(socket, left, &format!("/v1/peers/{name}")).await {
            out.extend_from_slice(if out.len() > 1 { b",\n" } else { b"\n" });
            out.extend_from_slice(&peer);
        }
    }
    out.extend_from_slice(b"\n]\n");
    Ok(out)
}
