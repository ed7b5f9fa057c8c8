//! What is logged, asked for and changed over the API.

use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::server::failure;
use crate::log::{Handle, Standing};

/// `GET /v1/log`, and the answer to `PUT`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LogReport {
    /// Version of this shape: 1.
    pub(crate) version: u32,
    /// What is written now: directives as those of `MESHD_LOG`.
    pub(crate) filter: String,
    /// What is written unless it is changed here.
    pub(crate) configured: String,
    /// Where that is from: `configuration`, or `MESHD_LOG`.
    pub(crate) configured_by: String,
    /// Whether it was changed here.
    pub(crate) is_changed: bool,
    /// When the change ends by itself; absent where it does not.
    pub(crate) reverts_after_seconds: Option<f64>,
    /// Where the log goes: `journal` or `stderr`.
    pub(crate) output: String,
}

/// `PUT /v1/log`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LogRequest {
    /// A level for all of meshd, or directives beside what is configured; absent: what is configured.
    #[serde(default)]
    pub(crate) filter: Option<String>,
    /// For how long; absent: until it is changed again.
    #[serde(default)]
    pub(crate) for_seconds: Option<f64>,
}

/// The routes of the log.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(log: Handle) -> Router<S> {
    Router::new().route("/v1/log", get(show).put(change)).with_state(log)
}

async fn show(State(log): State<Handle>) -> Response {
    Json(LogReport::from(log.standing())).into_response()
}

async fn change(State(log): State<Handle>, request: Result<Json<LogRequest>, JsonRejection>) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return failure(rejection.status(), &rejection.body_text()),
    };
    let Ok(period) = request.for_seconds.map(Duration::try_from_secs_f64).transpose() else {
        return failure(StatusCode::BAD_REQUEST, "for_seconds is no span of time");
    };
    match request.filter {
        None => log.reset(),
        Some(filter) => {
            if let Err(error) = log.set(&filter, period) {
                return failure(StatusCode::BAD_REQUEST, &error.to_string());
            }
            tracing::info!(filter, "the log was changed");
        }
    }
    show(State(log)).await
}

impl From<Standing> for LogReport {
    fn from(standing: Standing) -> Self {
        let by = if standing.is_from_environment { "MESHD_LOG" } else { "configuration" };
        Self {
            version: 1,
            filter: standing.filter,
            configured: standing.configured,
            configured_by: by.to_owned(),
            is_changed: standing.is_changed,
            reverts_after_seconds: standing.reverts_after.map(|after| after.as_secs_f64()),
            output: standing.output.to_owned(),
        }
    }
}
