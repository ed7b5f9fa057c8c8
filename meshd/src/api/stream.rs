//! Answers that go on: lines of JSON, each as soon as it is there, and what ends them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt as _};
use serde::Serialize;
use tokio::sync::{Notify, mpsc};

/// How long a connection may last. One request has a fixed time; an answer that goes on asks for more, and may be cut off.
#[derive(Clone, Default)]
pub(crate) struct Lease(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Seconds beyond what every connection has.
    more: AtomicU64,
    cut: Notify,
}

impl Lease {
    /// Lets the connection last this much longer than others may.
    pub(crate) fn extend(&self, by: Duration) {
        self.0.more.store(by.as_secs(), Ordering::Relaxed);
    }

    /// Ends the connection, whatever is still to be written: its client does not read.
    pub(crate) fn cut(&self) {
        self.0.cut.notify_one();
    }

    /// Waits until the connection has lasted too long, or is cut off.
    pub(super) async fn ended(&self, usual: Duration) {
        let lasting = async {
            tokio::time::sleep(usual).await;
            tokio::time::sleep(Duration::from_secs(self.0.more.load(Ordering::Relaxed))).await;
        };
        tokio::select! {
            () = lasting => {}
            () = self.0.cut.notified() => {}
        }
    }
}

/// A value as a line of JSON.
pub(crate) fn line(value: &impl Serialize) -> String {
    // What is serialized here has neither keys that are no texts nor writers that fail.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

/// Answers with lines as they come, until there are no more.
pub(super) fn respond(lines: impl Stream<Item = String> + Send + 'static) -> Response {
    let body = Body::from_stream(lines.map(Ok::<_, Infallible>));
    ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Lines that are there, and then those of a channel.
pub(super) fn follow(first: Vec<String>, then: mpsc::Receiver<String>) -> impl Stream<Item = String> + Send + 'static {
    let then = stream::unfold(then, |mut lines| async move { lines.recv().await.map(|line| (line, lines)) });
    stream::iter(first).chain(then)
}
