//! The self-contained page of a run: one HTML file that asks nothing of the network.
//!
//! [`write()`] puts the meshes (packed by `embed`), the picture of the planes, the loss curve and the
//! tables (built by `tables`) into `assets/page.html`. The page forbids every request by its own
//! content security policy, so it opens from a disk as it opens from a server.

mod embed;
mod format;
mod metrics;
mod tables;

use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::mesh::Mesh;
pub(crate) use format::escape;

/// Points of the curve that the page carries at most; see [`thinned`].
const CURVE_POINTS: usize = 2000;

/// What a page is made of.
pub struct Report<'a> {
    pub title: &'a str,
    pub subtitle: &'a str,
    /// `summary.json` of the run folder. A field that is missing or null reads "n/a".
    pub summary: &'a Value,
    /// One point a step, in the order of the steps.
    pub curve: &'a [CurvePoint],
    /// The contact sheet, input above decoded, as the bytes of a PNG file; empty without one.
    pub planes_png: &'a [u8],
    /// In one common frame. `input` stands on the left, the others take turns on the right.
    pub meshes: Vec<NamedMesh<'a>>,
    /// Sentences shown below the headline.
    pub notes: Vec<String>,
}

/// One row of `metrics.csv`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    pub step: u64,
    /// Since the start of the run.
    pub seconds: f64,
    pub loss: f64,
    pub reconstruction: f64,
    pub sdf: f64,
    /// Nats a mesh, without its weight; 0 where the latent has none.
    pub kl: f64,
    pub gradient_norm: f64,
}

/// A mesh under the name the page shows: `input`, `network`, `linear code` or `ceiling`.
pub struct NamedMesh<'a> {
    pub name: &'a str,
    pub mesh: &'a Mesh,
}

/// Writes the page whole or not at all.
pub fn write(path: impl AsRef<Path>, report: &Report) -> Result<()> {
    let page = html(report)?;
    crate::files::write_atomic(path.as_ref(), |file| file.write_all(page.as_bytes()))
}

/// The page as text, UTF-8.
pub fn html(report: &Report) -> Result<String> {
    let (entries, blocks) = mesh_blocks(&report.meshes)?;
    let data = json!({ "meshes": entries, "curve": columns(&thinned(report.curve, CURVE_POINTS)) });
    let summary = report.summary;
    Ok(fill(include_str!("assets/page.html"), |name| match name {
        "title" => escape(report.title),
        "subtitle" => escape(report.subtitle),
        "style" => include_str!("assets/style.css").to_owned(),
        "headline" => tables::headline(summary),
        "key numbers" => tables::key_numbers(summary),
        "notes" => tables::notes(&report.notes),
        "planes" => planes(report.planes_png),
        "metrics" => tables::metrics_table(summary),
        "many meshes" => tables::many_meshes(summary),
        "settings" => tables::settings(summary),
        "meshes" => blocks.clone(),
        "data" => script_safe(&data),
        "viewer" => include_str!("assets/viewer.js").to_owned(),
        "plots" => include_str!("assets/plots.js").to_owned(),
        "version" => env!("CARGO_PKG_VERSION").to_owned(),
        other => unreachable!("page.html names the slot {other}"),
    }))
}

/// `template` with every `{{slot}}` replaced; what goes in is not searched again.
pub(crate) fn fill(template: &str, slot: impl Fn(&str) -> String) -> String {
    let mut parts = template.split("{{");
    let mut page = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once("}}").expect("every slot of page.html is closed");
        page.push_str(&slot(name));
        page.push_str(rest);
    }
    page
}

/// Descriptions of the meshes for the script, and the data blocks that hold them in base64.
fn mesh_blocks(meshes: &[NamedMesh]) -> Result<(Vec<Value>, String)> {
    let mut entries = Vec::new();
    let mut blocks = String::new();
    for (index, named) in meshes.iter().enumerate() {
        let Some(packed) = embed::pack(named.mesh)? else {
            entries.push(json!({ "name": named.name, "triangles": 0 }));
            continue;
        };
        entries.push(json!({
            "name": named.name,
            "block": format!("mesh-{index}"),
            "vertices": packed.vertices,
            "triangles": packed.triangles,
            "total": packed.total,
            "low": packed.low,
            "step": packed.step,
            "size": packed.size,
        }));
        let text = BASE64.encode(&packed.bytes);
        blocks += &format!("<script type=\"text/plain\" id=\"mesh-{index}\">{text}</script>\n");
    }
    Ok((entries, blocks))
}

/// JSON that cannot end the script element it stands in.
pub(crate) fn script_safe(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn planes(png: &[u8]) -> String {
    if png.is_empty() {
        return "<p class=\"empty\">No picture of the planes.</p>".to_owned();
    }
    let data = BASE64.encode(png);
    format!(
        "<button type=\"button\" class=\"picture\" id=\"planes-open\" aria-label=\"Enlarge the picture of \
         the planes\"><img id=\"planes\" alt=\"The six planes, input above decoded\" \
         src=\"data:image/png;base64,{data}\"></button>"
    )
}

/// At most `most` points (`most` is even): of each run of neighbours the one with the smallest and the
/// one with the largest loss, so that no spike is lost.
fn thinned(curve: &[CurvePoint], most: usize) -> Vec<CurvePoint> {
    if curve.len() <= most {
        return curve.to_vec();
    }
    let buckets = most / 2;
    let mut kept = Vec::with_capacity(most);
    for bucket in 0..buckets {
        let run = &curve[bucket * curve.len() / buckets..(bucket + 1) * curve.len() / buckets];
        let by_loss = |a: &&CurvePoint, b: &&CurvePoint| a.loss.total_cmp(&b.loss);
        let extremes = run.iter().min_by(by_loss).into_iter().chain(run.iter().max_by(by_loss));
        let mut extremes: Vec<_> = extremes.copied().collect();
        extremes.sort_by_key(|point| point.step);
        extremes.dedup_by_key(|point| point.step);
        kept.extend(extremes);
    }
    kept
}

/// The curve column by column; numbers that are not finite become null.
fn columns(curve: &[CurvePoint]) -> Value {
    let column = |of: fn(&CurvePoint) -> f64| -> Value { curve.iter().map(of).map(short).collect() };
    json!({
        "step": curve.iter().map(|point| point.step).collect::<Vec<_>>(),
        "seconds": column(|point| point.seconds),
        "loss": column(|point| point.loss),
        "reconstruction": column(|point| point.reconstruction),
        "sdf": column(|point| point.sdf),
        "kl": column(|point| point.kl),
        "gradient_norm": column(|point| point.gradient_norm),
    })
}

/// Five significant digits are more than a plot can show, and half the bytes.
fn short(value: f64) -> Value {
    if !value.is_finite() {
        return Value::Null;
    }
    format!("{value:.4e}").parse::<f64>().map_or(Value::Null, Value::from)
}

/// The one place where a failure of the compressor becomes an error.
fn compression_failed(error: std::io::Error) -> Error {
    Error::new("report", format!("a mesh cannot be compressed: {error}"), "free some memory and try again")
}
