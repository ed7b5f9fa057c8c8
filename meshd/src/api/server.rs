//! The serving side: who may call, and the bridge to the driver.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::model::{Failure, PingReply, PingRequest, Status};

/// Calls that wait for the driver; it answers in microseconds, so more than a few mean a client that floods.
const MAX_WAITING: usize = 16;

/// Longest wait that a client may ask for.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// A question for the driver.
pub(crate) enum Call {
    /// The status report.
    Status(oneshot::Sender<Status>),
    /// A probe to a peer; the answer is the reply, or why there will be none.
    Ping { name: String, answer: oneshot::Sender<Result<PingReply, String>> },
}

/// The listening socket, which goes away with its file when dropped.
pub(crate) struct Server {
    listener: UnixListener,
    path: std::path::PathBuf,
}

/// Who is on the other side of a connection, by `SO_PEERCRED`.
#[derive(Clone, Copy, Debug)]
struct Caller {
    /// `None`: the kernel does not say, so nothing is allowed.
    ids: Option<(u32, u32)>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { ids: stream.io().peer_cred().ok().map(|cred| (cred.uid(), cred.gid())) }
    }
}

impl Caller {
    /// Root, the daemon's own user, and members of its group may ask.
    fn may_ask(self) -> bool {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        self.ids.is_some_and(|(caller_uid, caller_gid)| caller_uid == 0 || caller_uid == uid || caller_gid == gid)
    }
}

impl Server {
    /// Binds the socket; its folder is made if need be. The file is for user and group only.
    ///
    /// A socket file that nobody listens on, as a killed daemon leaves it, is replaced.
    pub(crate) async fn bind(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
            if UnixStream::connect(path).await.is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another meshd is listening there"));
            }
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until the driver is gone.
    pub(crate) fn start(self) -> mpsc::Receiver<Call> {
        let (calls, receiver) = mpsc::channel(MAX_WAITING);
        let router = Router::new()
            .route("/v1/status", get(status))
            .route("/v1/ping", post(ping))
            .layer(from_fn(authorize))
            .with_state(calls.clone());
        tokio::spawn(async move {
            let service = router.into_make_service_with_connect_info::<Caller>();
            let served = axum::serve(self.listener, service);
            // The task ends with the runtime; the guard removes the file also then.
            let _file = RemoveOnDrop(self.path);
            tokio::select! {
                result = served.into_future() => if let Err(error) = result { tracing::error!(%error, "API ended") },
                () = calls.closed() => {}
            }
        });
        receiver
    }
}

struct RemoveOnDrop(std::path::PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn authorize(ConnectInfo(caller): ConnectInfo<Caller>, request: Request, next: Next) -> Response {
    if caller.may_ask() {
        return next.run(request).await;
    }
    failure(StatusCode::FORBIDDEN, "this socket serves root, the daemon's user and its group only")
}

async fn status(State(calls): State<mpsc::Sender<Call>>) -> Response {
    let (answer, result) = oneshot::channel();
    if calls.send(Call::Status(answer)).await.is_err() {
        return stopping();
    }
    result.await.map_or_else(|_| stopping(), |status| Json(status).into_response())
}

async fn ping(State(calls): State<mpsc::Sender<Call>>, Json(request): Json<PingRequest>) -> Response {
    let (answer, result) = oneshot::channel();
    let timeout = Duration::from_millis(request.timeout_ms).min(MAX_TIMEOUT);
    if calls.send(Call::Ping { name: request.name, answer }).await.is_err() {
        return stopping();
    }
    match tokio::time::timeout(timeout, result).await {
        Ok(Ok(Ok(reply))) => Json(reply).into_response(),
        Ok(Ok(Err(error))) => failure(StatusCode::CONFLICT, &error),
        Ok(Err(_)) => stopping(),
        Err(_) => failure(StatusCode::GATEWAY_TIMEOUT, "no reply"),
    }
}

fn stopping() -> Response {
    failure(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping")
}

fn failure(status: StatusCode, error: &str) -> Response {
    (status, Json(Failure { error: error.to_owned() })).into_response()
}
