//! The routes whose answers go on: events as they happen, packets as they pass.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::sync::{mpsc, oneshot};

use super::server::{Call, failure, stopping};
use super::stream::{self, Lease};
use super::trace::TraceRequest;
use crate::trace::{self, TraceRefusal};

/// Who follows does so for as long as it likes.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// What `GET /v1/events` asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    since: Option<u64>,
    follow: bool,
}

pub(super) async fn events(
    State(calls): State<mpsc::Sender<Call>>,
    Extension(lease): Extension<Lease>,
    uri: Uri,
) -> Response {
    match query(uri.query().unwrap_or_default()) {
        Err(error) => failure(StatusCode::BAD_REQUEST, &error),
        Ok(Query { since, follow: false }) => {
            let (answer, result) = oneshot::channel();
            if calls.send(Call::Events { since, answer }).await.is_err() {
                return stopping();
            }
            result.await.map_or_else(|_| stopping(), |events| Json(events).into_response())
        }
        Ok(Query { since, follow: true }) => follow(&calls, lease, since).await,
    }
}

async fn follow(calls: &mpsc::Sender<Call>, lease: Lease, since: Option<u64>) -> Response {
    let (answer, result) = oneshot::channel();
    lease.extend(FOR_EVER);
    if calls.send(Call::Follow { since, lease, answer }).await.is_err() {
        return stopping();
    }
    match result.await {
        Ok(Ok(following)) => stream::respond(stream::follow(following.first, following.then)),
        Ok(Err(error)) => failure(StatusCode::TOO_MANY_REQUESTS, &error),
        Err(_) => stopping(),
    }
}

pub(super) async fn trace(
    State(calls): State<mpsc::Sender<Call>>,
    Extension(lease): Extension<Lease>,
    request: Result<Json<TraceRequest>, JsonRejection>,
) -> Response {
    let request = match request {
        Ok(Json(request)) => Box::new(request),
        Err(rejection) => return failure(rejection.status(), &rejection.body_text()),
    };
    lease.extend(trace::duration(&request));
    let (answer, result) = oneshot::channel();
    if calls.send(Call::Trace { request, answer }).await.is_err() {
        return stopping();
    }
    match result.await {
        Ok(Ok(tracing)) => stream::respond(tracing.lines()),
        Ok(Err(refusal)) => failure(status(&refusal), &refusal.to_string()),
        Err(_) => stopping(),
    }
}

const fn status(refusal: &TraceRefusal) -> StatusCode {
    match refusal {
        TraceRefusal::Unreadable(_) => StatusCode::BAD_REQUEST,
        TraceRefusal::UnknownPeer(_) => StatusCode::NOT_FOUND,
        TraceRefusal::Unavailable(_) => StatusCode::CONFLICT,
    }
}

fn query(text: &str) -> Result<Query, String> {
    let mut query = Query::default();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("since", number)) => {
                let number = number.parse().map_err(|_| format!("since={number}: not the number of an event"))?;
                query.since = Some(number);
            }
            Some(("follow", "0")) => query.follow = false,
            Some(("follow", "1")) => query.follow = true,
            _ => return Err(format!("{pair}: only since=NUMBER and follow=1 can be asked for")),
        }
    }
    Ok(query)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::http::Method;

    use super::*;
    use crate::api::client::{Lines, lines};
    use crate::api::events::EventLine;
    use crate::api::server::Server;
    use crate::report::events::{EventKind, EventLog};

    async fn following(socket: &Path, calls: &mut mpsc::Receiver<Call>, log: &mut EventLog) -> Lines {
        let asked = lines(socket, Duration::from_secs(5), Method::GET, "/v1/events?follow=1", None::<&()>);
        let answered = async {
            let Some(Call::Follow { since, lease, answer }) = calls.recv().await else { panic!("another call") };
            assert!(answer.send(log.follow(since, lease)).is_ok());
        };
        tokio::join!(asked, answered).0.unwrap()
    }

    #[tokio::test]
    async fn a_connection_whose_client_does_not_read_is_cut_off_and_another_follows_on() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let mut calls = Server::bind(&socket).await.unwrap().start(crate::log::Handle::unheard()).1;
        let mut log = EventLog::new();
        let mut slow = following(&socket, &mut calls, &mut log).await;
        let mut quick = following(&socket, &mut calls, &mut log).await;
        // More than the sockets' buffers hold.
        for number in 0..2_000 {
            log.note(EventKind::Resume, None, format!("{number} {}", "x".repeat(1_000)));
            let event: EventLine = quick.next().await.unwrap().unwrap();
            assert!(event.text.starts_with(&format!("{number} ")));
        }
        let cut_off = async { while let Ok(Some(_)) = slow.next::<EventLine>().await {} };
        tokio::time::timeout(Duration::from_secs(5), cut_off).await.expect("the connection ends");
        log.note(EventKind::Resume, None, "the quick one goes on");
        assert!(quick.next::<EventLine>().await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_wrong_trace_is_told_from_a_peer_that_is_nobody_and_from_a_bad_time() {
        for (refusal, expected) in [
            (TraceRefusal::Unreadable("host".to_owned()), StatusCode::BAD_REQUEST),
            (TraceRefusal::UnknownPeer("peer".to_owned()), StatusCode::NOT_FOUND),
            (TraceRefusal::Unavailable("another".to_owned()), StatusCode::CONFLICT),
        ] {
            let (calls, mut called) = mpsc::channel(1);
            let asked = trace(State(calls), Extension(Lease::default()), Ok(Json(TraceRequest::default())));
            let answered = async {
                let Some(Call::Trace { answer, .. }) = called.recv().await else { panic!("another call") };
                assert!(answer.send(Err(refusal)).is_ok());
            };
            assert_eq!(tokio::join!(asked, answered).0.status(), expected);
        }
    }

    #[test]
    fn a_query_is_understood_or_refused_and_never_half() {
        assert_eq!(query(""), Ok(Query::default()));
        assert_eq!(query("since=7&follow=1"), Ok(Query { since: Some(7), follow: true }));
        for wrong in ["since=x", "since", "follow=yes", "peer=a", "since=-1"] {
            assert!(query(wrong).is_err(), "{wrong}");
        }
    }
}
