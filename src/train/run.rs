//! The loop: data, steps, checkpoints, progress, and a clean end when interrupted.

use super::augment::warped;
use super::checkpoint::load_network;
use super::prior::start_prior;
use super::rate::start_rate;
use super::sets::{Given, Parts};
use super::trainer::Wait;
use super::validation::{BEST, Validator, spread};
use super::{
    Checkpoint, Inputs, Item, LogRow, Losses, MetricsLog, Prepare, SetInput, Settings, Snapshots, Trainer,
    results,
};
use crate::console;
use crate::cpu::mapped::BlockFile;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::mesh::Mesh;
use crate::model::{Autoencoder, LinearCode, PlanesOf, PriorKind};
use crate::ranks::Ranks;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Seconds between two lines of progress where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What a run is asked to do beside its settings.
pub struct Options<'a> {
    /// The run folder.
    pub out: PathBuf,
    /// Meshes that are not trained on, only judged.
    pub held_out: Vec<(String, Mesh)>,
    /// Go on from the checkpoint in `out`.
    pub resume: bool,
    /// Stop after this long, with results; the schedule is still that of all steps.
    pub time: Option<Duration>,
    pub quiet: bool,
    /// Write TensorBoard's event file beside `metrics.csv`.
    pub tensorboard: bool,
    /// What computes.
    pub device: Device,
    /// Set by Ctrl-C: the loop ends after the current step, with a checkpoint.
    pub interrupt: &'a AtomicBool,
}

/// Meshes of sets that the linear code is fitted to: some thousand patches more than it takes.
const FITTED: usize = 64;
/// Meshes of sets that a run trains on and has files of.
const SHOWN: usize = 4;
/// Steps after which the memory of sets is given back.
const RELEASE_EVERY: u64 = 64;

/// Trains on `meshes` (name, mesh in its own frame) and fills the run folder.
pub fn train(settings: &Settings, meshes: &[(String, Mesh)], options: &Options) -> Result<()> {
    train_on(settings, &Given { meshes, ..Given::default() }, options)
}

/// Trains on what is given and fills the run folder.
///
/// # Errors
/// Input, settings or a run folder that cannot be used, a loss that leaves the finite numbers, an interrupt.
pub fn train_on(settings: &Settings, given: &Given, options: &Options) -> Result<()> {
    train_among(&Rc::new(Ranks::alone()), settings, given, options)
}

/// The same as one of the ranks that train together, all of which are given the same; the first alone writes.
///
/// # Errors
/// As [`train_on`]. Where one rank alone has an error in the course of a step, the others wait for it until it ends the job.
pub fn train_among(ranks: &Rc<Ranks>, settings: &Settings, given: &Given, options: &Options) -> Result<()> {
    let out = &options.out;
    let Begun { parts, items, code, mut trainer } = ranks.agree(begin(ranks, settings, given, options))?;
    let remedy = "give all ranks the same command and the same files";
    ranks.require_same(fingerprint(settings, &items, &parts.inputs)?, "its settings or inputs", remedy)?;
    trainer.spread()?;
    let of_sets = given.meshes.len() * (1 + settings.training.augment);
    let mut shown: Vec<&Item> = items[..given.meshes.len()].iter().collect();
    shown.extend(items[of_sets..].iter().take(SHOWN));
    let open = || Records::open(&trainer, settings, options, &shown, &parts);
    let mut records = ranks.agree(ranks.is_first().then(open).transpose())?;
    let release = || given.sets.iter().chain(given.held_out_sets).for_each(|set| set.release());
    steps(&mut trainer, &items, (ranks, settings, options), &mut records, &release)?;
    let (Some(records), Some(code)) = (records, code) else { return Ok(()) };
    let prepare = Prepare { settings, device: &options.device };
    let mut held_out = prepare_all(&prepare, &options.held_out, 0, out)?;
    held_out.extend(given.held_out(settings)?);
    let best = match records.validator.best() {
        None => None,
        Some(row) => {
            let (network, _) = load_network(&out.join(BEST))?;
            Some((network.on(&options.device)?, row.step))
        }
    };
    let most = settings.validation.at_end;
    let Parts { validation, test, .. } = &parts;
    let [first, second] = results::PARTS;
    let judged = results::Judged {
        trained: shown,
        held_out: held_out.iter().collect(),
        parts: [(first, spread(validation, most)), (second, spread(test, most))],
        best,
        input_seconds: (!given.sets.is_empty()).then(|| trainer.input_time().as_secs_f64()),
        shared: trainer.shared_times().map(|times| (ranks.size(), times)),
    };
    results::write(trainer.into_model(), judged, &code, settings, options, &records.watch.log)
}

/// What is there before the first step.
struct Begun {
    parts: Parts,
    items: Vec<Item>,
    /// On the first rank.
    code: Option<LinearCode>,
    trainer: Trainer,
}

fn begin(ranks: &Rc<Ranks>, settings: &Settings, given: &Given, options: &Options) -> Result<Begun> {
    settings.validate()?;
    let out = &options.out;
    let checkpoint = out.join("checkpoint.safetensors");
    if checkpoint.exists() && !options.resume {
        let remedy = "add --resume to go on with it or name another folder with --out";
        return Err(Error::new(checkpoint.display(), "this folder holds a run", remedy));
    }
    if options.resume {
        same_run(&checkpoint, &Checkpoint::read(&checkpoint)?.settings, settings)?;
    }
    let (meshes, mut parts) = (given.meshes, given.parts(settings)?);
    if options.resume {
        Inputs::require_same(out, &parts.inputs)?;
    }
    if meshes.is_empty() && parts.train.is_empty() {
        return Err(Error::usage("train", "there is nothing to train on", "name meshes or a set"));
    }
    let all = meshes.len() * (1 + settings.training.augment) + parts.train.len();
    Trainer::require_among(ranks, &options.device, settings, all)?;
    let prepare = Prepare { settings, device: &options.device };
    let mut items = prepare_all(&prepare, meshes, settings.training.augment, out)?;
    let of_sets = items.len();
    items.append(&mut parts.train);
    // The others are given what follows from it.
    let fit = || linear_code(settings, &items[..meshes.len()], &items[of_sets..]);
    let code = ranks.is_first().then(fit).transpose()?;
    let mut trainer = Trainer::among(ranks, &options.device, settings, items.len(), code.as_ref())?;
    if ranks.is_first() {
        if options.resume {
            Checkpoint::restore(&checkpoint, &mut trainer)?;
        } else {
            start_prior(&mut trainer.model, &items, settings.seed)?;
            start_rate(&mut trainer.model, &items, settings)?;
            warn_of_few_inputs(settings, items.len(), options.quiet);
        }
    }
    Ok(Begun { parts, items, code, trainer })
}

/// Of what all ranks must have alike.
fn fingerprint(settings: &Settings, items: &[Item], sets: &[SetInput]) -> Result<u64> {
    let mut hash = crc32fast::Hasher::new();
    let names = items.iter().map(|item| item.name.as_str()).chain(sets.iter().map(|set| set.sha256.as_str()));
    for text in std::iter::once(settings.to_toml()?.as_str()).chain(names) {
        hash.update(text.as_bytes());
        hash.update(b"\n");
    }
    Ok(hash.finalize().into())
}

/// Of meshes, and of some of those of sets. Warped copies would cost the components that the meshes themselves need.
fn linear_code(settings: &Settings, meshes: &[Item], of_sets: &[Item]) -> Result<LinearCode> {
    let fitted: Vec<&Item> = meshes.iter().chain(spread(of_sets, FITTED)).collect();
    let planes = PlanesOf { count: fitted.len(), values: &|at| fitted[at].values() };
    LinearCode::fit(&settings.architecture, &planes)
}

/// A mesh that is far from every pseudo-input has a divergence of millions of nats, at which training does not converge.
fn warn_of_few_inputs(settings: &Settings, meshes: usize, quiet: bool) {
    let (latent, components) = (&settings.latent, settings.latent.components);
    if latent.prior == PriorKind::Vamp && components < meshes && !quiet {
        console::note(format_args!(
            "hexcuda: {components} pseudo-inputs for {meshes} meshes: take --components {meshes} if the KL divergence grows"
        ));
    }
}

/// Planes and distances of all meshes, made in parallel, in order; behind them those of `copies`
/// warped copies of each. The planes lie on the volume of `out`, which need not exist yet.
pub fn prepare_all(
    prepare: &Prepare,
    meshes: &[(String, Mesh)],
    copies: usize,
    out: &Path,
) -> Result<Vec<Item>> {
    let count = meshes.len() * (1 + copies);
    if count == 0 {
        return Ok(Vec::new());
    }
    let present = out.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let len = Autoencoder::without_values(prepare.settings.architecture.clone())?.planes_shape(1).len();
    let file = BlockFile::new(present, count, len)?;
    let make = |at: usize| {
        let (name, mesh) = &meshes[at % meshes.len()];
        match at / meshes.len() {
            0 => prepare.item(name, mesh, &file, at),
            copy => {
                let mesh = warped(mesh, prepare.settings.seed, name, copy);
                prepare.item(name, &mesh, &file, at)
            }
        }
    };
    (0..count).into_par_iter().map(make).collect()
}

/// A run goes on only with what shapes its steps unchanged; the number of steps may grow.
fn same_run(path: &Path, found: &Settings, wanted: &Settings) -> Result<()> {
    let mut found = found.clone();
    found.training.steps = wanted.training.steps;
    found.training.checkpoint_every = wanted.training.checkpoint_every;
    found.training.cached_meshes = wanted.training.cached_meshes;
    found.training.snapshots = wanted.training.snapshots;
    found.validation.at_end = wanted.validation.at_end;
    found.extraction = wanted.extraction.clone();
    found.metrics = wanted.metrics.clone();
    if found == *wanted {
        return Ok(());
    }
    let problem = difference("", &found.to_table()?, &wanted.to_table()?)
        .map_or("its settings differ".to_string(), |(a, b)| {
            format!("it was made with `{a}`, this run has `{b}`")
        });
    Err(Error::new(path.display(), problem, "use the settings in config.toml beside it, or another --out"))
}

/// The first setting that differs, as both have it; those of the whole run before those of a part.
fn difference(prefix: &str, theirs: &toml::Table, ours: &toml::Table) -> Option<(String, String)> {
    let plain = |key: &String| {
        let (a, b) = (&theirs[key], ours.get(key)?);
        (!a.is_table() && a != b).then(|| (format!("{prefix}{key} = {a}"), format!("{prefix}{key} = {b}")))
    };
    let inside = |key: &String| {
        let (a, b) = (theirs[key].as_table()?, ours.get(key)?.as_table()?);
        difference(&format!("{prefix}{key}."), a, b)
    };
    theirs.keys().find_map(plain).or_else(|| theirs.keys().find_map(inside))
}

/// What the first rank writes on the way.
struct Records<'a> {
    checkpoint: PathBuf,
    watch: Watch,
    validator: Validator<'a>,
    snapshots: Snapshots,
}

impl<'a> Records<'a> {
    /// Not before all of the input has proved good: a refusal leaves nothing behind.
    fn open(
        trainer: &Trainer,
        settings: &'a Settings,
        options: &'a Options,
        shown: &[&Item],
        parts: &'a Parts,
    ) -> Result<Self> {
        let out = &options.out;
        std::fs::create_dir_all(out).map_err(|error| Error::io(out, &error))?;
        let config = settings.to_toml()?;
        write_atomic(&out.join("config.toml"), |file| file.write_all(config.as_bytes()))?;
        Inputs::write(out, shown, &parts.inputs, (settings, &options.device))?;
        let mut log = MetricsLog::open(&out.join("metrics.csv"), trainer.step)?;
        if options.tensorboard {
            log = log.with_tensorboard()?;
        }
        let validator = Validator::open(out, trainer.step, (settings, &options.device), &parts.validation)?;
        Ok(Self {
            checkpoint: out.join("checkpoint.safetensors"),
            snapshots: Snapshots::new(out, settings)?,
            watch: Watch::new(trainer.step, settings.training.steps, options.quiet, log),
            validator,
        })
    }

    /// What a step leaves behind, and whether it was the last.
    fn note(
        &mut self,
        trainer: &mut Trainer,
        settings: &Settings,
        options: &Options,
        first: &Item,
    ) -> Result<bool> {
        let Self { checkpoint, watch, validator, snapshots } = self;
        snapshots.note(trainer, settings, first)?;
        if validator.is_due(trainer.step) {
            watch.look(trainer, validator)?;
            watch.save(checkpoint, trainer, settings)?;
        }
        let late = options.time.is_some_and(|limit| watch.started.elapsed() >= limit);
        Ok(late || validator.is_stalled())
    }

    fn save(&mut self, trainer: &mut Trainer, settings: &Settings) -> Result<()> {
        self.watch.save(&self.checkpoint, trainer, settings)
    }
}

fn steps(
    trainer: &mut Trainer,
    items: &[Item],
    (ranks, settings, options): (&Ranks, &Settings, &Options),
    records: &mut Option<Records>,
    release: &dyn Fn(),
) -> Result<()> {
    let total = settings.training.steps;
    // A run that has stalled does not go on.
    let stalled = records.as_ref().is_some_and(|records| records.validator.is_stalled());
    let [mut interrupted, mut ended] = ranks.any([false, stalled]);
    while trainer.step < total && !interrupted && !ended {
        let made = trainer.step(items).and_then(|()| known(trainer, records, Wait::Behind));
        if let Err(error) = made {
            // The weights are those of the last good step: worth keeping, where the device still gives them.
            let noted = known(trainer, records, Wait::All);
            if let Some(records) = records {
                records.watch.log.flush()?;
                let _ = noted.and_then(|()| Checkpoint::write(&records.checkpoint, trainer, settings));
            }
            return Err(error);
        }
        let last = match records {
            Some(records) => records.note(trainer, settings, options, &items[0])?,
            None => false,
        };
        if trainer.step.is_multiple_of(RELEASE_EVERY) {
            release();
        }
        [interrupted, ended] = ranks.any([options.interrupt.load(Ordering::SeqCst), last]);
        if trainer.step.is_multiple_of(settings.training.checkpoint_every) && trainer.step < total && !ended {
            save(trainer, records, settings)?;
        }
    }
    save(trainer, records, settings)?;
    records.iter().for_each(|records| records.watch.progress.finish());
    if interrupted {
        let problem = format!("interrupted after step {} of {total}", trainer.step);
        return Err(Error::interrupted(options.out.display(), problem, "add --resume to go on"));
    }
    Ok(())
}

/// The losses that are known meanwhile, for who has use for them.
fn known(trainer: &mut Trainer, records: &mut Option<Records>, wait: Wait) -> Result<()> {
    match records {
        Some(records) => records.watch.note(trainer, wait),
        None => {
            while trainer.done(wait)?.is_some() {}
            Ok(())
        }
    }
}

/// A checkpoint of weights that all ranks have.
fn save(trainer: &mut Trainer, records: &mut Option<Records>, settings: &Settings) -> Result<()> {
    known(trainer, records, Wait::All)?;
    trainer.require_alike()?;
    records.as_mut().map_or(Ok(()), |records| records.save(trainer, settings))
}

/// Log and progress of the steps whose losses are known.
struct Watch {
    log: MetricsLog,
    progress: Progress,
    started: Instant,
    /// Seconds that a resumed run had taken.
    before: f64,
}

impl Watch {
    fn new(step: u64, total: u64, quiet: bool, log: MetricsLog) -> Self {
        let before = log.rows.last().map_or(0.0, |row| row.seconds);
        Self { log, progress: Progress::new(step, total, quiet), started: Instant::now(), before }
    }

    fn note(&mut self, trainer: &mut Trainer, wait: Wait) -> Result<()> {
        while let Some((step, losses)) = trainer.done(wait)? {
            let seconds = self.before + self.started.elapsed().as_secs_f64();
            self.log.push(LogRow { step, seconds, losses })?;
            self.progress.step(step, &losses);
        }
        Ok(())
    }

    /// A look at the validation part, said where steps are.
    fn look(&mut self, trainer: &mut Trainer, validator: &mut Validator) -> Result<()> {
        self.note(trainer, Wait::All)?;
        let row = validator.look(trainer)?;
        if !self.progress.quiet {
            let best = validator.best().map_or(0, |best| best.step);
            console::note(format_args!(
                "step {}: validation F-score {:.4}, ceiling {:.4}; best so far: step {best}",
                row.step, row.score, row.ceiling
            ));
        }
        if validator.is_stalled() && !self.progress.quiet {
            console::note(format_args!(
                "no better look since step {}: the run ends",
                validator.best().map_or(0, |b| b.step)
            ));
        }
        Ok(())
    }

    fn save(&mut self, path: &Path, trainer: &mut Trainer, settings: &Settings) -> Result<()> {
        self.note(trainer, Wait::All)?;
        self.log.flush()?;
        Checkpoint::write(path, trainer, settings)
    }
}

/// A bar on a terminal, a line now and then elsewhere, nothing when quiet.
struct Progress {
    bar: Option<ProgressBar>,
    lines: bool,
    quiet: bool,
    total: u64,
    first: u64,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    fn new(step: u64, total: u64, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !quiet).then(|| {
            let bar = ProgressBar::new(total).with_position(step);
            let style = "training {wide_bar} {pos}/{len} steps  {msg}  {per_sec}  {eta} left";
            bar.set_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar
        });
        let now = Instant::now();
        Self { bar, lines: !terminal && !quiet, quiet, total, first: step, started: now, last_line: now }
    }

    fn step(&mut self, step: u64, losses: &Losses) {
        let mut loss = format!("loss {:.3e}", losses.total);
        if losses.rate_weight > 0.0 {
            loss += &format!(", {:.0} bits a mesh", losses.rate);
        }
        if let Some(bar) = &self.bar {
            bar.set_message(loss.clone());
            bar.set_position(step);
        }
        let due = step == self.first + 1 || step == self.total || self.last_line.elapsed() >= LINE_EVERY;
        if self.lines && due {
            self.last_line = Instant::now();
            let rate = (step - self.first) as f64 / self.started.elapsed().as_secs_f64();
            let left = (self.total - step) as f64 / rate;
            console::note(format_args!(
                "step {step}/{} {loss}, {rate:.2} steps/s, {left:.0} s left",
                self.total
            ));
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}
