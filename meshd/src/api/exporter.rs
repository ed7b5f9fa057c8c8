//! Metrics over HTTP: on the API socket, and where configured on a TCP port of the loopback interface.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
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
    serving: Option<(SocketAddr, AbortHandle)>,
}

impl Exporter {
    /// One that serves nowhere, and will ask the driver by `calls`.
    pub(crate) const fn new(calls: mpsc::Sender<Call>) -> Self {
        Self { calls, serving: None }
    }

    /// Serves there from now on, and nowhere else; may be called again. Must be called within the runtime.
    ///
    /// # Errors
    /// Why it cannot be listened there, in words; then it goes on where it did.
    pub(crate) fn listen(&mut self, at: Option<SocketAddr>) -> Result<(), String> {
        if self.serving.as_ref().map(|(at, _)| *at) == at {
            return Ok(());
        }
        let next = at.map(|at| self.serve(at)).transpose();
        let next = next.map_err(|error| {
            let at = at.map(|at| at.to_string()).unwrap_or_default();
            format!("cannot listen on TCP {at} for metrics: {error}; name another place in [metrics] listen")
        })?;
        if let Some((_, before)) = std::mem::replace(&mut self.serving, next) {
            before.abort();
        }
        Ok(())
    }

    fn serve(&self, at: SocketAddr) -> std::io::Result<(SocketAddr, AbortHandle)> {
        let listener = std::net::TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let router = Router::new()
            .route("/metrics", get(metrics))
            .fallback(async || failure(StatusCode::NOT_FOUND, "metrics are at /metrics"))
            .with_state(self.calls.clone());
        tracing::info!(address = %at, "serving metrics");
        Ok((at, tokio::spawn(accept(listener, router)).abort_handle()))
    }
}

/// Answers with all metrics. They are written down on another thread: a mesh of a thousand has a megabyte of them, and packets that
/// wait for a handshake should not wait for that.
pub(super) async fn metrics(State(calls): State<mpsc::Sender<Call>>) -> Response {
    let (answer, sample) = oneshot::channel();
    if calls.send(Call::Metrics(answer)).await.is_err() {
        return stopping();
    }
    let Ok(sample) = sample.await else { return stopping() };
    match tokio::task::spawn_blocking(|| metrics::encode(sample)).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Ok(Err(_)) | Err(_) => failure(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written down"),
    }
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
