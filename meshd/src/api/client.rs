//! The asking side: one request per connection.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::model::Failure;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("no meshd is listening on {path} ({source}); start it with `meshd up`, or name its socket with --socket")]
    Connect { path: PathBuf, source: std::io::Error },
    #[error("may not open {0}: run this as root or as a member of the socket's group")]
    Permission(PathBuf),
    #[error("{0}")]
    Refused(String),
    #[error("the meshd that listens on {0} does not answer: it hangs or is stopped")]
    Silent(PathBuf),
    #[error("no reply")]
    Timeout,
    #[error("the daemon did not answer as expected: {0}")]
    Protocol(String),
}

/// Asks the daemon behind the socket, and waits for its answer no longer than `limit`.
pub(crate) async fn call<T: DeserializeOwned>(
    socket: &Path,
    limit: Duration,
    method: Method,
    path: &str,
    body: Option<&(impl Serialize + Sync)>,
) -> Result<T, ClientError> {
    let answer = tokio::time::timeout(limit, ask(socket, method, path, body)).await;
    answer.unwrap_or_else(|_| Err(ClientError::Silent(socket.to_owned())))
}

/// Asks the daemon for what is behind `path`, as it comes: at most `most` bytes and no longer than `limit`, after which what came
/// until then is the answer.
pub(crate) async fn fetch(socket: &Path, limit: Duration, path: &str, most: usize) -> Result<Vec<u8>, ClientError> {
    let deadline = tokio::time::Instant::now() + limit;
    let asked = tokio::time::timeout_at(deadline, open(socket, Method::GET, path, None::<&()>)).await;
    let mut response = asked.unwrap_or_else(|_| Err(ClientError::Silent(socket.to_owned())))?;
    let mut bytes = Vec::new();
    while bytes.len() < most
        && let Ok(Some(frame)) = tokio::time::timeout_at(deadline, response.body_mut().frame()).await
    {
        bytes.extend_from_slice(frame.map_err(protocol)?.data_ref().map_or(&[], |data| data));
    }
    bytes.truncate(most);
    Ok(bytes)
}

/// An answer that goes on, line by line.
pub(crate) struct Lines {
    body: Incoming,
    /// What has come and was not taken yet.
    waiting: Vec<u8>,
}

/// Asks for an answer that goes on, and waits for its beginning no longer than `limit`.
pub(crate) async fn lines(
    socket: &Path,
    limit: Duration,
    method: Method,
    path: &str,
    body: Option<&(impl Serialize + Sync)>,
) -> Result<Lines, ClientError> {
    let answer = tokio::time::timeout(limit, open(socket, method, path, body)).await;
    let response = answer.unwrap_or_else(|_| Err(ClientError::Silent(socket.to_owned())))?;
    Ok(Lines { body: response.into_body(), waiting: Vec::new() })
}

impl Lines {
    /// The next line, as a value; `None` behind the last. Safe to cancel.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(end) = self.waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.waiting.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(protocol);
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    self.waiting.extend_from_slice(&frame.map_err(protocol)?.into_data().unwrap_or_default());
                }
            }
        }
    }
}

async fn ask<T: DeserializeOwned>(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<&(impl Serialize + Sync)>,
) -> Result<T, ClientError> {
    let response = open(socket, method, path, body).await?;
    let bytes = response.into_body().collect().await.map_err(protocol)?.to_bytes();
    serde_json::from_slice(&bytes).map_err(protocol)
}

/// Asks, and returns an answer that is a success, its body still to come.
async fn open(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<&(impl Serialize + Sync)>,
) -> Result<Response<Incoming>, ClientError> {
    let stream = UnixStream::connect(socket).await.map_err(|source| {
        if source.kind() == std::io::ErrorKind::PermissionDenied {
            ClientError::Permission(socket.to_owned())
        } else if source.kind() == std::io::ErrorKind::WouldBlock {
            // Its queue is full.
            ClientError::Silent(socket.to_owned())
        } else {
            ClientError::Connect { path: socket.to_owned(), source }
        }
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(protocol)?;
    tokio::spawn(connection);
    let bytes = body.map(serde_json::to_vec).transpose().map_err(protocol)?.unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "meshd")
        .header("content-type", "application/json")
        .body(Body::from(bytes))
        .map_err(protocol)?;
    let response = sender.send_request(request).await.map_err(protocol)?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let bytes = response.into_body().collect().await.map_err(protocol)?.to_bytes();
    let failure = serde_json::from_slice::<Failure>(&bytes).map_or_else(|_| status.to_string(), |f| f.error);
    Err(if status == StatusCode::GATEWAY_TIMEOUT { ClientError::Timeout } else { ClientError::Refused(failure) })
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn protocol(error: impl ToString) -> ClientError {
    ClientError::Protocol(error.to_string())
}
