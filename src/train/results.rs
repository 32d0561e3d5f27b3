//! What a run leaves behind: decoded planes, meshes, metrics beside their baselines, the summary
//! and the page.

use super::evaluate::{Decoder, Encoder, highest_of_planes, input_mesh, linear_planes, mesh_of_planes};
use super::{Item, MetricsLog, Options, Settings, SharedTimes};
use crate::console;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::hexplane::field::no_surface;
use crate::hexplane::{Planes, files, picture};
use crate::memory;
use crate::mesh::metrics::{Metrics, Reference};
use crate::mesh::normalise::denormalise;
use crate::mesh::{Mesh, io};
use crate::model::{Autoencoder, LinearCode, PosteriorStatistics, PriorKind};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// One mesh in its three reconstructions, in the normalised frame.
struct Result3 {
    input: Mesh,
    decoded: Planes,
    mesh: Mesh,
    linear: Mesh,
    ceiling: Mesh,
    /// In that order.
    metrics: [Metrics; 3],
    /// The highest occupancy, of those that are empty.
    highest: [Option<f32>; 3],
}

/// Decodes every mesh with a network after so many steps, measures it and fills the run folder. The first mesh
/// gets the files that docs/method.md names; each further one a folder under `meshes/`.
pub fn write(
    (mut model, steps): (Autoencoder, u64),
    mut judged: Judged,
    code: &LinearCode,
    settings: &Settings,
    options: &Options,
    log: &MetricsLog,
) -> Result<()> {
    let out = &options.out;
    let mut halves = Halves::new(&mut model)?;
    let on = (settings, &options.device);
    let mut per_mesh = Vec::new();
    for (index, &item) in judged.trained.iter().enumerate() {
        let result = reconstruct(&model, &mut halves, item, code, on)?;
        per_mesh.push(row(item, &result, settings));
        if index == 0 {
            write_files(out, item, &result, settings, options.quiet)?;
        } else {
            let folder = out.join("meshes").join(safe_name(&item.name, index));
            std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, &error))?;
            write_files(&folder, item, &result, settings, options.quiet)?;
        }
    }
    let mut summary = summary((&model, steps), settings, options, log, per_mesh)?;
    if let Some(statistics) = posterior(&model, &mut halves, &judged.trained)? {
        // From the standard prior, which a learned one is not.
        if settings.latent.prior == PriorKind::Standard {
            summary["latent"]["kl"] = json!(statistics.rate());
        }
        // One mesh says nothing about which dimensions tell meshes apart.
        let several = judged.trained.len() > 1;
        summary["latent"]["active_units"] = json!(several.then(|| statistics.active_units()));
    }
    if let Some(rate) = rate(&model, &mut halves, &judged.trained)? {
        summary["latent"]["rate"] = rate;
    }
    if !judged.held_out.is_empty() {
        let mut rows = Vec::new();
        for &item in &judged.held_out {
            rows.push(row(item, &reconstruct(&model, &mut halves, item, code, on)?, settings));
        }
        summary["held_out"] = json!({ "mean": means(&rows), "meshes": rows });
    }
    if let Some(seconds) = judged.input_seconds {
        summary["input_seconds"] = json!(seconds);
    }
    if let Some((ranks, times)) = judged.shared {
        summary["ranks"] = shared(ranks, &times);
        say_shared(&summary["ranks"], options.quiet);
    }
    // The best weights where there are any: what a part of a set says is to be said of them.
    if let Some((best, step)) = &mut judged.best {
        summary["best_step"] = json!(step);
        halves = Halves::new(best)?;
        model = std::mem::replace(best, model);
    }
    for (name, items) in judged.parts.iter().filter(|(_, items)| !items.is_empty()) {
        let mut rows = Vec::new();
        for &item in items {
            rows.push(row(item, &reconstruct(&model, &mut halves, item, code, on)?, settings));
        }
        summary[name] = json!({ "mean": means(&rows), "meshes": rows });
    }
    let text = serde_json::to_string_pretty(&summary)
        .map_err(|error| Error::new("summary", error, "report this"))?;
    write_atomic(&out.join("summary.json"), |file| writeln!(file, "{text}"))?;
    announce(&summary, options.quiet)
}

/// Bits of the latents of meshes that are rounded to the learned steps, under the learned prior; of runs that are trained for them.
fn rate(model: &Autoencoder, halves: &mut Halves, items: &[&Item]) -> Result<Option<Value>> {
    let Some(prior) = model.factorised_prior()? else { return Ok(None) };
    let mut bits = 0.0;
    for item in items {
        bits += prior.bits(&halves.encoder.encode(model, &item.planes()?)?) / items.len() as f64;
    }
    let floats = model.architecture.latent_floats();
    Ok(Some(
        json!({ "weight": model.latent.rate_weight, "bits": bits, "bits_per_entry": bits / floats as f64 }),
    ))
}

/// The posteriors of a Gaussian latent over meshes.
fn posterior(
    model: &Autoencoder,
    halves: &mut Halves,
    items: &[&Item],
) -> Result<Option<PosteriorStatistics>> {
    let mut posteriors = Vec::new();
    for item in items {
        posteriors.extend(halves.encoder.posterior(model, &item.planes()?)?);
    }
    Ok((!posteriors.is_empty()).then(|| PosteriorStatistics::new(&posteriors)))
}

/// The meshes that are decoded and measured.
pub struct Judged<'a> {
    pub trained: Vec<&'a Item>,
    /// Not trained on; only their metrics are kept, as of what follows.
    pub held_out: Vec<&'a Item>,
    /// Parts of sets with their names in the summary.
    pub parts: [(&'static str, Vec<&'a Item>); 2],
    /// The network of the best look at the validation part, and its step.
    pub best: Option<(Autoencoder, u64)>,
    /// What reading the meshes took of the steps, where that was measured.
    pub input_seconds: Option<f64>,
    /// How many ranks trained together, and what they sent each other.
    pub shared: Option<(usize, SharedTimes)>,
}

/// The three reconstructions of a mesh.
const COLUMNS: [&str; 3] = ["mesh", "linear", "ceiling"];

/// Parts of sets that are not trained on.
pub const PARTS: [&str; 2] = ["validation", "test"];

/// What is kept of a mesh; `no_surface` holds those of the reconstructions that are empty.
fn row(item: &Item, result: &Result3, settings: &Settings) -> Value {
    let [mesh, linear, ceiling] = &result.metrics;
    let mut row = json!({ "name": item.name, "mesh": mesh, "linear": linear, "ceiling": ceiling });
    for (name, highest) in COLUMNS.iter().zip(result.highest) {
        if let Some(highest) = highest {
            row["no_surface"][name] = json!({ "iso": settings.extraction.iso, "highest_occupancy": highest });
        }
    }
    row
}

/// Encoder and decoder of the trained network with their memory.
struct Halves {
    encoder: Encoder,
    decoder: Decoder,
}

impl Halves {
    fn new(model: &mut Autoencoder) -> Result<Self> {
        Ok(Self { encoder: Encoder::new(model)?, decoder: Decoder::new(model)? })
    }
}

fn reconstruct(
    model: &Autoencoder,
    halves: &mut Halves,
    item: &Item,
    code: &LinearCode,
    (settings, device): (&Settings, &Device),
) -> Result<Result3> {
    let planes = item.planes()?;
    let latent = halves.encoder.encode(model, &planes)?;
    let decoded = halves.decoder.decode(model, &latent, planes.transform)?;
    let linear = linear_planes(&settings.architecture, code, &planes)?;
    let surface = |planes: &Planes| -> Result<(Mesh, Option<f32>)> {
        let mesh = mesh_of_planes(device, planes, settings)?;
        let empty = mesh.triangles.is_empty();
        Ok((mesh, if empty { Some(highest_of_planes(planes, settings)?) } else { None }))
    };
    let ((mesh, a), (linear, b), (ceiling, c)) = (surface(&decoded)?, surface(&linear)?, surface(&planes)?);
    let input = input_mesh(item, device, settings)?.into_owned();
    let reference = Reference::on(device, &input, &settings.metrics)?;
    let metrics = [reference.compare(&mesh)?, reference.compare(&linear)?, reference.compare(&ceiling)?];
    Ok(Result3 { input, decoded, mesh, linear, ceiling, metrics, highest: [a, b, c] })
}

/// An empty mesh is said, and has no file.
fn write_files(folder: &Path, item: &Item, result: &Result3, settings: &Settings, quiet: bool) -> Result<()> {
    let transform = item.transform()?;
    let own = |mesh: &Mesh| denormalise(mesh, &transform);
    files::write(&folder.join("decoded.safetensors"), &result.decoded, files::Precision::F32)?;
    let sheet = picture::contact_sheet(&[("input", &item.planes()?), ("decoded", &result.decoded)]);
    picture::write_png(&folder.join("planes.png"), &sheet)?;
    io::write(&folder.join("input.ply"), &own(&result.input))?;
    let meshes = [&result.mesh, &result.linear, &result.ceiling];
    for ((name, mesh), highest) in COLUMNS.iter().zip(meshes).zip(result.highest) {
        let endings: &[&str] = if *name == "mesh" { &["ply", "glb"] } else { &["ply"] };
        let files = endings.iter().map(|ending| folder.join(format!("{name}.{ending}")));
        if let Some(highest) = highest {
            // One of an earlier end of this run would be taken for this one's.
            files
                .filter(|file| file.exists())
                .try_for_each(|file| std::fs::remove_file(&file).map_err(|error| Error::io(&file, &error)))?;
            if !quiet {
                let found = no_surface(settings.extraction.iso, highest);
                console::note(format_args!("{}: {name}: {found}", item.name));
            }
            continue;
        }
        let mesh = own(mesh);
        files.into_iter().try_for_each(|file| io::write(&file, &mesh))?;
    }
    Ok(())
}

fn summary(
    (model, steps): (&Autoencoder, u64),
    settings: &Settings,
    options: &Options,
    log: &MetricsLog,
    per_mesh: Vec<Value>,
) -> Result<Value> {
    let architecture = &model.architecture;
    let floats = architecture.latent_floats();
    let seconds = log.rows.last().map_or(0.0, |row| row.seconds);
    let mut summary = json!({
        "name": per_mesh[0]["name"],
        "version": env!("CARGO_PKG_VERSION"),
        "device": options.device.to_string(),
        "preset": settings.preset,
        "seed": settings.seed,
        "representation": settings.representation,
        "planes": architecture.planes,
        "parameters": model.parameter_count(),
        "latent": {
            "kind": settings.latent.kind,
            "shape": [6, architecture.latent_size(), architecture.latent_size(), architecture.latent_channels],
            "floats": floats,
            "bytes": 4 * floats,
        },
        "steps": steps,
        "seconds": seconds,
        "seconds_per_step": seconds / steps.max(1) as f64,
        "peak_memory_bytes": memory::peak(),
        "mesh": per_mesh[0]["mesh"],
        "linear": per_mesh[0]["linear"],
        "ceiling": per_mesh[0]["ceiling"],
        "config": serde_json::to_value(settings).map_err(|error| Error::new("summary", error, "report this"))?,
    });
    if !per_mesh[0]["no_surface"].is_null() {
        summary["no_surface"] = per_mesh[0]["no_surface"].clone();
    }
    if per_mesh.len() > 1 {
        summary["mean"] = means(&per_mesh);
        summary["meshes"] = Value::Array(per_mesh);
    }
    Ok(summary)
}

/// Mean F-score at each threshold over the meshes, for network, linear code and ceiling.
fn means(per_mesh: &[Value]) -> Value {
    let of = |which: &str| {
        let thresholds = per_mesh[0][which]["scores"].as_array().cloned().unwrap_or_default();
        let mean = |k: usize| {
            let sum: f64 = per_mesh.iter().filter_map(|m| m[which]["scores"][k]["f_score"].as_f64()).sum();
            json!({ "threshold": thresholds[k]["threshold"], "f_score": sum / per_mesh.len() as f64 })
        };
        Value::Array((0..thresholds.len()).map(mean).collect())
    };
    json!({ "mesh": of("mesh"), "linear": of("linear"), "ceiling": of("ceiling") })
}

/// What several ranks sent each other, a step.
fn shared(ranks: usize, times: &SharedTimes) -> Value {
    let milliseconds = |time: Duration| 1e3 * time.as_secs_f64() / times.steps.max(1) as f64;
    let (in_flight, waited) = (milliseconds(times.in_flight), milliseconds(times.waited));
    json!({
        "count": ranks,
        "reduced_bytes": times.bytes,
        "buckets": times.buckets,
        "in_flight_milliseconds": in_flight,
        "waited_milliseconds": waited,
        "hidden": if in_flight > 0.0 { 1.0 - waited / in_flight } else { 0.0 },
    })
}

fn say_shared(shared: &Value, quiet: bool) {
    if quiet {
        return;
    }
    let number = |key: &str| shared[key].as_f64().unwrap_or_default();
    console::note(format_args!(
        "{} ranks: {:.1} MB of gradients a step in {} buckets, {:.1} ms under way, of which {:.0} % beside backward",
        shared["count"],
        number("reduced_bytes") / 1e6,
        shared["buckets"],
        number("in_flight_milliseconds"),
        100.0 * number("hidden"),
    ));
}

/// The figures that matter, on standard output.
fn announce(summary: &Value, quiet: bool) -> Result<()> {
    if quiet {
        return Ok(());
    }
    console::result(format_args!("{:<32}{:>12}{:>12}{:>12}", "", "network", "linear code", "ceiling"))?;
    if summary["mean"].is_object() {
        print_scores("mean ", &["mesh", "linear", "ceiling"].map(|column| &summary["mean"][column]))?;
    } else {
        let columns = ["mesh", "linear", "ceiling"].map(|column| &summary[column]);
        print_scores("", &columns.map(|column| &column["scores"]))?;
        print_row("normal consistency", columns.map(|column| column["normal_consistency"].as_f64()))?;
        print_row("volume IoU", columns.map(|column| column["volume_iou"].as_f64()))?;
    }
    if let Some(bits) = summary["latent"]["rate"]["bits"].as_f64() {
        console::result(format_args!(
            "{:<32}{bits:>12.0} bits under the learned prior",
            "latent, mean of a mesh"
        ))?;
    }
    if summary["held_out"].is_object() {
        let columns = ["mesh", "linear", "ceiling"].map(|column| &summary["held_out"]["mean"][column]);
        print_scores("held-out mean ", &columns)?;
    }
    for part in PARTS.into_iter().filter(|part| summary[part].is_object()) {
        let columns = COLUMNS.map(|column| &summary[part]["mean"][column]);
        print_scores(&format!("{part} mean "), &columns)?;
    }
    Ok(())
}

/// A line a threshold of three lists of scores.
fn print_scores(prefix: &str, columns: &[&Value; 3]) -> Result<()> {
    for k in 0..columns[0].as_array().map_or(0, Vec::len) {
        let threshold = columns[0][k]["threshold"].as_f64().unwrap_or_default();
        let values = columns.map(|column| column[k]["f_score"].as_f64());
        print_row(&format!("{prefix}F-score at {threshold:.3}"), values)?;
    }
    Ok(())
}

fn print_row(name: &str, values: [Option<f64>; 3]) -> Result<()> {
    let cell = |value: Option<f64>| value.map_or("n/a".to_string(), |value| format!("{value:.4}"));
    let [a, b, c] = values.map(cell);
    console::result(format_args!("{name:<32}{a:>12}{b:>12}{c:>12}"))
}

/// A folder name of a mesh's name that no other mesh has.
fn safe_name(name: &str, index: usize) -> String {
    let kept: String =
        name.chars().map(|c| if c.is_alphanumeric() || "-_".contains(c) { c } else { '_' }).collect();
    format!("{index:03}-{kept}")
}
