//! How much more all threads do than one, while networks are measured on them: two virtual cores may be threads of one
//! core for some tenths of a second, or somebody else's in part, and no pruning makes up for that.

use ndarray::Array2;

use crate::engine::SpinningWorkers;
use crate::error::{Error, Result};
use crate::kernels::sparse_product::{SparseLayer, SparseProduct};
use crate::kernels::{parallel_for_with, serial, threads};
use crate::sparse::UprightSparse;
use crate::timing::{ThreadedCandidate, Timing, seconds};

/// Rows, inner extent and columns of the product: X fits into a first-level cache, and its sums into registers.
const SHAPE: [usize; 3] = [96, 128, 48];

/// Products that a thread does in a call, one after the other: next to them, handing work over is short.
const PRODUCTS: usize = 20;

/// A dense product that keeps the units of a core busy, and room for what each thread makes of it.
pub(super) struct Probe {
    product: SparseProduct<UprightSparse>,
    x: Vec<f32>,
    outputs: Vec<Vec<f32>>,
    spinning: SpinningWorkers,
}

impl Probe {
    pub fn new() -> Result<Self> {
        let [m, k, n] = SHAPE;
        let weights = UprightSparse::full(Array2::from_elem((m, k), 0.5).view(), 8)?;
        let layer = SparseLayer { weights: &weights, bias: None, relu: false };
        Ok(Self {
            product: SparseProduct::new(&layer, n)?,
            x: vec![0.5; k * n],
            outputs: vec![vec![0.0; m * n]; threads()],
            spinning: SpinningWorkers::default(),
        })
    }

    /// Has so many of the threads compute the products, each all of them.
    fn seconds(&mut self, calls: u32, threads: usize) -> Result<f64> {
        let Self { product, x, outputs, spinning } = self;
        let compute = |y: &mut Vec<f32>| {
            serial(|| (0..PRODUCTS).try_for_each(|_| product.run(x, SHAPE[2], y)))
        };
        if let [y] = &mut outputs[..threads] {
            return seconds(calls, || compute(y));
        }
        let mut workers: Vec<_> = outputs.iter_mut().map(|y| (y, Ok(()))).collect();
        spinning.during(|| {
            seconds(calls, || {
                parallel_for_with(&mut workers, vec![(); threads], |(y, done), ()| {
                    *done = compute(y);
                });
                workers.iter_mut().try_for_each(|(_, done)| std::mem::replace(done, Ok(())))
            })
        })
    }
}

/// Candidates that take turns with the networks: the work of one thread, and as much on each of them.
pub(super) fn probes<'a>(
    one: &'a mut Probe,
    all: &'a mut Probe,
) -> [ThreadedCandidate<'a, Error>; 2] {
    let threads = threads();
    [
        ThreadedCandidate { seconds: Box::new(|calls| one.seconds(calls, 1)), spinning_pool: None },
        ThreadedCandidate {
            seconds: Box::new(move |calls| all.seconds(calls, threads)),
            spinning_pool: None,
        },
    ]
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
                let [mut one, mut all] = [Probe::new().unwrap(), Probe::new().unwrap()];
                let mut probes = probes(&mut one, &mut all);
                let config = MeasureConfig::new(9, Duration::from_millis(2));
                let timings = interleave_with_rest(&mut probes, Duration::ZERO, config).unwrap();
                drop(probes);
                let [m, k, n] = SHAPE;
                let product = vec![0.25 * k as f32; m * n];
                assert!(one.outputs[0] == product && all.outputs.contains(&product));
                scaling(&timings[0], &timings[1])
            });
            // A busy machine may give each thread a fraction of a core, at different times.
            assert!(found > 0.1 && found < 1.5 * count as f64, "{found} on {count}");
        }
    }
}
