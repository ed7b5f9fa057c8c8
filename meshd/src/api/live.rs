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
use crate::trace;

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
        Ok(Err(error)) => failure(StatusCode::CONFLICT, &error),
        Err(_) => stopping(),
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
    use super::*;

    #[test]
    fn a_query_is_understood_or_refused_and_never_half() {
        assert_eq!(query(""), Ok(Query::default()));
        assert_eq!(query("since=7&follow=1"), Ok(Query { since: Some(7), follow: true }));
        for wrong in ["since=x", "since", "follow=yes", "peer=a", "since=-1"] {
            assert!(query(wrong).is_err(), "{wrong}");
        }
    }
}
