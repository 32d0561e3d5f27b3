//! The words and tables of the page, from `summary.json`.

use std::fmt::Write;

use serde_json::Value;

use super::format::{bytes, duration, escape, grouped, number};
use super::metrics::{self, Better, ROWS};

/// Keys of the summary that hold metrics: they have tables of their own.
const METRICS: [&str; 4] = ["mesh", "linear", "ceiling", "meshes"];
const MISSING: &str = "<span class=\"missing\">n/a</span>";
/// The score that stands for a mesh where one number must do.
const HEADLINE: &str = "f_score@0.01";

/// One sentence: what the network reached, and whether it beat the linear code.
pub fn headline(summary: &Value) -> String {
    let score = |of: &str| metrics::number(&summary[of], HEADLINE);
    let (network, linear, ceiling) = (score("mesh"), score("linear"), score("ceiling"));
    let Some(network) = network else {
        return "A mesh, its six depth and normal planes, and the mesh that comes back from them.".to_owned();
    };
    let mut text = format!("The mesh comes back with an F-score of <b>{network:.3}</b> at 0.01");
    if let Some(ceiling) = ceiling {
        let _ = write!(text, "; the planes alone allow {ceiling:.3}");
    }
    match linear {
        Some(linear) if network > linear => {
            let _ =
                write!(text, "; the network <b>beats</b> the linear code of its latent size ({linear:.3}).");
        }
        Some(linear) => {
            let _ = write!(
                text,
                "; the network <b>does not beat</b> the linear code of its latent size ({linear:.3})."
            );
        }
        None => text.push('.'),
    }
    text
}

/// The four numbers on top of the page.
pub fn key_numbers(summary: &Value) -> String {
    let number_at = |path: &str| summary.pointer(path).and_then(Value::as_f64);
    let f_score = |of: &str| metrics::number(&summary[of], HEADLINE);
    let share = match (f_score("mesh"), f_score("ceiling")) {
        (Some(network), Some(ceiling)) if ceiling > 0.0 => {
            Some((format!("{:.1} %", 100.0 * network / ceiling), format!("F {network:.3} of {ceiling:.3}")))
        }
        _ => None,
    };
    let latent = number_at("/latent/floats").map(|floats| {
        let size = number_at("/latent/bytes").map_or(String::new(), bytes);
        (format!("{} floats", grouped(floats)), size)
    });
    let time = number_at("/seconds").map(|seconds| {
        let steps = number_at("/steps").map_or(String::new(), |steps| format!("{} steps", grouped(steps)));
        (duration(seconds), steps)
    });
    let device = summary["device"].as_str().map(|device| {
        let memory = number_at("/peak_memory_bytes").map(|peak| format!("{} at the peak", bytes(peak)));
        (device.to_owned(), memory.unwrap_or_default())
    });
    [
        ("F-score at 0.01, of the ceiling", share),
        ("Latent", latent),
        ("Training time", time),
        ("Device", device),
    ]
    .map(|(label, value)| {
        let (value, detail) = value.unwrap_or_else(|| ("n/a".to_owned(), String::new()));
        let (value, detail) = (escape(&value), escape(&detail));
        format!("<div><dt>{label}</dt><dd>{value}<small>{detail}</small></dd></div>")
    })
    .concat()
}

pub fn notes(notes: &[String]) -> String {
    if notes.is_empty() {
        return String::new();
    }
    let items: String = notes.iter().map(|note| format!("<li>{}</li>", escape(note))).collect();
    format!("<ul class=\"notes\">{items}</ul>")
}

/// One row a metric: network, linear code, ceiling, and the network as a share of the ceiling.
pub fn metrics_table(summary: &Value) -> String {
    let columns = ["mesh", "linear", "ceiling"].map(|name| &summary[name]);
    if columns.iter().all(|column| metrics::leaves(column).iter().all(|(_, leaf)| leaf.is_null())) {
        return "<p class=\"empty\">This run has no metrics.</p>".to_owned();
    }
    let mut body = String::new();
    for row in ROWS {
        let (arrow, better) = match row.better {
            Better::Higher => ("\u{2191}", "higher is better"),
            Better::Lower => ("\u{2193}", "lower is better"),
            Better::Neither => ("", ""),
        };
        let mark = if arrow.is_empty() {
            String::new()
        } else {
            format!(" <span class=\"way\" title=\"{better}\" aria-label=\"{better}\">{arrow}</span>")
        };
        let class = if row.key.starts_with("f_score") { " class=\"main\"" } else { "" };
        let _ = write!(body, "<tr{class}><th scope=\"row\">{}{mark}</th><td>{}</td>", row.label, row.unit);
        push_values(&mut body, columns, row.key, row.better != Better::Neither && row.unit != "count");
    }
    for path in unnamed_paths(columns) {
        let _ = write!(body, "<tr><th scope=\"row\">{}</th><td></td>", escape(&path));
        push_values(&mut body, columns, &path, false);
    }
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Metrics\"><table><caption>{}</caption>\
         <thead><tr><th scope=\"col\">Metric</th><th scope=\"col\">Unit</th><th scope=\"col\">Network</th>\
         <th scope=\"col\">Linear code</th><th scope=\"col\">Ceiling</th>\
         <th scope=\"col\">Network, % of ceiling</th></tr></thead><tbody>{body}</tbody></table></div>",
        sampling(columns)
    )
}

fn push_values(body: &mut String, columns: [&Value; 3], key: &str, comparable: bool) {
    for column in columns {
        let _ = write!(body, "<td>{}</td>", value(metrics::leaf(column, key)));
    }
    let share = match (metrics::number(columns[0], key), metrics::number(columns[2], key)) {
        (Some(network), Some(ceiling)) if comparable && ceiling > 0.0 => {
            format!("{:.1} %", 100.0 * network / ceiling)
        }
        _ if comparable => MISSING.to_owned(),
        _ => String::new(),
    };
    let _ = write!(body, "<td>{share}</td></tr>");
}

/// Numbers of the metrics objects that no row names, but for the sampling, which the caption tells.
fn unnamed_paths(columns: [&Value; 3]) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for (path, leaf) in columns.iter().flat_map(|column| metrics::leaves(column)) {
        let told =
            matches!(path.as_str(), "samples" | "seed" | "name") || ROWS.iter().any(|row| row.key == path);
        if !told && !leaf.is_null() && !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

fn sampling(columns: [&Value; 3]) -> String {
    let first = |key: &str| columns.iter().find_map(|column| metrics::number(column, key));
    let samples =
        first("samples").map_or("sample count n/a".to_owned(), |n| format!("{} samples a side", grouped(n)));
    let seed = first("seed").map_or("seed n/a".to_owned(), |seed| format!("seed {seed:.0}"));
    format!(
        "Against the input, {samples}, {seed}. Lengths in the normalised frame, where the longest side of \
         the input is 1.8. \u{2191} higher is better, \u{2193} lower is better."
    )
}

fn value(leaf: Option<&Value>) -> String {
    match leaf {
        Some(Value::Number(n)) => n.as_f64().map_or(MISSING.to_owned(), number),
        Some(Value::Bool(flag)) => if *flag { "yes" } else { "no" }.to_owned(),
        Some(Value::String(text)) => escape(text),
        Some(other) if !other.is_null() => escape(&other.to_string()),
        _ => MISSING.to_owned(),
    }
}

/// F-scores mesh by mesh for a run over many; nothing for a run over one.
pub fn many_meshes(summary: &Value) -> String {
    let Some(meshes) = summary["meshes"].as_array().filter(|meshes| !meshes.is_empty()) else {
        return String::new();
    };
    let mut body = String::new();
    for (index, mesh) in meshes.iter().enumerate() {
        let name = mesh["name"].as_str().map_or_else(|| format!("mesh {index}"), escape);
        let _ = write!(body, "<tr><th scope=\"row\">{name}</th>");
        let scores = [
            ("mesh", "f_score@0.005"),
            ("mesh", HEADLINE),
            ("mesh", "f_score@0.02"),
            ("linear", HEADLINE),
            ("ceiling", HEADLINE),
        ];
        for (of, key) in scores {
            let _ = write!(body, "<td>{}</td>", value(metrics::leaf(&mesh[of], key)));
        }
        let both = (metrics::number(&mesh["mesh"], HEADLINE), metrics::number(&mesh["ceiling"], HEADLINE));
        let share = match both {
            (Some(network), Some(ceiling)) if ceiling > 0.0 => format!("{:.1} %", 100.0 * network / ceiling),
            _ => MISSING.to_owned(),
        };
        let _ = write!(body, "<td>{share}</td></tr>");
    }
    format!(
        "<section aria-labelledby=\"each-title\"><h2 id=\"each-title\">Mesh by mesh</h2>\
         <p>F-scores, 0 to 1, higher is better. {}</p>\
         <div class=\"scroll tall\" tabindex=\"0\" role=\"region\" aria-label=\"F-scores mesh by mesh\"><table>\
         <thead><tr><th scope=\"col\">Mesh</th><th scope=\"col\">Network at 0.005</th>\
         <th scope=\"col\">Network at 0.01</th><th scope=\"col\">Network at 0.02</th>\
         <th scope=\"col\">Linear code at 0.01</th><th scope=\"col\">Ceiling at 0.01</th>\
         <th scope=\"col\">Network, % of ceiling</th></tr></thead><tbody>{body}</tbody></table></div></section>",
        spread(meshes)
    )
}

/// Median and worst score of the network at 0.01.
fn spread(meshes: &[Value]) -> String {
    let score = |mesh: &Value| metrics::number(&mesh["mesh"], HEADLINE);
    let mut scores: Vec<f64> = meshes.iter().filter_map(score).collect();
    scores.sort_by(f64::total_cmp);
    if scores.is_empty() {
        return String::new();
    }
    let middle = scores.len() / 2;
    let median =
        if scores.len() % 2 == 1 { scores[middle] } else { (scores[middle - 1] + scores[middle]) / 2.0 };
    format!(
        "Network at 0.01 over {} meshes: median {}, worst {}.",
        scores.len(),
        number(median),
        number(scores[0])
    )
}

/// Everything in the summary that is not a metric.
pub fn settings(summary: &Value) -> String {
    let rows: String = metrics::leaves(summary)
        .into_iter()
        .filter(|(path, _)| {
            let top = path.split(['.', '[']).next().unwrap_or_default();
            !path.is_empty() && !METRICS.contains(&top)
        })
        .map(|(path, leaf)| {
            let shown = match leaf.as_f64() {
                // A seed is a name, not a quantity.
                Some(_) if path.ends_with("seed") => leaf.to_string(),
                _ => value(Some(leaf)),
            };
            format!("<tr><th scope=\"row\"><code>{}</code></th><td>{shown}</td></tr>", escape(&path))
        })
        .collect();
    if rows.is_empty() {
        return "<p class=\"empty\">No settings are known.</p>".to_owned();
    }
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Settings\"><table class=\"settings\"><tbody>{rows}</tbody></table></div>"
    )
}
