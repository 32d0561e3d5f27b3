//! The rows of the metrics table, found in a metrics object whatever its nesting.

use serde_json::Value;

/// Which way a number gets better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Better {
    Higher,
    Lower,
    /// A count that is neither good nor bad.
    Neither,
}

/// A row: the canonical name that [`leaves`] gives, and how a person reads it.
pub struct Row {
    pub key: &'static str,
    pub label: &'static str,
    pub unit: &'static str,
    pub better: Better,
}

const fn row(key: &'static str, label: &'static str, unit: &'static str, better: Better) -> Row {
    Row { key, label, unit, better }
}

/// Lengths are in the normalised frame: the longest side of the input is 1.8 there.
pub const ROWS: &[Row] = &[
    row("f_score@0.005", "F-score at 0.005", "0 to 1", Better::Higher),
    row("precision@0.005", "Precision at 0.005", "0 to 1", Better::Higher),
    row("recall@0.005", "Recall at 0.005", "0 to 1", Better::Higher),
    row("f_score@0.01", "F-score at 0.01", "0 to 1", Better::Higher),
    row("precision@0.01", "Precision at 0.01", "0 to 1", Better::Higher),
    row("recall@0.01", "Recall at 0.01", "0 to 1", Better::Higher),
    row("f_score@0.02", "F-score at 0.02", "0 to 1", Better::Higher),
    row("precision@0.02", "Precision at 0.02", "0 to 1", Better::Higher),
    row("recall@0.02", "Recall at 0.02", "0 to 1", Better::Higher),
    row("chamfer_l1", "Chamfer distance, L1", "length", Better::Lower),
    row("chamfer_l2", "Chamfer distance, L2", "length\u{b2}", Better::Lower),
    row("hausdorff_95", "Hausdorff distance, 95 %", "length", Better::Lower),
    row("normal_consistency", "Normal consistency", "0 to 1", Better::Higher),
    row("volume_iou", "Volume IoU", "0 to 1", Better::Higher),
    row("near_surface_accuracy", "Occupancy accuracy near the surface", "0 to 1", Better::Higher),
    row("health.vertices", "Vertices", "count", Better::Neither),
    row("health.faces", "Faces", "count", Better::Neither),
    row("health.components", "Components", "count", Better::Neither),
    row("health.boundary_edges", "Boundary edges", "count", Better::Lower),
    row("health.non_manifold_edges", "Non-manifold edges", "count", Better::Lower),
    row("health.watertight", "Watertight", "yes or no", Better::Neither),
];

/// Every number, flag and text below `value` with its path, `a.b[2].c`. Objects with a `threshold` and
/// objects keyed by thresholds both become `name@threshold`.
pub fn leaves(value: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    walk(value, "", &mut found);
    found
}

fn walk<'a>(value: &'a Value, path: &str, found: &mut Vec<(String, &'a Value)>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) => {
            if let Some(threshold) = fields.get("threshold").and_then(Value::as_f64) {
                let named = fields.iter().filter(|(name, _)| *name != "threshold");
                found.extend(named.map(|(name, leaf)| (at_threshold(name, threshold), leaf)));
                return;
            }
            for (name, field) in fields {
                match name.parse::<f64>() {
                    Ok(threshold) if !path.is_empty() => {
                        walk(field, &at_threshold(path, threshold), found);
                    }
                    _ => walk(field, &below(name), found),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &format!("{path}[{index}]"), found);
            }
        }
        leaf => found.push((path.to_owned(), leaf)),
    }
}

/// `0.01` may have gone through a 32-bit float; three digits tell the thresholds apart.
fn at_threshold(name: &str, threshold: f64) -> String {
    let rounded = (threshold * 1e4).round() / 1e4;
    format!("{}@{rounded}", if matches!(name, "f" | "f_scores") { "f_score" } else { name })
}

/// The leaf of `key`; `None` where it is missing or null.
pub fn leaf<'a>(metrics: &'a Value, key: &str) -> Option<&'a Value> {
    leaves(metrics).into_iter().find(|(path, leaf)| path == key && !leaf.is_null()).map(|(_, leaf)| leaf)
}

pub fn number(metrics: &Value, key: &str) -> Option<f64> {
    leaf(metrics, key).and_then(Value::as_f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn thresholds_are_found_in_every_nesting() {
        let listed = json!({ "f_scores": [{ "threshold": 0.01f32, "f_score": 0.5, "recall": 0.25 }] });
        let keyed = json!({ "f_score": { "0.005": 0.1, "0.01": 0.5 }, "recall": { "0.01": 0.25 } });
        for metrics in [listed, keyed] {
            assert_eq!(number(&metrics, "f_score@0.01"), Some(0.5));
            assert_eq!(number(&metrics, "recall@0.01"), Some(0.25));
            assert_eq!(number(&metrics, "precision@0.01"), None);
        }
    }

    #[test]
    fn null_is_missing() {
        assert!(leaf(&json!({ "volume_iou": null }), "volume_iou").is_none());
        assert!(leaf(&Value::Null, "volume_iou").is_none());
    }
}
