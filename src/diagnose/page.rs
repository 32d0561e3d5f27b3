//! The page of a diagnosis: one HTML file that asks nothing of the network.

use super::end::LEVELS;
use super::grid::{Cell, Role};
use super::run::RunResult;
use super::verdict::{Outcome, Verdict};
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::hexplane::Representation;
use crate::model::LatentKind;
use crate::page::{escape, fill, script_safe};
use crate::train::LikelihoodKind;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

/// Writes the page of the diagnosis in `out` to `path`, whole or not at all.
///
/// # Errors
/// Those of reading the pictures and of writing.
pub fn write(
    out: &Path,
    path: &Path,
    cells: &[Cell],
    results: &[RunResult],
    predictions: &Value,
    verdicts: &[Verdict],
) -> Result<()> {
    let gallery = gallery(out, cells)?;
    let data = script_safe(&shortened(data(cells, results, predictions)?));
    let page = fill(include_str!("assets/page.html"), |slot| match slot {
        "style" => include_str!("assets/page.css").to_owned(),
        "subtitle" => escape(&subtitle(cells, results)),
        "headline" => headline(verdicts),
        "verdicts" => verdict_table(verdicts),
        "cells" => cell_table(cells, results),
        "gallery" => gallery.clone(),
        "data" => data.clone(),
        "script" => include_str!("assets/plots.js").to_owned(),
        "version" => env!("CARGO_PKG_VERSION").to_owned(),
        other => unreachable!("page.html names the slot {other}"),
    });
    write_atomic(path, |file| file.write_all(page.as_bytes()))
}

fn subtitle(cells: &[Cell], results: &[RunResult]) -> String {
    let first = &results[0];
    let settings = &first.settings;
    format!(
        "{} combinations, {} runs, {} meshes, planes {}, {} parameters, {} steps of {} meshes",
        cells.len(),
        results.len(),
        first.meshes.len(),
        settings.architecture.planes,
        first.parameters,
        settings.training.steps,
        settings.training.batch
    )
}

fn headline(verdicts: &[Verdict]) -> String {
    let count = |outcome| verdicts.iter().filter(|verdict| verdict.outcome == outcome).count();
    format!(
        "Of {} claims {} are supported, {} are not, {} stay undecided.",
        verdicts.len(),
        count(Outcome::Supported),
        count(Outcome::NotSupported),
        count(Outcome::Undecided)
    )
}

fn verdict_table(verdicts: &[Verdict]) -> String {
    let mut rows = String::new();
    for verdict in verdicts {
        let (class, word) = match verdict.outcome {
            Outcome::Supported => ("supported", "supported"),
            Outcome::NotSupported => ("not", "not supported"),
            Outcome::Undecided => ("undecided", "undecided"),
        };
        rows += &format!(
            "<tr><th scope=\"row\">{}<div class=\"why\">{}</div></th><td><span class=\"outcome {class}\">{word}</span></td>\
             <td>{:.3} ± {:.3}</td><td class=\"why\">{}<br>{}</td></tr>\n",
            escape(&verdict.claim),
            escape(&verdict.why),
            verdict.effect,
            verdict.spread,
            escape(&verdict.measure),
            escape(&listed(&verdict.cells))
        );
    }
    format!(
        "<div class=\"scroll\"><table class=\"verdicts\"><thead><tr><th scope=\"col\">Claim</th><th scope=\"col\">Verdict</th>\
         <th scope=\"col\">Effect ± spread</th><th scope=\"col\">Measure and cells</th></tr></thead><tbody>\n{rows}</tbody></table></div>"
    )
}

/// The first few by name.
fn listed(cells: &[String]) -> String {
    const MOST: usize = 6;
    let rest = cells.len().saturating_sub(MOST);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    cells[..cells.len() - rest].join(", ") + &more
}

/// Means over the seeds.
fn cell_table(cells: &[Cell], results: &[RunResult]) -> String {
    let mut rows = String::new();
    for cell in cells {
        let runs: Vec<&RunResult> = results.iter().filter(|result| result.cell == cell.name).collect();
        let mean = |of: &dyn Fn(&RunResult) -> Option<f64>| {
            let values: Option<Vec<f64>> = runs.iter().map(|run| of(run)).collect();
            values
                .filter(|v| !v.is_empty())
                .map_or("n/a".to_owned(), |v| format!("{:.3}", v.iter().sum::<f64>() / v.len() as f64))
        };
        let last = |run: &RunResult| run.looks.last().and_then(|look| look.posterior.clone());
        let end = |of: fn(&super::End) -> Option<f64>| move |run: &RunResult| run.end.as_ref().and_then(of);
        let columns = [
            mean(&|run| last(run).map(|p| p.rate)),
            mean(&|run| last(run).map(|p| p.active as f64)),
            mean(&end(|end| Some(end.of_mean))),
            mean(&end(|end| end.of_draw)),
            mean(&end(|end| Some(end.of_shuffled))),
            // The middle of the standard prior is no place of a learned one.
            if cell.learned_prior() { "n/a".to_owned() } else { mean(&end(|end| Some(end.of_zero))) },
            mean(&end(|end| Some(end.empty))),
            mean(&end(|end| end.empty_drawn)),
            mean(&end(|end| Some(end.highest))),
            mean(&end(|end| Some(end.score))),
            mean(&end(|end| Some(end.ceiling))),
        ];
        rows += &format!("<tr><th scope=\"row\">{}</th>", escape(&cell.name));
        columns.iter().for_each(|column| rows += &format!("<td>{column}</td>"));
        rows += "</tr>\n";
    }
    let heads = [
        "KL, nats a mesh",
        "Active units",
        "Explained by the mean",
        "by a draw",
        "by another's latent",
        "by latent 0",
        "Empty meshes",
        "Empty draws",
        "Highest occupancy",
        "F at 0.02",
        "Ceiling",
    ];
    let heads: String = heads.iter().map(|head| format!("<th scope=\"col\">{head}</th>")).collect();
    format!(
        "<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Cell</th>{heads}</tr></thead><tbody>\n{rows}</tbody></table></div>"
    )
}

fn gallery(out: &Path, cells: &[Cell]) -> Result<String> {
    let mut figures = String::new();
    for cell in cells {
        let path = RunResult::picture(out, &cell.name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io(&path, &error)),
        };
        let name = escape(&cell.name);
        figures += &format!(
            "<figure><figcaption>{name}</figcaption><img loading=\"lazy\" alt=\"Planes and mesh of {name}\" \
             src=\"data:image/png;base64,{}\"></figure>\n",
            BASE64.encode(&bytes)
        );
    }
    Ok(format!("<div class=\"gallery\">{figures}</div>"))
}

/// `predictions` as in predictions.json, where what is not finite is null.
fn data(cells: &[Cell], results: &[RunResult], predictions: &Value) -> Result<Value> {
    let failed = |error: serde_json::Error| Error::new("report", error, "report this");
    let mut rows = Vec::new();
    for cell in cells {
        let mut runs = Vec::new();
        for run in results.iter().filter(|result| result.cell == cell.name) {
            let looks = serde_json::to_value(&run.looks).map_err(failed)?;
            let end = serde_json::to_value(&run.end).map_err(failed)?;
            runs.push(json!({ "seed": run.seed, "looks": looks, "end": end }));
        }
        let all = predictions.as_array().map_or(&[][..], Vec::as_slice);
        let prediction = all.iter().find(|prediction| prediction["cell"] == cell.name.as_str());
        let curve = prediction.map(|prediction| &prediction["curve"]).filter(|curve| curve.get(0).is_some());
        rows.push(json!({
            "name": cell.name,
            "group": group(cell),
            "spectrum": spectrum(cell),
            "weight": prediction.map(|prediction| &prediction["noise"]),
            "unit": unit(cell),
            "curve": curve,
            "edge": cell.settings.latent.kind == LatentKind::Deterministic || cell.role == Role::Study,
            "runs": runs,
        }));
    }
    Ok(json!({ "cells": rows, "levels": LEVELS }))
}

/// The chooser's names: cells that stand in one plot.
fn group(cell: &Cell) -> String {
    let planes = match cell.settings.representation {
        Representation::Binary => "binary planes",
        Representation::Continuous => "continuous planes",
    };
    match cell.role {
        Role::Schedule => "controls on binary planes".into(),
        Role::Blurred => "blurred binary planes".into(),
        Role::Latent if cell.learned_prior() => "learned priors on binary planes".into(),
        Role::Latent => "other latents".into(),
        Role::Study | Role::Sweep => format!("{planes}, {}", likelihood(cell)),
    }
}

/// Cells whose points lie on one predicted curve.
fn spectrum(cell: &Cell) -> Option<String> {
    let along = matches!(cell.role, Role::Study | Role::Sweep | Role::Blurred);
    let fixed = cell.settings.likelihood.kind != LikelihoodKind::Sigma;
    let unit = match cell.settings.likelihood.kind {
        LikelihoodKind::Bernoulli => "Bernoulli",
        _ => "squared error",
    };
    let planes = match (cell.settings.representation, cell.role) {
        (_, Role::Blurred) => "blurred binary planes",
        (Representation::Binary, _) => "binary planes",
        (Representation::Continuous, _) => "continuous planes",
    };
    (along && fixed).then(|| format!("{planes}, {unit}"))
}

fn unit(cell: &Cell) -> &'static str {
    match cell.settings.likelihood.kind {
        LikelihoodKind::Bernoulli => "weight of the KL beside nats",
        _ => "variance of the decoder that weight and reduction imply",
    }
}

fn likelihood(cell: &Cell) -> &'static str {
    match cell.settings.likelihood.kind {
        LikelihoodKind::Mse => "squared error",
        LikelihoodKind::Sigma => "fitted deviation",
        LikelihoodKind::Bernoulli => "Bernoulli",
    }
}

/// Four significant digits are more than a plot shows.
fn shortened(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            let short = number.as_f64().and_then(|x| format!("{x:.3e}").parse::<f64>().ok());
            short.map_or(Value::Null, Value::from)
        }
        Value::Array(values) => Value::Array(values.into_iter().map(shortened).collect()),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (key, shortened(value))).collect())
        }
        other => other,
    }
}
