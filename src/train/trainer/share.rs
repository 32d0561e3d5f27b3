//! A step that several ranks share: each takes its slots of the batch, and gradient and losses are means over all of them, so
//! that a step is that of one process with the same batch but for the order of its sums. Gradients are summed in buckets while
//! the rest of backward runs.
//!
//! Draws belong to the seed, the step and the slot in the whole batch, not to the rank. What is no mean over meshes is refused,
//! but for the perplexity, which follows from how often each code occurs on all ranks.

use super::{REPORTED, Recorded, Trainer};
#[cfg(feature = "nccl")]
use crate::cuda::{
    emulator,
    nccl::{self, Nccl},
};
use crate::device::Buffer;
use crate::error::{Error, Result};
use crate::model::{Autoencoder, LatentKind};
use crate::nn::{LossScale, Outcome};
use crate::ops::{Codes, Perplexity};
use crate::ranks::{Piece, Ranks};
use crate::tape::{Bucket, Scale, Tape, Value};
use crate::train::{LikelihoodKind, Settings};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

/// KiB of a bucket: large enough that its way and not its start takes the time, small enough that the last one, which nothing is
/// left to hide, is soon through.
const BUCKET: usize = 4096;
/// Another size; 0 for one bucket, which backward does not hide.
const BUCKET_KIB: &str = "HEXCUDA_BUCKET_KIB";

/// One rank's part in the steps.
pub(super) struct Share {
    pub ranks: Rc<Ranks>,
    /// Of the batch.
    pub slots: Range<usize>,
    buckets: Vec<Bucket>,
    /// The buckets, before the values of the first what a step reports with the counts of codes.
    pieces: Vec<Piece>,
    codes: Option<CodeCounts>,
    times: SharedTimes,
    #[cfg(feature = "nccl")]
    nccl: Option<Nccl>,
}

/// What ranks have sent each other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SharedTimes {
    pub steps: u64,
    /// Of the gradients of a step, and the buckets that they are in.
    pub bytes: usize,
    pub buckets: usize,
    /// Over all steps, from the begin of the first bucket's sum to the end of the last one's.
    pub in_flight: Duration,
    /// Of that, behind backward.
    pub waited: Duration,
}

/// How often the codes of a discrete latent occur.
struct CodeCounts {
    value: Value,
    law: Perplexity,
    levels: Vec<f32>,
    len: usize,
}

/// The slots of a batch that are this rank's.
///
/// # Errors
/// Wrong usage where the ranks do not divide the batch, and settings under which ranks do not add up to one process.
pub(super) fn slots(ranks: &Ranks, settings: &Settings, batch: usize) -> Result<Range<usize>> {
    let (rank, size) = (ranks.rank(), ranks.size());
    if size == 1 {
        return Ok(0..batch);
    }
    let refused = |problem: String, remedy: &str| Err(Error::usage("several ranks", problem, remedy));
    if !batch.is_multiple_of(size) {
        let problem = format!("a step of {batch} mesh(es) cannot be shared evenly by {size} ranks");
        return refused(problem, "take a --batch, and at least as many meshes, that the ranks divide");
    }
    let (count, latent) = (batch / size, &settings.latent);
    let no_mean = |what: &str, remedy: &str| {
        refused(format!("{what} depends on the whole batch at once, of which each rank sees a part"), remedy)
    };
    if settings.likelihood.kind == LikelihoodKind::Sigma {
        return no_mean("likelihood sigma", "take --likelihood mse or bernoulli, or one process");
    }
    if latent.kl_cap.is_some() {
        return no_mean("kl_cap", "leave --kl-cap out, or take one process");
    }
    if latent.free_bits > 0.0 {
        return no_mean("free_bits", "take --free-bits 0, or one process");
    }
    let sites = settings.architecture.latent_floats() / settings.architecture.latent_channels;
    let noise = match latent.kind {
        LatentKind::Deterministic if !latent.has_rate() => 0,
        LatentKind::Fsq => 0,
        LatentKind::Deterministic | LatentKind::Gaussian => settings.architecture.latent_floats(),
        LatentKind::Categorical => sites * latent.groups * latent.classes,
    };
    // Philox draws four at a time.
    if !(count * noise).is_multiple_of(4) {
        let problem =
            format!("{count} mesh(es) a rank draw {} random numbers, no multiple of 4", count * noise);
        return refused(problem, "take an even number of latent_channels, or another --batch");
    }
    Ok(rank * count..(rank + 1) * count)
}

impl Share {
    pub fn new(
        ranks: &Rc<Ranks>,
        slots: Range<usize>,
        tape: &Tape,
        recorded: &Recorded,
        (settings, model): (&Settings, &Autoencoder),
    ) -> Result<Self> {
        let mut share = Self {
            ranks: ranks.clone(),
            slots,
            buckets: Vec::new(),
            pieces: Vec::new(),
            codes: None,
            times: SharedTimes::default(),
            #[cfg(feature = "nccl")]
            nccl: None,
        };
        if ranks.is_alone() {
            return Ok(share);
        }
        let least = match std::env::var(BUCKET_KIB) {
            Err(_) => BUCKET,
            Ok(text) => text.parse().map_err(|_| {
                Error::usage(BUCKET_KIB, format!("{text} is no number of KiB"), "unset it, or set a number")
            })?,
        };
        let least = if least == 0 { usize::MAX } else { least * 1024 / size_of::<f32>() };
        share.buckets = tape.plan().buckets(model.layout.len(), least);
        share.codes = recorded.latent.codes().map(|value| CodeCounts::new(value, settings, model));
        let report = REPORTED + share.codes.as_ref().map_or(0, |codes| codes.len);
        let lengths = share.buckets.iter().map(|bucket| bucket.range.len());
        share.pieces = lengths.enumerate().map(|(k, len)| Piece::new(len + head(k, report))).collect();
        share.times.bytes = model.layout.len() * size_of::<f32>();
        share.times.buckets = share.buckets.len();
        Ok(share)
    }

    /// The draw of `step` that has this rank's part of the noise of the whole batch: parts lie one behind the other.
    pub fn draw(&self, step: u64) -> u64 {
        step * self.ranks.size() as u64 + self.ranks.rank() as u64
    }
}

/// Of the piece of bucket `k`, what lies before its gradients, where a report has so many values.
fn head(k: usize, report: usize) -> usize {
    if k == 0 { report } else { 0 }
}

impl CodeCounts {
    fn new(value: Value, settings: &Settings, model: &Autoencoder) -> Self {
        let latent = &settings.latent;
        if latent.kind == LatentKind::Categorical {
            let law = Perplexity { codes: Codes::OneHot { classes: latent.classes } };
            return Self { value, law, levels: Vec::new(), len: latent.groups * latent.classes };
        }
        let levels: Vec<f32> = model.levels().map(|levels| levels as f32).collect();
        let most = latent.most_levels();
        let len = levels.len() * most;
        Self { value, law: Perplexity { codes: Codes::Levels { most } }, levels, len }
    }
}

impl Trainer {
    /// What ranks have sent each other so far; `None` where there is one.
    pub fn shared_times(&self) -> Option<SharedTimes> {
        (!self.share.ranks.is_alone()).then_some(self.share.times)
    }

    /// Gives all ranks the network, the optimiser and the step of the first.
    ///
    /// # Errors
    /// Those of the device.
    pub fn spread(&mut self) -> Result<()> {
        let ranks = self.share.ranks.clone();
        if ranks.is_alone() {
            return Ok(());
        }
        for block in [&mut self.model.parameters, &mut self.adam.first, &mut self.adam.second] {
            let mut values = block.values()?.into_owned();
            ranks.spread(&mut values);
            block.load(0, &values)?;
        }
        #[cfg(feature = "nccl")]
        self.join_cards()?;
        let Outcome { updates, scale, .. } = self.adam.outcome();
        let words = [self.step, updates, scale.factor.to_bits(), scale.steady];
        let [step, updates, factor, steady] = ranks.spread_words(words);
        self.step = step;
        self.adam.restore(updates, Some(LossScale { factor: f64::from_bits(factor), steady }))
    }

    /// Requires that all ranks have the same weights, to the bit.
    ///
    /// # Errors
    /// The first rank that has others.
    pub fn require_alike(&self) -> Result<()> {
        if self.share.ranks.is_alone() {
            return Ok(());
        }
        let checksum = crc32fast::hash(bytemuck::cast_slice(&self.model.parameters.values()?));
        let what = format!("its weights after step {}", self.step);
        let remedy = "resume from the last checkpoint, with ranks on processors or cards of one kind";
        self.share.ranks.require_same(checksum.into(), &what, remedy)
    }

    /// Runs backward of what lies in the tape; gradients and what the step reports are means over all ranks then. On one rank alone
    /// a loss that is not finite has no backward.
    pub(super) fn backward(&mut self, scale: Scale) -> Result<[f32; REPORTED]> {
        #[cfg(feature = "nccl")]
        if self.share.nccl.is_some() {
            return self.backward_on_cards(scale);
        }
        let mut reported = [0.0; REPORTED];
        for (slot, value) in reported.iter_mut().zip(self.recorded.reported()) {
            *slot = self.tape.value(value)?[0];
        }
        if !self.share.ranks.is_alone() {
            return self.backward_shared(reported, scale);
        }
        if reported[0].is_finite() {
            self.tape.backward(&self.model.parameters, &mut self.gradients, scale)?;
        }
        Ok(reported)
    }

    fn backward_shared(&mut self, reported: [f32; REPORTED], scale: Scale) -> Result<[f32; REPORTED]> {
        let Self {
            tape, model, gradients, share: Share { ranks, buckets, pieces, codes, times, .. }, ..
        } = self;
        let mut report = reported.to_vec();
        let mut sites = 0;
        if let Some(codes) = codes {
            let mut counts = vec![0.0; codes.len];
            sites = codes.law.count(&tape.value(codes.value)?, &codes.levels, &mut counts);
            report.extend(counts);
        }
        let took = ranks.sum_beside(pieces, |sums| {
            let mut rest = buckets.iter().enumerate().peekable();
            tape.backward_with(&model.parameters, gradients, scale, &mut |node, gradients| {
                while let Some((k, bucket)) = rest.next_if(|(_, bucket)| node <= bucket.node) {
                    sums.begin(|given| {
                        let (before, values) = given.split_at_mut(head(k, report.len()));
                        before.copy_from_slice(&report[..before.len()]);
                        gradients.read(bucket.range.clone(), values)
                    })?;
                }
                sums.progress();
                Ok(())
            })
        })?;
        times.steps += 1;
        times.in_flight += took.in_flight;
        times.waited += took.waited;
        let mean = 1.0 / ranks.size() as f32;
        for (k, (bucket, piece)) in buckets.iter().zip(&mut *pieces).enumerate() {
            let sums = &mut piece.sum[head(k, report.len())..];
            sums.iter_mut().for_each(|sum| *sum *= mean);
            gradients.load(bucket.range.start, sums)?;
        }
        let (sums, counts) = pieces[0].sum[..report.len()].split_at(REPORTED);
        let mut means: [f32; REPORTED] = std::array::from_fn(|i| sums[i] * mean);
        if let Some(codes) = codes {
            means[REPORTED - 1] = codes.law.of_counts(counts, sites * ranks.size());
        }
        self.report_on_card(means)?;
        Ok(means)
    }

    /// Real cards send each other their gradients by NCCL, but for discrete latents, whose codes the host counts.
    #[cfg(feature = "nccl")]
    fn join_cards(&mut self) -> Result<()> {
        let ranks = self.share.ranks.clone();
        let Buffer::Cuda(queue, _) = &self.gradients else { return Ok(()) };
        if self.share.codes.is_some() || queue.context().card.name.starts_with(emulator::MARK) {
            return Ok(());
        }
        let here = if ranks.is_first() { nccl::new_job() } else { nccl::require().map(|()| Vec::new()) };
        let mut id = ranks.agree(here)?;
        ranks.spread_bytes(&mut id);
        self.share.nccl = Some(Nccl::join(queue, &id, ranks.rank(), ranks.size())?);
        Ok(())
    }

    /// Queues backward and the means over all cards; what the step reports stays on the card.
    #[cfg(feature = "nccl")]
    fn backward_on_cards(&mut self, scale: Scale) -> Result<[f32; REPORTED]> {
        let Self { tape, model, gradients, recorded, share: Share { buckets, nccl, times, .. }, .. } = self;
        let Some(nccl) = nccl else { return Ok([f32::NAN; REPORTED]) };
        let mut rest = buckets.iter().peekable();
        tape.backward_with(&model.parameters, gradients, scale, &mut |node, gradients| {
            let Buffer::Cuda(_, gradients) = gradients else { return Ok(()) };
            while let Some(bucket) = rest.next_if(|bucket| node <= bucket.node) {
                nccl.begin(gradients.write().part(bucket.range.clone()))?;
            }
            Ok(())
        })?;
        let mut met: Vec<Value> = Vec::new();
        for value in recorded.reported() {
            if let Some(place) = tape.on_card(value).filter(|_| !met.contains(&value)) {
                nccl.begin(place)?;
                met.push(value);
            }
        }
        times.steps += 1;
        nccl.finish()?;
        Ok([f32::NAN; REPORTED])
    }

    /// A card's optimiser and its letters read what a step reports where the tape has it.
    fn report_on_card(&self, means: [f32; REPORTED]) -> Result<()> {
        let Buffer::Cuda(queue, _) = &self.gradients else { return Ok(()) };
        for (value, mean) in self.recorded.reported().into_iter().zip(means) {
            let Some(place) = self.tape.on_card(value) else { continue };
            queue.upload(&[mean], place)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::model::{Bottleneck, PriorKind};
    use crate::rng::Rng;
    use crate::train::Preset;

    fn settings(latent: Bottleneck) -> Settings {
        let mut settings = Settings::preset(Preset::Quick);
        let a = &mut settings.architecture;
        (a.planes, a.patch, a.stem, a.latent_channels) = (32, 8, 4, 8);
        (a.widths, a.encoder_blocks, a.decoder_blocks) = (vec![8, 16], vec![1, 1], vec![1, 1]);
        settings.training.sdf_points = 16;
        settings.latent = latent;
        settings
    }

    /// Of networks of every kind, also where pseudo-inputs run through the encoder's weights a second time: what a bucket holds when
    /// backward comes to its node is what it holds in the end, every value lies in one bucket, and one node earlier some do not
    /// hold yet what they come to.
    #[test]
    fn buckets_hold_each_gradient_once_and_are_final_when_they_say_so() {
        let gaussian =
            |prior| Bottleneck { kind: LatentKind::Gaussian, prior, components: 2, ..Bottleneck::default() };
        for latent in [
            Bottleneck::default(),
            Bottleneck { kind: LatentKind::Categorical, classes: 4, groups: 2, ..Bottleneck::default() },
            gaussian(PriorKind::Mixture),
            gaussian(PriorKind::Vamp),
        ] {
            let settings = settings(latent);
            let mut trainer = Trainer::new(&Device::Cpu, &settings, 2, None).unwrap();
            let mut rng = Rng::new(1, 0);
            // Layers that start at zero would pass no gradient on.
            let len = trainer.model.parameters.len();
            trainer
                .model
                .parameters
                .load(0, &(0..len).map(|_| 0.1 * rng.normal()).collect::<Vec<_>>())
                .unwrap();
            let planes = trainer.recorded.halves.planes;
            let values: Vec<f32> = (0..trainer.tape.shape(planes).len()).map(|_| rng.normal()).collect();
            trainer.tape.load(planes, 0, &values).unwrap();
            for (input, values) in trainer.scalars(3) {
                trainer.tape.load(input, 0, &values).unwrap();
            }
            trainer.tape.forward(&trainer.model.parameters).unwrap();
            let buckets = trainer.tape.plan().buckets(len, 512);
            assert!(buckets.len() > 4, "{}", buckets.len());
            let Trainer { tape, model, gradients, .. } = &mut trainer;
            let poison = vec![f32::NAN; len];
            gradients.load(0, &poison).unwrap();
            let mut found: Vec<[Vec<f32>; 2]> = buckets.iter().map(|_| [Vec::new(), Vec::new()]).collect();
            tape.backward_with(&model.parameters, gradients, Scale::One, &mut |node, gradients| {
                for (bucket, [early, at]) in buckets.iter().zip(&mut found) {
                    if node == bucket.node {
                        *at = gradients.part(bucket.range.clone())?;
                    } else if node == bucket.node + 1 {
                        *early = gradients.part(bucket.range.clone())?;
                    }
                }
                Ok(())
            })
            .unwrap();
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            let mut early_too = 0;
            for (bucket, [early, at]) in buckets.iter().zip(&found) {
                let end = gradients.part(bucket.range.clone()).unwrap();
                assert!(bits(at) == bits(&end), "{bucket:?} changes after its node");
                early_too += usize::from(bits(early) == bits(&end));
            }
            assert!(early_too < buckets.len() / 2, "{early_too} of {} are final before", buckets.len());
            let mut ranges: Vec<Range<usize>> = buckets.iter().map(|bucket| bucket.range.clone()).collect();
            assert!(buckets.is_sorted_by_key(|bucket| std::cmp::Reverse(bucket.node)));
            ranges.sort_by_key(|range| range.start);
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (0, len));
        }
    }
}
