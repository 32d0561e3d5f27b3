//! What a request is refused with: a status and one clear line, as JSON.

use crate::error::Error;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

pub type Answer<T> = Result<T, Failure>;

/// A refusal.
#[derive(Clone, Debug)]
pub struct Failure {
    pub status: StatusCode,
    pub problem: String,
    /// What it comes of, where it is no fault of the request.
    cause: Option<Error>,
}

/// The line of a refusal, left with the response for the log.
#[derive(Clone)]
pub struct Problem(pub String);

impl Failure {
    pub fn new(status: StatusCode, problem: impl std::fmt::Display) -> Self {
        // Through the one that makes one line of it.
        let problem = problem.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { status, problem, cause: None }
    }

    pub fn bad(problem: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, problem)
    }

    pub fn unknown(problem: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, problem)
    }

    pub fn gone(run: &str) -> Self {
        Self::new(StatusCode::GONE, format!("the run {run} was deleted"))
    }

    /// The run has changed under the request.
    pub fn changed(problem: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::CONFLICT, problem)
    }

    /// A mesh that cannot be used.
    pub fn unusable(problem: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, problem)
    }

    pub fn too_large(most: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("more than {most} bytes"))
    }

    /// For whoever asked without a request.
    pub fn into_error(self, place: impl std::fmt::Display) -> Error {
        self.cause.unwrap_or_else(|| Error::new(place, self.problem, "check the run"))
    }

    pub fn busy() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too much is being computed already: try again in a moment",
        )
    }
}

/// A file of the run that is missing or broken, or a device that fails: no fault of the request.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { cause: Some(error.clone()), ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, error) }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = json(&serde_json::json!({ "error": self.problem }));
        *response.status_mut() = self.status;
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.extensions_mut().insert(Problem(self.problem));
        response
    }
}

pub fn json(value: &serde_json::Value) -> Response {
    bytes("application/json", value.to_string().into_bytes())
}

pub fn bytes(kind: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
