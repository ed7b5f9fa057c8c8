//! The serving side: who may call, and the bridge to the driver.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Path as Segment, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, User, getegid, geteuid, getgrouplist};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::detail::PeerReport;
use super::events::EventLine;
use super::model::{Failure, PingReply, PingRequest, Status};
use super::netcheck::NetCheck;
use super::reload::ReloadReport;
use super::stream::Lease;
use super::trace::TraceRequest;
use super::why::{self, WhyQuery, WhyReport};
use super::{exporter, live};
use crate::metrics::Sample;
use crate::report::events::Following;
use crate::trace::{TraceRefusal, Tracing};

/// Calls that wait for the driver; it answers in microseconds, so more than a few mean a client that floods.
const MAX_WAITING: usize = 16;

/// Longest wait that a client may ask for.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// Connections at a time, of one request each; more wait in the socket's queue. Each holds a descriptor and perhaps an answer,
/// half a megabyte in a mesh of a thousand.
const MAX_CONNECTIONS: usize = 64;

/// How long a client may take to say what it wants: on the same machine, long.
const MAX_HEADER: Duration = Duration::from_secs(1);

/// How long a connection may last: the longest wait, and time to read the answer.
const MAX_CONNECTION: Duration = Duration::from_secs(70);

/// Pause after a connection that could not be accepted, for want of descriptors.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A question for the driver.
pub(crate) enum Call {
    /// The status report.
    Status(oneshot::Sender<Status>),
    /// One peer in full; the answer is the report, or why the name means nobody.
    Peer { name: String, answer: oneshot::Sender<Result<PeerReport, String>> },
    /// What is known of the network around the node.
    NetCheck(oneshot::Sender<NetCheck>),
    /// What metrics are made of; or why there are none.
    Metrics(oneshot::Sender<Result<Sample, String>>),
    /// To ask gateways, servers and relays anew.
    Measure,
    /// What happened after an event.
    Events { since: Option<u64>, answer: oneshot::Sender<Vec<EventLine>> },
    /// The same, and what happens from now on; or why not.
    Follow { since: Option<u64>, lease: Lease, answer: oneshot::Sender<Result<Following, String>> },
    /// To watch packets; or why not.
    Trace { request: Box<TraceRequest>, answer: oneshot::Sender<Result<Tracing, TraceRefusal>> },
    /// A probe to a peer; the answer is the reply, or why there will be none.
    Ping { name: String, answer: oneshot::Sender<Result<PingReply, String>> },
    /// To load the configuration anew; the answer is what came of it, or everything that is wrong with it.
    Reload(oneshot::Sender<Result<ReloadReport, String>>),
    /// Why packets get somewhere; the answer comes with the query, to be sent again until the report is final.
    Why { query: WhyQuery, answer: oneshot::Sender<(WhyReport, WhyQuery)> },
}

/// The listening socket, which goes away with its file when dropped.
pub(crate) struct Server {
    listener: UnixListener,
    file: SocketFile,
}

/// Who is on the other side of a connection, by `SO_PEERCRED`.
#[derive(Clone, Copy, Debug)]
struct Caller {
    /// `None`: the kernel does not say, so nothing is allowed.
    ids: Option<(u32, u32)>,
}

impl Caller {
    fn of(stream: &UnixStream) -> Self {
        Self { ids: stream.peer_cred().ok().map(|cred| (cred.uid(), cred.gid())) }
    }

    /// Root, the daemon's own user, and members of its group may ask.
    fn may_ask(self) -> bool {
        let Some((uid, gid)) = self.ids else { return false };
        uid == 0 || uid == geteuid().as_raw() || gid == getegid().as_raw() || is_member(uid, gid)
    }
}

/// Whether the user has the daemon's group among those beside its primary one, which is all that `SO_PEERCRED` tells.
fn is_member(uid: u32, gid: u32) -> bool {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let name = user.and_then(|user| CString::new(user.name).ok());
    let groups = name.and_then(|name| getgrouplist(&name, Gid::from_raw(gid)).ok());
    groups.is_some_and(|groups| groups.contains(&getegid()))
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
            match UnixStream::connect(path).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
                // A full queue (EAGAIN) is one that somebody has, too.
                Ok(_) | Err(_) => {
                    let help = "give this node [api] socket, [interface] name and [state] dir of its own";
                    let text = format!("another meshd is listening there; {help}");
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
                }
            }
        }
        let listener = UnixListener::bind(path)?;
        let file = SocketFile(path.to_owned());
        open_to_group(path)?;
        Ok(Self { listener, file })
    }

    /// Serves until the driver is gone; what others than the clients of the socket ask comes in the same queue.
    pub(crate) fn start(self, log: crate::log::Handle) -> (mpsc::Sender<Call>, mpsc::Receiver<Call>) {
        let (calls, receiver) = mpsc::channel(MAX_WAITING);
        let router = Router::new()
            .route("/v1/status", get(status))
            .route("/v1/peers/{name}", get(peer))
            .route("/v1/netcheck", get(netcheck).post(measure))
            .route("/v1/ping", post(ping))
            .route("/v1/metrics", get(exporter::metrics))
            .merge(super::log::routes(log))
            .route("/v1/events", get(live::events))
            .route("/v1/trace", post(live::trace))
            .route("/v1/reload", post(reload))
            .route("/v1/why", get(explain))
            .fallback(async || failure(StatusCode::NOT_FOUND, "there is no such path"))
            .layer(from_fn(authorize))
            .with_state(calls.clone());
        let asker = calls.clone();
        tokio::spawn(async move {
            // The task ends with the runtime; the file goes also then.
            let Self { listener, file: _file } = self;
            tokio::select! {
                () = serve(&listener, &router) => {}
                () = calls.closed() => {}
            }
        });
        (asker, receiver)
    }
}

async fn serve(listener: &UnixListener, router: &Router) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let router = router.clone().layer(Extension(Caller::of(&stream)));
        tokio::spawn(converse(stream, router, permit));
    }
}

/// Lets user and group connect. Where root runs the daemon, the folder may be another user's, who could put a link in the place of the
/// socket meanwhile: so it is what is open that is changed, and only a socket.
fn open_to_group(path: &Path) -> io::Result<()> {
    let flags = (OFlag::O_PATH | OFlag::O_NOFOLLOW).bits();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody put another file in its place"));
    }
    std::fs::set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), std::fs::Permissions::from_mode(0o660))
}

/// Answers one request.
pub(super) async fn converse<S>(stream: S, router: Router, _permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(MAX_HEADER).keep_alive(false);
    let lease = Extension(Lease::default());
    let service = TowerToHyperService::new(router.layer(lease.clone()));
    tokio::select! {
        // How it ended is the client's business.
        _ = http.serve_connection(TokioIo::new(stream), service) => {}
        () = lease.ended(MAX_CONNECTION) => {}
    }
}

struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn authorize(Extension(caller): Extension<Caller>, request: Request, next: Next) -> Response {
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

async fn peer(State(calls): State<mpsc::Sender<Call>>, Segment(name): Segment<String>) -> Response {
    let (answer, result) = oneshot::channel();
    if calls.send(Call::Peer { name, answer }).await.is_err() {
        return stopping();
    }
    match result.await {
        Ok(Ok(report)) => Json(report).into_response(),
        Ok(Err(error)) => failure(StatusCode::NOT_FOUND, &error),
        Err(_) => stopping(),
    }
}

async fn netcheck(State(calls): State<mpsc::Sender<Call>>) -> Response {
    let (answer, result) = oneshot::channel();
    if calls.send(Call::NetCheck(answer)).await.is_err() {
        return stopping();
    }
    result.await.map_or_else(|_| stopping(), |known| Json(known).into_response())
}

/// Measures, and answers at once as `netcheck` does.
async fn measure(State(calls): State<mpsc::Sender<Call>>) -> Response {
    if calls.send(Call::Measure).await.is_err() {
        return stopping();
    }
    netcheck(State(calls)).await
}

async fn ping(State(calls): State<mpsc::Sender<Call>>, request: Result<Json<PingRequest>, JsonRejection>) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return failure(rejection.status(), &rejection.body_text()),
    };
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

async fn reload(State(calls): State<mpsc::Sender<Call>>) -> Response {
    let (answer, result) = oneshot::channel();
    if calls.send(Call::Reload(answer)).await.is_err() {
        return stopping();
    }
    match result.await {
        Ok(Ok(report)) => Json(report).into_response(),
        Ok(Err(error)) => failure(StatusCode::UNPROCESSABLE_ENTITY, &error),
        Err(_) => stopping(),
    }
}

async fn explain(State(calls): State<mpsc::Sender<Call>>, RawQuery(query): RawQuery) -> Response {
    match WhyQuery::parse(query.as_deref().unwrap_or_default()) {
        None => {
            failure(StatusCode::BAD_REQUEST, "say /v1/why?target=NAME, and &from=NAME for packets of another member")
        }
        Some(query) => why::ask(&calls, query).await.map_or_else(stopping, |report| Json(report).into_response()),
    }
}

pub(super) fn stopping() -> Response {
    failure(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping")
}

pub(super) fn failure(status: StatusCode, error: &str) -> Response {
    (status, Json(Failure { error: error.to_owned() })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_the_daemons_user_and_its_group_may_ask() {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        // Numbers that no machine gives to anybody.
        let (nobody, none) = (4_000_000_001, 4_000_000_002);
        let may = |ids| Caller { ids }.may_ask();
        assert!(may(Some((0, none))) && may(Some((uid, none))) && may(Some((nobody, gid))));
        assert!(!may(Some((nobody, none))), "another user of the machine");
        assert!(!may(None), "somebody of whom the kernel tells nothing");
    }

    #[test]
    fn only_a_socket_is_opened_to_the_group_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, victim, link) = ["socket", "victim", "link"].map(|name| folder.path().join(name)).into();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::fs::write(&victim, "").unwrap();
        std::fs::set_permissions(&victim, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        open_to_group(&socket).unwrap();
        assert!(open_to_group(&link).is_err() && open_to_group(&victim).is_err());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&socket), mode(&victim)), (0o660, 0o600));
    }
}
