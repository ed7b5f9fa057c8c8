//! Parts that the daemon tells, as it tells them: also what this program does not know of.

use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use serde_json::Value;

use super::archive::{MAX_PART, Part};
use crate::api::client::fetch;

/// How long a part may take.
const LIMIT: Duration = Duration::from_secs(5);

/// How long the daemon may ask around why peers are not reached: ten seconds, and time to answer.
const WHY_LIMIT: Duration = Duration::from_secs(12);

/// Questions at a time: the API takes more from all its clients together.
const AT_ONCE: usize = 8;

/// Peers of which it is asked why they are not reached: they are mostly out of reach for one and the same reason.
const MAX_WHY: usize = 8;

/// Asks the daemon for everything; what it does not have is not there.
pub(super) async fn parts(socket: &Path) -> Vec<Part> {
    let mut parts = Vec::new();
    let paths = [
        ("status.json", "/v1/status"),
        ("netcheck.json", "/v1/netcheck"),
        ("log.json", "/v1/log"),
        ("events.json", "/v1/events"),
        ("metrics.txt", "/v1/metrics"),
    ];
    for (name, path) in paths {
        parts.push(Part::new(name, ask(socket, LIMIT, path).await));
    }
    let status = parts.first().and_then(|part| part.content.as_deref().ok());
    let status = status.and_then(|status| serde_json::from_slice(status).ok()).unwrap_or_default();
    let peers = list(socket, LIMIT, &peer_paths(&status)).await;
    let why = list(socket, WHY_LIMIT, &why_paths(&status)).await;
    let reason = "there is no status";
    let there = |list| if status.is_null() { Err(reason.to_owned()) } else { Ok(list) };
    parts.insert(1, Part::new("peers.json", there(peers)));
    parts.insert(2, Part::new("why.json", there(why)));
    parts
}

fn peer_paths(status: &Value) -> Vec<String> {
    names(status, |_| true).map(|name| format!("/v1/peers/{name}")).collect()
}

/// Of those who may talk to this node and do not get through: not of who is idle or kept apart.
fn why_paths(status: &Value) -> Vec<String> {
    let is_out_of_reach =
        |peer: &Value| peer["state"] == "unreachable" || peer["disconnected_seconds"].as_f64().is_some();
    names(status, is_out_of_reach).take(MAX_WHY).map(|name| format!("/v1/why?target={name}")).collect()
}

fn names(status: &Value, is_wanted: impl Fn(&Value) -> bool) -> impl Iterator<Item = &str> {
    let peers = status["peers"].as_array().into_iter().flatten();
    peers.filter(move |peer| is_wanted(peer)).filter_map(|peer| peer["name"].as_str())
}

async fn ask(socket: &Path, limit: Duration, path: &str) -> Result<Vec<u8>, String> {
    fetch(socket, limit, path, MAX_PART + 1).await.map_err(|error| error.to_string())
}

/// A list of what is behind each path, as far as the time goes.
async fn list(socket: &Path, limit: Duration, paths: &[String]) -> Vec<u8> {
    let begun = Instant::now();
    let asked = paths.iter().map(|path| async move {
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() { None } else { ask(socket, left, path).await.ok() }
    });
    let mut answers = pin!(stream::iter(asked).buffered(AT_ONCE));
    let mut out = b"[".to_vec();
    while let Some(answer) = answers.next().await {
        if out.len() > MAX_PART {
            break;
        }
        // What came too late is not whole.
        if let Some(answer) = answer.filter(|answer| is_json(answer)) {
            out.extend_from_slice(if out.len() > 1 { b",\n" } else { b"\n" });
            out.extend_from_slice(&answer);
        }
    }
    out.extend_from_slice(b"\n]\n");
    out
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_is_asked_why_of_some_of_those_who_are_out_of_reach() {
        let peer = |number: usize, state: &str| json!({"name": format!("lab.n{number}"), "state": state});
        let lost = json!({"name": "lab.lost", "state": "idle", "disconnected_seconds": 3.5});
        let peers = [peer(0, "connected"), peer(1, "unreachable"), peer(2, "denied"), peer(3, "idle"), lost];
        let status = json!({ "peers": peers });
        assert_eq!(why_paths(&status), ["/v1/why?target=lab.n1", "/v1/why?target=lab.lost"]);
        assert_eq!(peer_paths(&status).len(), 5);
        let many: Vec<Value> = (0..99).map(|number| peer(number, "unreachable")).collect();
        assert_eq!(why_paths(&json!({ "peers": many })).len(), MAX_WHY);
        assert_eq!(why_paths(&Value::Null), [""; 0]);
    }
}
