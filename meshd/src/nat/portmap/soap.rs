//! HTTP and SOAP as far as gateways need it: one request per connection, each bounded in time and size.

use std::net::SocketAddr;

use axum::http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

use super::{MapError, Pace};
use crate::host::Gateway;

/// The longest answer that is read, in bytes: descriptions have up to some 20 KB.
const MAX_BODY: usize = 64 * 1024;

/// Why an action did not succeed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The device refused it (UPnP Device Architecture 1.1 §3.2.2).
    Code(u16),
    /// Anything else.
    Other(MapError),
}

impl From<Fault> for MapError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Code(code) => Self::Refused(format!("UPnP error {code}")),
            Fault::Other(error) => error,
        }
    }
}

/// Fetches a document.
pub(super) async fn get(gateway: &Gateway, pace: Pace, server: SocketAddr, path: &str) -> Result<String, MapError> {
    send(gateway, pace, server, Request::builder().method(Method::GET).uri(path), String::new()).await
}

/// Calls an action and returns the answer's text. `arguments` need no escaping: numbers, addresses, words.
pub(super) async fn call(
    gateway: &Gateway,
    pace: Pace,
    server: SocketAddr,
    path: &str,
    kind: &str,
    action: &str,
    arguments: &[(&str, &str)],
) -> Result<String, Fault> {
    let arguments: String = arguments.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
    let body = format!(
        "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{kind}\">{arguments}\
         </u:{action}></s:Body></s:Envelope>\r\n"
    );
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("content-type", "text/xml; charset=\"utf-8\"")
        .header("soapaction", format!("\"{kind}#{action}\""));
    let answer = send(gateway, pace, server, request, body).await.map_err(Fault::Other)?;
    if let Some(code) = value(&answer, "errorCode") {
        return Err(code.parse().map_or(Fault::Other(MapError::Nonsense("an error without a code")), Fault::Code));
    }
    let is_answer = element(&answer, &format!("{action}Response")).is_some();
    if is_answer { Ok(answer) } else { Err(Fault::Other(MapError::Nonsense("no answer to the action"))) }
}

/// The text of the first element of a name.
pub(super) fn value(document: &str, name: &str) -> Option<String> {
    element(document, name).map(|text| text.trim().to_owned())
}

fn element(document: &str, name: &str) -> Option<String> {
    let document = roxmltree::Document::parse(document).ok()?;
    let found = document.descendants().find(|node| node.is_element() && node.tag_name().name() == name)?;
    Some(found.text().unwrap_or_default().to_owned())
}

async fn send(
    gateway: &Gateway,
    pace: Pace,
    server: SocketAddr,
    request: axum::http::request::Builder,
    body: String,
) -> Result<String, MapError> {
    let request = request.header("host", server.to_string()).header("connection", "close");
    let request = request.body(Full::new(Bytes::from(body))).map_err(broken)?;
    let answered = tokio::time::timeout(pace.patience, exchange(gateway, server, request)).await;
    answered.unwrap_or(Err(MapError::Silent))
}

async fn exchange(gateway: &Gateway, server: SocketAddr, request: Request<Full<Bytes>>) -> Result<String, MapError> {
    let socket = TcpSocket::new_v4()?;
    // As for questions by UDP.
    let _ = socket.bind_device(Some(gateway.interface.as_bytes()));
    socket.bind(SocketAddr::new(gateway.own, 0))?;
    let stream = socket.connect(server).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(broken)?;
        String::from_utf8(body.to_bytes().into()).map_err(|_| MapError::Nonsense("no text"))
    };
    tokio::pin!(exchange, connection);
    // The connection is polled here, and so ends with the exchange.
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        _ = &mut connection => exchange.await,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn broken(error: impl ToString) -> MapError {
    MapError::Io(std::io::Error::other(error.to_string()))
}
