//! Metrics over HTTP: on the API socket, and where configured on a TCP port of the loopback interface.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::server::{ACCEPT_PAUSE, Call, converse, failure, stopping};
use crate::metrics;

/// OpenMetrics 1.0 §4.1.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Connections at a time, of one request each; more wait in the socket's queue. One or two collectors ask.
const MAX_CONNECTIONS: usize = 8;

/// The TCP port at which metrics are served.
pub(crate) struct Exporter {
    calls: mpsc::Sender<Call>,
    serving: Option<Serving>,
}

/// A port that is served until this is dropped.
struct Serving {
    at: SocketAddr,
    task: AbortHandle,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A change of the port that cannot fail any more.
pub(crate) enum Prepared {
    /// None.
    Same,
    /// To this one, or to none.
    Other(Option<(SocketAddr, TcpListener)>),
}

impl Exporter {
    /// One that serves nowhere, and will ask the driver by `calls`.
    pub(crate) const fn new(calls: mpsc::Sender<Call>) -> Self {
        Self { calls, serving: None }
    }

    /// Listens there, without serving yet. Must be called within the runtime.
    ///
    /// # Errors
    /// Why it cannot be listened there, in words.
    pub(crate) fn prepare(&self, at: Option<SocketAddr>) -> Result<Prepared, String> {
        if self.serving.as_ref().map(|serving| serving.at) == at {
            return Ok(Prepared::Same);
        }
        let listener = at.map(|at| {
            let listening = listen(at).map(|listener| (at, listener));
            listening.map_err(|error| {
                format!("cannot listen on TCP {at} for metrics: {error}; name another place in [metrics] listen")
            })
        });
        Ok(Prepared::Other(listener.transpose()?))
    }

    /// Serves there from now on, and nowhere else.
    pub(crate) fn serve(&mut self, prepared: Prepared) {
        let Prepared::Other(next) = prepared else { return };
        self.serving = next.map(|(at, listener)| {
            let router = Router::new()
                .route("/metrics", get(metrics))
                .fallback(async || failure(StatusCode::NOT_FOUND, "metrics are at /metrics"))
                .layer(from_fn(only_local_names))
                .with_state(self.calls.clone());
            tracing::info!(address = %at, "serving metrics");
            Serving { at, task: tokio::spawn(accept(listener, router)).abort_handle() }
        });
    }
}

fn listen(at: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Answers with all metrics. They are written down on another thread: a mesh of a thousand has a megabyte of them, and packets that
/// wait for a handshake should not wait for that.
pub(super) async fn metrics(State(calls): State<mpsc::Sender<Call>>) -> Response {
    let (answer, sample) = oneshot::channel();
    if calls.send(Call::Metrics(answer)).await.is_err() {
        return stopping();
    }
    let sample = match sample.await {
        Ok(Ok(sample)) => sample,
        Ok(Err(error)) => return failure(StatusCode::CONFLICT, &error),
        Err(_) => return stopping(),
    };
    match tokio::task::spawn_blocking(|| metrics::encode(sample)).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Ok(Err(_)) | Err(_) => failure(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written down"),
    }
}

/// Answers only who means this machine. A page in a browser on it can ask any port of the loopback interface once the name of the page's
/// own site resolves to that (DNS rebinding), but cannot help naming the site.
async fn only_local_names(request: Request, next: Next) -> Response {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next().map(HeaderValue::to_str), hosts.next()) {
        (Some(Ok(host)), None) if is_local_name(host) => next.run(request).await,
        _ => failure(StatusCode::FORBIDDEN, "ask for this by an IP address or by localhost, not by another name"),
    }
}

/// Whether a Host field (RFC 9110 §7.2) is an IP address or `localhost`, be it with a port or not.
fn is_local_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let v6 = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    !host.contains('@')
        && (name.eq_ignore_ascii_case("localhost")
            || name.parse::<Ipv4Addr>().is_ok()
            || v6.is_some_and(|name| name.parse::<Ipv6Addr>().is_ok()))
}

async fn accept(listener: TcpListener, router: Router) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(converse(stream, router.clone(), permit))),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_names_of_this_machine() {
        for host in
            ["127.0.0.1:9374", "127.0.0.1", "[::1]:9374", "[::1]", "localhost:9374", "LOCALHOST", "192.0.2.1:80"]
        {
            assert!(is_local_name(host), "{host}");
        }
        for host in [
            "rebound.example",
            "rebound.example:9374",
            "localhost.rebound.example",
            "127.0.0.1.rebound.example:9374",
            "127.0.0.1@rebound.example",
            "rebound.example@127.0.0.1",
            "2130706433",
            "0x7f.1",
            "::1",
            "",
        ] {
            assert!(!is_local_name(host), "{host}");
        }
    }
}
