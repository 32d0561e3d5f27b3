//! Sets: the planes, points and meshes of thousands of files in one folder, made once, read in place.
//!
//! A set is a folder of `manifest.json` (what it is made of), `journal.jsonl` (a line a mesh) and `shards/*.bin` (their
//! bytes), which are only appended to; docs/datasets.md has the format. Reading order: `record` (the bytes of a mesh),
//! `manifest` and `journal` (what there is), `set` (reading), `source` (what meshes come from), `build` (writing), `split`.

mod build;
mod journal;
mod made;
mod manifest;
mod points;
mod record;
mod set;
mod settings;
mod source;
mod split;

pub use build::{Build, Progress, Report};
pub use journal::{Entry, Origin, Place};
pub use manifest::Manifest;
pub use points::DistancePoints;
pub use record::{Record, RecordView};
pub use set::{Set, SetMesh};
pub use settings::SetSettings;
pub use source::{Source, heads, in_folders};
pub use split::{Shares, Split, split_of};

/// What helps where a set is broken.
const REBUILD: &str = "remove the set and build it again";
