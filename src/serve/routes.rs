//! What is asked where (docs/serve.md, "Addresses").

use super::about::{about, metrics_of};
use super::app::App;
use super::edit;
use super::failure::{Answer, Failure, bytes, json};
use super::latents::{Interpolate, Sample};
use super::source::{Source, Surface};
use super::wire;
use crate::page::{ASSETS, INDEX};
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::StreamExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json as object;
use std::sync::Arc;
use std::time::Duration;

/// Most bytes of a mesh file, and of anything else that is sent.
const MOST_UPLOAD: usize = 64 << 20;
const MOST_REQUEST: usize = 1 << 20;
/// Nobody takes longer to send it.
const LONGEST_UPLOAD: Duration = Duration::from_secs(120);

type Shared = State<Arc<App>>;
type Id = Result<Path<String>, PathRejection>;
type Asked<T> = Result<Query<T>, QueryRejection>;

pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/assets/{name}", get(asset))
        .route("/api/runs", get(list))
        .route("/api/runs/{id}", get(details))
        .route("/api/runs/{id}/metrics", get(metrics))
        .route("/api/runs/{id}/planes", get(planes))
        .route("/api/runs/{id}/mesh", get(mesh))
        .route("/api/runs/{id}/interpolate", post(interpolate))
        .route("/api/runs/{id}/sample", post(sample))
        .route("/api/runs/{id}/edit", post(edit))
        .route("/api/runs/{id}/encode", post(encode))
        .route("/api/latents/{file}", get(download))
        .route("/api/events", get(events))
        .fallback(async || Failure::unknown("there is nothing at this address"))
        .method_not_allowed_fallback(async || {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "this address is not asked like that")
        })
        .with_state(app)
}

fn text(id: Id) -> Answer<String> {
    id.map(|Path(id)| id).map_err(|error| Failure::bad(error.body_text()))
}

fn query<T>(asked: Asked<T>) -> Answer<T> {
    asked.map(|Query(asked)| asked).map_err(|error| Failure::bad(error.body_text()))
}

async fn page() -> Response {
    bytes("text/html; charset=utf-8", INDEX.as_bytes().to_vec())
}

async fn asset(name: Id) -> Answer<Response> {
    let name = text(name)?;
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    let asset = asset.ok_or_else(|| Failure::unknown("the page has no such file"))?;
    Ok(bytes(asset.kind, asset.text.as_bytes().to_vec()))
}

async fn list(State(app): Shared) -> Answer<Response> {
    app.look(|app| Ok(json(&object!(app.runs.records())))).await
}

async fn details(State(app): Shared, id: Id) -> Answer<Response> {
    let id = text(id)?;
    app.look(move |app| app.on_run(&id, |run| Ok(json(&about(app, run)?)))).await
}

#[derive(Deserialize)]
struct From {
    #[serde(default)]
    from: u64,
}

async fn metrics(State(app): Shared, id: Id, asked: Asked<From>) -> Answer<Response> {
    let (id, From { from }) = (text(id)?, query(asked)?);
    app.look(move |app| app.on_run(&id, |run| Ok(json(&object!({ "columns": metrics_of(app, run, from)? })))))
        .await
}

#[derive(Deserialize)]
struct Of {
    of: String,
    iso: Option<f32>,
    #[serde(default)]
    distance: u8,
}

async fn planes(State(app): Shared, id: Id, asked: Asked<Of>) -> Answer<Response> {
    let (id, asked) = (text(id)?, query(asked)?);
    let source = Source::parse(&asked.of)?;
    let shown = move |app: &App| app.on_run(&id, |run| Ok(wire::planes(&app.shown(run, &source)?.planes)));
    Ok(bytes("application/octet-stream", app.compute(shown).await?))
}

async fn mesh(State(app): Shared, id: Id, asked: Asked<Of>) -> Answer<Response> {
    let (id, asked) = (text(id)?, query(asked)?);
    let source = Source::parse(&asked.of)?;
    if let Some(iso) = asked.iso.filter(|&iso| !(iso > 0.0 && iso < 1.0)) {
        return Err(Failure::bad(format!("iso is {iso}, expected a number between 0 and 1")));
    }
    let surface = move |app: &App| {
        app.on_run(&id, |run| {
            let iso = asked.iso.unwrap_or(run.settings.extraction.iso);
            match app.surface(run, &source, iso)? {
                Surface::Empty(why) => Ok(json(&object!({ "empty": why }))),
                Surface::Mesh(mesh, of) => {
                    let distances = match of.filter(|_| asked.distance == 1) {
                        Some(index) => app.distances(run, index, &mesh.positions)?,
                        None => None,
                    };
                    Ok(bytes("application/octet-stream", wire::mesh(&mesh, distances.as_deref())))
                }
            }
        })
    };
    app.compute(surface).await
}

async fn interpolate(State(app): Shared, id: Id, request: Request) -> Answer<Response> {
    let (id, request): (_, Interpolate) = (text(id)?, parsed(request).await?);
    app.compute(move |app| app.on_run(&id, |run| Ok(json(&app.interpolate(run, &request)?)))).await
}

async fn sample(State(app): Shared, id: Id, request: Request) -> Answer<Response> {
    let (id, request): (_, Sample) = (text(id)?, parsed(request).await?);
    app.compute(move |app| app.on_run(&id, |run| Ok(json(&app.sample(run, request)?)))).await
}

async fn edit(State(app): Shared, id: Id, request: Request) -> Answer<Response> {
    let (id, request): (_, edit::Request) = (text(id)?, parsed(request).await?);
    app.compute(move |app| app.on_run(&id, |run| Ok(json(&object!(app.edit(run, &request)?))))).await
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

async fn encode(State(app): Shared, id: Id, asked: Asked<Named>, request: Request) -> Answer<Response> {
    let (id, Named { name }) = (text(id)?, query(asked)?);
    // Before so much is taken in for nothing.
    let known = id.clone();
    app.look(move |app| app.runs.find(&known).map(drop)).await?;
    let _place = app.uploading.try_acquire().map_err(|_| Failure::busy())?;
    let body = read(request, MOST_UPLOAD).await?;
    app.compute(move |app| app.on_run(&id, |run| Ok(json(&app.encode(run, &name, &body)?)))).await
}

async fn download(State(app): Shared, file: Id) -> Answer<Response> {
    let file = text(file)?;
    let (body, name) = app.compute(move |app| app.download(&file)).await?;
    let mut response = bytes("application/octet-stream", body);
    let saved = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""));
    let saved = saved.map_err(|_| Failure::bad("its name cannot be sent"))?;
    response.headers_mut().insert(header::CONTENT_DISPOSITION, saved);
    Ok(response)
}

async fn events(State(app): Shared) -> Answer<Response> {
    app.feed.listen()
}

async fn parsed<T: DeserializeOwned>(request: Request) -> Answer<T> {
    let body = read(request, MOST_REQUEST).await?;
    serde_json::from_slice(&body).map_err(|error| Failure::bad(format!("the request: {error}")))
}

/// The whole body, which may not be longer than `most`.
async fn read(request: Request, most: usize) -> Answer<Vec<u8>> {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if length.and_then(|length| length.parse::<usize>().ok()).is_some_and(|length| length > most) {
        return Err(Failure::too_large(most));
    }
    let taken = tokio::time::timeout(LONGEST_UPLOAD, gather(request.into_body(), most));
    taken.await.map_err(|_| Failure::bad("the request took too long to arrive"))?
}

async fn gather(body: Body, most: usize) -> Answer<Vec<u8>> {
    let mut stream = body.into_data_stream();
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| Failure::bad(format!("the request ends early ({error})")))?;
        if all.len() + piece.len() > most {
            return Err(Failure::too_large(most));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all)
}
