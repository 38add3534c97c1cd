//! The steps from the first dense layer on: features are rows, images columns, and a layer is one product for all of
//! the images that are taken at once.
//!
//! Those are the whole batch, whose products share out their rows and columns among the threads; or a share of it, which
//! one thread takes from the first step to the last, so that activations stay in its own caches and no thread waits for
//! another between two layers.

use std::time::Instant;

use super::Description;
use crate::error::Result;
use crate::kernels::layout::{Input, Output};
use crate::kernels::masked_dense::MaskedDense;
use crate::kernels::pool_eltwise::PoolEltwise;
use crate::kernels::transpose::Transpose;
use crate::kernels::{Aligned, PackedProduct, threads, try_parallel_for_with};

/// Images in a share, at least: fewer than a vector has lanes take as long as those.
const SMALLEST_SHARE: usize = 16;

/// Images in each of several equal shares of a batch: one for each thread, or as few more as a batch can be divided
/// into; none where a share would be too small.
pub(super) fn share(batch: usize) -> Option<usize> {
    let threads = threads();
    let mut counts = threads..=batch / SMALLEST_SHARE;
    let count = counts.find(|&count| batch.is_multiple_of(count)).filter(|_| threads > 1);
    count.map(|count| batch / count)
}

pub(super) struct BatchStep {
    pub work: BatchWork,
    pub about: Description,
}

pub(super) enum BatchWork {
    /// A dense layer, with its rows and columns.
    Dense(DenseProduct, [usize; 2]),
    /// Of features in rows, for all images.
    PoolEltwise(PoolEltwise),
    /// From images in rows to features in rows, or back, of so many floats.
    Transpose(Transpose, usize),
}

impl BatchWork {
    /// Of `n` images. x and y may be longer than what is read and written of them.
    fn run(&self, x: &[f32], n: usize, y: &mut [f32]) -> Result<()> {
        match self {
            Self::Dense(kernel, [outputs, inputs]) => {
                kernel.run(&x[..inputs * n], n, &mut y[..outputs * n])
            }
            Self::PoolEltwise(kernel) => kernel.run(x, y),
            Self::Transpose(kernel, floats) => kernel.run(&x[..*floats], &mut y[..*floats]),
        }
    }
}

/// A dense layer's product by one of the kernels.
pub(super) enum DenseProduct {
    Masked(MaskedDense),
    Sparse(Box<dyn PackedProduct>),
}

impl DenseProduct {
    pub fn run(&self, x: &[f32], n: usize, y: &mut [f32]) -> Result<()> {
        match self {
            Self::Masked(kernel) => kernel.run(x, y),
            Self::Sparse(kernel) => kernel.run_at(Input::plain(x, n), n, Output::plain(y, n)),
        }
    }

    pub fn label(&self) -> String {
        match self {
            Self::Masked(kernel) => kernel.label().to_owned(),
            Self::Sparse(kernel) => kernel.label(),
        }
    }
}

/// The steps of a batch, with activations for those who run them.
pub(super) struct BatchSteps {
    steps: Vec<BatchStep>,
    /// Images that are taken at once.
    images: usize,
    /// Of each thread that takes shares, or of the whole batch.
    workspaces: Vec<BatchWorkspace>,
}

/// Activations of the images that are taken at once, and the seconds that their steps took.
#[derive(Clone)]
struct BatchWorkspace {
    /// Two that take turns, each `[features, images]`.
    columns: [Aligned; 2],
    seconds: Vec<f64>,
}

impl BatchSteps {
    /// Of `images` images at once, as many as a batch has or a [`share`] of it, with at most so many features each.
    pub fn new(steps: Vec<BatchStep>, images: usize, batch: usize, features: usize) -> Self {
        let columns = Aligned::zeros(images * features);
        let seconds = vec![0.0; steps.len()];
        let workspace = BatchWorkspace { columns: [columns.clone(), columns], seconds };
        let workspaces = vec![workspace; threads().min(batch / images)];
        Self { steps, images, workspaces }
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub fn steps(&self) -> &[BatchStep] {
        &self.steps
    }

    /// The seconds of each step since they were last [forgotten](Self::forget_seconds), in one thread's shares.
    pub fn seconds(&self) -> &[f64] {
        &self.workspaces[0].seconds
    }

    pub fn forget_seconds(&mut self) {
        self.workspaces[0].seconds.fill(0.0);
    }

    /// From what comes before them, `[batch, features]`, to the scores, `[batch, classes]`.
    pub fn run<const TIMED: bool>(
        &mut self,
        batch: usize,
        features: &[f32],
        scores: &mut [f32],
    ) -> Result<()> {
        let (steps, images, shares) = (&self.steps[..], self.images, batch / self.images);
        if steps.is_empty() {
            return Ok(());
        }
        if shares == 1 {
            return self.workspaces[0].run::<TIMED>(steps, images, features, scores);
        }
        let [inputs, outputs] = [features.len(), scores.len()].map(|floats| floats / shares);
        let items = scores.chunks_mut(outputs.max(1)).enumerate().collect();
        try_parallel_for_with(&mut self.workspaces, items, |workspace, (place, scores)| {
            let features = &features[place * inputs..][..inputs];
            workspace.run::<TIMED>(steps, images, features, scores)
        })
    }
}

impl BatchWorkspace {
    fn run<const TIMED: bool>(
        &mut self,
        steps: &[BatchStep],
        images: usize,
        features: &[f32],
        scores: &mut [f32],
    ) -> Result<()> {
        let last = steps.len() - 1;
        let [here, there] = &mut self.columns;
        for (index, (step, seconds)) in steps.iter().zip(&mut self.seconds).enumerate() {
            let start = TIMED.then(Instant::now);
            let x = if index == 0 { features } else { &here[..] };
            let y = if index == last { &mut *scores } else { &mut there[..] };
            step.work.run(x, images, y)?;
            std::mem::swap(here, there);
            if let Some(start) = start {
                *seconds += start.elapsed().as_secs_f64();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_shared_out_evenly_and_in_whole_vectors() {
        let shares = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| [1, 16, 31, 32, 33, 100, 128].map(share))
        };
        assert_eq!(shares(1), [None; 7]);
        assert_eq!(shares(2), [None, None, None, Some(16), None, Some(50), Some(64)]);
        assert_eq!(shares(3), [None, None, None, None, None, Some(25), Some(32)]);
    }
}
