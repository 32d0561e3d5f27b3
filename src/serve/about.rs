//! What there is to say of a run at length: its details and its metrics.

use super::app::App;
use super::edit;
use super::failure::Answer;
use super::runs::{Run, lock, summary};
use crate::train::{LogRow, MetricsFollower, columns, list_snapshots, values};
use serde_json::{Map, Value, json as object};
use std::sync::{Arc, Mutex};

/// Most rows of the metrics that are sent.
const MOST_ROWS: usize = 2000;

/// All that does not change while a page looks at a run.
pub fn about(app: &App, run: &Run) -> Answer<Value> {
    let record = app.runs.record(run, &app.runs.all());
    let architecture = &run.settings.architecture;
    let sites = architecture.latent_size();
    let mut about = object!(record);
    about["config"] = object!(run.settings.to_toml()?);
    about["summary"] = object!(summary(&run.path));
    about["snapshots"] = object!(list_snapshots(&run.path)?);
    about["grid"] = object!(run.settings.extraction.grid);
    about["iso"] = object!(run.settings.extraction.iso);
    about["latent_shape"] = object!([6, sites, sites, architecture.latent_channels]);
    about["patch"] = object!(architecture.patch);
    about["reach"] = object!(edit::reach(architecture));
    about["transform"] = object!(app.given(run, 0).ok().map(|given| given.transform));
    Ok(about)
}

/// The columns of `metrics.csv` behind step `from`.
pub fn metrics_of(app: &App, run: &Run, from: u64) -> Answer<Map<String, Value>> {
    let path = run.path.join("metrics.csv");
    let known = lock(&app.logs).get(&path);
    let log = known.unwrap_or_else(|| Arc::new(Mutex::new(MetricsFollower::new(&path))));
    lock(&app.logs).put(path, log.clone());
    let mut log = lock(&log);
    Ok(thinned(log.update()?, from))
}

/// The columns of the rows behind step `from`, of which every so many is left, and the last one.
fn thinned(rows: &[LogRow], from: u64) -> Map<String, Value> {
    let rows = &rows[rows.partition_point(|row| row.step <= from)..];
    let every = rows.len().div_ceil(MOST_ROWS).max(1);
    let last = rows.len().saturating_sub(1);
    let kept = |at: &usize| (last - at).is_multiple_of(every);
    let kept: Vec<&LogRow> = (0..rows.len()).filter(kept).map(|at| &rows[at]).collect();
    let mut found: Map<String, Value> = columns().map(|name| (name.to_string(), object!([]))).collect();
    for row in kept {
        let all = std::iter::once(("step", object!(row.step)));
        for (name, value) in all.chain(values(row).map(|(name, value)| (name, object!(value)))) {
            if let Some(Value::Array(column)) = found.get_mut(name) {
                column.push(value);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_logs_are_thinned_and_keep_their_last_row() {
        let row = |step: u64| LogRow { step, seconds: step as f64, losses: Default::default() };
        let rows: Vec<LogRow> = (1..=10_001).map(row).collect();
        for from in [0, 1, 4000, 9999, 10_000] {
            let found = thinned(&rows, from);
            let steps: Vec<u64> = found["step"].as_array().unwrap().iter().flat_map(Value::as_u64).collect();
            assert!(steps.len() <= MOST_ROWS && steps.last() == Some(&10_001), "{from}");
            assert!(steps[0] > from && steps.is_sorted());
            assert_eq!(found["seconds"].as_array().unwrap().len(), steps.len());
        }
        assert!(thinned(&rows, 10_001)["step"].as_array().unwrap().is_empty());
        assert!(thinned(&[], 0)["loss"].as_array().unwrap().is_empty());
    }
}
