//! How much more all threads do than one, while networks are measured on them: two virtual cores may be threads of one
//! core for some tenths of a second, or somebody else's in part, and no pruning makes up for that.

use ndarray::Array2;

use crate::engine::SpinningWorkers;
use crate::error::{Error, Result};
use crate::kernels::sparse_product::{SparseLayer, SparseProduct};
use crate::kernels::{serial, threads, try_parallel_for_with};
use crate::sparse::UprightSparse;
use crate::timing::{ThreadedCandidate, Timing, seconds};

/// Rows, inner extent and columns of the product: X fits into a first-level cache, and its sums into registers.
const SHAPE: [usize; 3] = [96, 128, 48];

/// Products that a thread does in a call, one after the other: next to them, handing work over is short.
const PRODUCTS: usize = 20;

/// A dense product that keeps the units of a core busy.
pub(super) struct Probe {
    product: SparseProduct<UprightSparse>,
    x: Vec<f32>,
    spinning: SpinningWorkers,
}

impl Probe {
    pub fn new() -> Result<Self> {
        let [m, k, n] = SHAPE;
        let weights = UprightSparse::full(Array2::from_elem((m, k), 0.5).view(), 8)?;
        let layer = SparseLayer { weights: &weights, bias: None, relu: false };
        let (product, x) = (SparseProduct::new(&layer, n)?, vec![0.5; k * n]);
        Ok(Self { product, x, spinning: SpinningWorkers::default() })
    }

    /// Candidates that take turns with the networks: the work of one thread, and as much on each of them.
    pub fn candidates(&self) -> [ThreadedCandidate<'_, Error>; 2] {
        let candidate = |threads: usize| ThreadedCandidate {
            seconds: Box::new(move |calls| self.seconds(calls, threads)),
            spinning_pool: None,
        };
        [candidate(1), candidate(threads())]
    }

    /// Has so many threads compute the products, each all of them.
    fn seconds(&self, calls: u32, threads: usize) -> Result<f64> {
        let [m, _, n] = SHAPE;
        let mut outputs = vec![vec![0.0; m * n]; threads];
        let compute =
            |y: &mut Vec<f32>| (0..PRODUCTS).try_for_each(|_| self.product.run(&self.x, n, y));
        if let [y] = &mut outputs[..] {
            return seconds(calls, || serial(|| compute(y)));
        }
        self.spinning.during(|| {
            let all = || vec![(); threads];
            seconds(calls, || try_parallel_for_with(&mut outputs, all(), |y, ()| compute(y)))
        })
    }
}

/// How many times the work of one thread all of them did.
pub(super) fn scaling(one: &Timing, all: &Timing) -> f64 {
    threads() as f64 * one.median / all.median
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::timing::{MeasureConfig, interleave_with_rest};

    #[test]
    fn threads_do_no_more_than_their_number_says() {
        for count in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
            let found = pool.install(|| {
                let probe = Probe::new().unwrap();
                let config = MeasureConfig::new(9, Duration::from_millis(2));
                let mut candidates = probe.candidates();
                let timings =
                    interleave_with_rest(&mut candidates, Duration::ZERO, config).unwrap();
                // A core would have to do more than four million million operations a second.
                assert!(timings[0].median > 5e-6, "something is computed: {timings:?}");
                scaling(&timings[0], &timings[1])
            });
            // A busy machine may give each thread a fraction of a core, at different times.
            assert!(found > 0.1 && found < 1.5 * count as f64, "{found} on {count}");
        }
    }
}
