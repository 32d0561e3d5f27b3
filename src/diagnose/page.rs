//! The page of a diagnosis.
use super::grid::Grid;
use super::prediction::Prediction;
use super::run::RunResult;
use super::verdict::Verdict;
use crate::error::Result;
use std::path::Path;
pub fn write(
    _out: &Path,
    _grid: &Grid,
    _results: &[RunResult],
    _predictions: &[Prediction],
    _verdicts: &[Verdict],
) -> Result<()> {
    Ok(())
}
