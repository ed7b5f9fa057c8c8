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

async fn accept(listener: TcpListener, router: Router) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(converse(stream, router.clone(), permit))),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}
