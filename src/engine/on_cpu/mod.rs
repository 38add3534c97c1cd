//! A network on a CPU.
//!
//! What comes before the first dense layer is done image by image ([`images`]), so that its activations stay in a
//! core's caches whatever the batch: every step writes into the zeros that surround the next one's input.
//! From the first dense layer on, features are rows and images columns, and every layer is one product for many
//! images ([`batch`]). Where there are as many images as threads, the threads share out the images; else the
//! kernels share out their rows and columns.

mod batch;
mod build;
mod images;

use std::cell::RefCell;

use self::batch::BatchSteps;
use self::build::Builder;
use self::images::{ImageSteps, Workspace};
use super::autotune::{AutotuneCache, THREADS, TuningCandidate};
use super::libraries::DenseLibraries;
use super::plan::{Plan, Step, Work};
use super::profile::{Description, LayerProfile, profiled, summary};
use super::spinning_workers::SpinningWorkers;
use crate::error::Result;
use crate::kernels::{Aligned, runs_parallel, serial, threads, try_parallel_for_with};
use crate::network::Shape;
use crate::sparse::Format;
use crate::timing;

/// Runs of which the steps' times are medians.
const PROFILED_RUNS: usize = 15;

/// By how much the calling thread alone must be faster than all to be preferred, where there is work to share:
/// for some tenths of a second at a time, the cores of a virtual machine may be two threads of one core, and one
/// thread is the faster one by a sixth; all of them are otherwise, by a third (ConvNet, batch 1).
const HANDICAP: f64 = 1.2;

/// How a network uses threads. The fastest way is found out by running it: handing work to another
/// thread takes as long as a small network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Threading {
    /// On the calling thread.
    Serial,
    /// On a thread of the pool, while all others look for work: of several images, each takes some as far as the first
    /// dense layer; every step shares out its rows and columns.
    Parallel,
    /// As `Parallel`, but each thread takes its images through the dense layers, too.
    Shares,
}

impl Threading {
    /// Over all threads there are.
    fn widest() -> Self {
        if threads() == 1 { Self::Serial } else { Self::Parallel }
    }

    fn run<R: Send>(self, spinning: &SpinningWorkers, work: impl FnOnce() -> R + Send) -> R {
        match self {
            Self::Serial => serial(work),
            Self::Parallel | Self::Shares => spinning.during(work),
        }
    }

    /// Seconds of so many calls, one after the other.
    fn seconds(
        self,
        spinning: &SpinningWorkers,
        calls: u32,
        call: impl FnMut() -> Result<()> + Send,
    ) -> Result<f64> {
        self.run(spinning, || timing::seconds(calls, call))
    }
}

/// Whether threads share out the images of a batch of so many, each of which one thread computes.
fn images_in_parallel(batch: usize) -> bool {
    threads() > 1 && batch >= threads()
}

/// A network for batches of one size.
pub(super) struct OnCpu {
    threading: Threading,
    spinning: SpinningWorkers,
    batch: usize,
    /// `[batch, input]`.
    images: Aligned,
    image_steps: ImageSteps,
    /// One for each thread to which images are shared out.
    workspaces: Vec<Workspace>,
    /// What the steps of an image come to, `[batch, features]`; empty where there are none.
    features: Aligned,
    /// The steps of the batch, for all of its images at once.
    batch_steps: BatchSteps,
    /// The same for shares of it, until `threading` has been chosen; those in use are in `batch_steps` from then on.
    shares: Option<BatchSteps>,
    /// `[batch, classes]`.
    scores: Vec<f32>,
}

impl OnCpu {
    /// Packs a network for batches of `batch` images, and says how many bytes its weights take.
    pub fn new(
        plan: &Plan<'_>,
        formats: &[Format],
        batch: usize,
        libraries: DenseLibraries<'_>,
        autotune: &mut AutotuneCache,
    ) -> Result<(Self, usize)> {
        let first_dense = |step: &Step<'_>| matches!(step.work, Work::Linear(_));
        let split = plan.steps.iter().position(first_dense).unwrap_or(plan.steps.len());
        let (on_images, on_batch) = plan.steps.split_at(split);
        let spinning = SpinningWorkers::default();
        let mut builder = Builder::new(plan, formats, batch, libraries, autotune, &spinning);
        let image_steps = builder.image_steps(on_images)?;
        let size = |shape: Shape| shape.iter().product::<usize>();
        let widest = on_batch.iter().flat_map(|step| [size(step.input), size(step.output)]).max();
        let mut batch_steps = |images: usize, threading| -> Result<BatchSteps> {
            let steps = builder.batch_steps(on_batch, images, threading)?;
            Ok(BatchSteps::new(steps, images, batch, widest.unwrap_or(0)))
        };
        let whole = batch_steps(batch, Threading::widest())?;
        let share = batch::share(batch).filter(|_| !on_batch.is_empty());
        let shares = share.map(|images| batch_steps(images, Threading::Serial)).transpose()?;
        let buffers = builder.buffers();

        let count = threads();
        let workspaces = if images_in_parallel(batch) { count } else { 1 };
        let image_steps = ImageSteps::new(image_steps, batch, workspaces);
        let workspace = image_steps.workspace(&buffers);
        let features = on_images.last().map_or(0, |step| size(step.output));
        let mut engine = Self {
            threading: Threading::Serial,
            spinning,
            batch,
            images: Aligned::zeros(batch * size(plan.input)),
            workspaces: vec![workspace; workspaces],
            features: Aligned::zeros(batch * features),
            scores: vec![0.0; batch * size(plan.output)],
            image_steps,
            batch_steps: whole,
            shares,
        };
        let key =
            format!("{count} threads | {} x {batch} | {}", plan.network, summary(engine.steps()));
        engine.choose_threading(&key, autotune)?;
        let shares = engine.shares.take();
        if let (Threading::Shares, Some(shares)) = (engine.threading, shares) {
            engine.batch_steps = shares;
        }
        let bytes = engine.steps().map(|about| about.bytes).sum();
        Ok((engine, bytes))
    }

    fn choose_threading(&mut self, key: &str, autotune: &mut AutotuneCache) -> Result<()> {
        if threads() == 1 || self.shares.is_none() && !self.shares_work()? {
            return Ok(());
        }
        let mut all = vec![Threading::Serial, Threading::Parallel];
        all.extend(self.shares.is_some().then_some(Threading::Shares));
        let candidate = |&threading: &Threading| -> TuningCandidate<'_, Threading> {
            (format!("{threading:?}"), Box::new(move || Ok(threading)))
        };
        let candidates: Vec<_> = all.iter().map(candidate).collect();
        let engine = RefCell::new(&mut *self);
        self.threading = autotune.fastest(key, &candidates, THREADS, |threading, calls| {
            let mut engine = engine.borrow_mut();
            engine.threading = *threading;
            let handicap = if *threading == Threading::Serial { HANDICAP } else { 1.0 };
            Ok(handicap * engine.seconds(calls)?)
        })?;
        Ok(())
    }

    /// Whether any step has something for other threads to do.
    fn shares_work(&mut self) -> Result<bool> {
        let spinning = self.spinning.clone();
        let (done, shared) =
            Threading::Parallel.run(&spinning, || runs_parallel(|| self.run_steps::<false>()));
        done.map(|()| shared)
    }

    pub fn load(&mut self, images: &[f32]) {
        self.images.copy_from_slice(images);
    }

    pub fn execute(&mut self) -> Result<()> {
        self.forward::<false>()
    }

    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    pub fn seconds(&mut self, calls: u32) -> Result<f64> {
        timing::seconds(calls, || self.execute())
    }

    pub fn profile(&mut self) -> Result<Vec<LayerProfile>> {
        let mut samples: Vec<Vec<f64>> = vec![Vec::new(); self.steps().count()];
        for run in 0..PROFILED_RUNS + 2 {
            self.workspaces.iter_mut().for_each(|workspace| workspace.seconds.fill(0.0));
            self.batch_steps.forget_seconds();
            self.forward::<true>()?;
            // The first two warm the caches up.
            if run >= 2 {
                let measured = self.workspaces[0].seconds.iter().chain(self.batch_steps.seconds());
                samples.iter_mut().zip(measured).for_each(|(all, &own)| all.push(own));
            }
        }
        let median = |mut samples: Vec<f64>| {
            samples.sort_by(f64::total_cmp);
            samples[samples.len() / 2]
        };
        Ok(profiled(self.steps().zip(samples.into_iter().map(median))))
    }

    /// What is known of its steps.
    pub fn steps(&self) -> impl Iterator<Item = &Description> {
        let on_images = self.image_steps.steps().iter().map(|step| &step.about);
        on_images.chain(self.batch_steps.steps().iter().map(|step| &step.about))
    }

    fn forward<const TIMED: bool>(&mut self) -> Result<()> {
        let spinning = self.spinning.clone();
        self.threading.run(&spinning, || self.run_steps::<TIMED>())
    }

    fn run_steps<const TIMED: bool>(&mut self) -> Result<()> {
        self.each_image::<TIMED>()?;
        let features = if self.image_steps.is_empty() { &self.images } else { &self.features };
        let steps = match (self.threading, &mut self.shares) {
            (Threading::Shares, Some(shares)) => shares,
            _ => &mut self.batch_steps,
        };
        steps.run::<TIMED>(self.batch, features, &mut self.scores)
    }

    /// The steps on images, each image's from its first to its last.
    fn each_image<const TIMED: bool>(&mut self) -> Result<()> {
        let ends: &mut [f32] =
            if self.batch_steps.is_empty() { &mut self.scores } else { &mut self.features };
        let (steps, input) = (&self.image_steps, self.images.len() / self.batch);
        let end = ends.len() / self.batch;
        // No steps, or no feature that pruning has left.
        if steps.is_empty() || end == 0 {
            return Ok(());
        }
        let block = steps.block();
        let mut blocks = self.images.chunks(block * input).zip(ends.chunks_mut(block * end));
        let run = |workspace: &mut Workspace, (images, ends): (&[f32], &mut [f32])| {
            workspace.run::<TIMED>(steps, images.len() / input, images, ends)
        };
        if threads() == 1 || self.workspaces.len() == 1 {
            let workspace = &mut self.workspaces[0];
            return blocks.try_for_each(|block| run(workspace, block));
        }
        try_parallel_for_with(&mut self.workspaces, blocks.collect(), run)
    }
}
