//! Any columns, by a library: the inputs are gathered before its product and the results scattered after it.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use super::{DenseLibrary, Gathered, Kernel};
use crate::error::Result;
use crate::kernels::activate;

pub(super) struct LibraryKernel {
    layer: Gathered,
    weights: Vec<f32>,
    library: Arc<dyn DenseLibrary>,
}

impl LibraryKernel {
    pub(super) fn new(layer: Gathered, library: Arc<dyn DenseLibrary>) -> Self {
        let weights = layer.weights.iter().copied().collect();
        Self { layer, weights, library }
    }
}

impl fmt::Debug for LibraryKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:?}", self.library.name(), self.layer.weights.dim())
    }
}

thread_local! {
    /// The gathered inputs and the results, reused from call to call.
    static SCRATCH: Cell<(Vec<f32>, Vec<f32>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

impl Kernel for LibraryKernel {
    fn run(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let layer = &self.layer;
        let ((m, k), n) = (layer.weights.dim(), layer.n);
        let (mut gathered, mut results) = SCRATCH.take();
        gathered.clear();
        for &place in layer.inputs.starts() {
            gathered.extend(&x[place..place + n]);
        }
        results.resize(m * n, 0.0);
        let done = if m * k * n == 0 {
            results.fill(0.0);
            Ok(())
        } else {
            self.library.multiply([m, k, n], &self.weights, &gathered, &mut results)
        };
        if done.is_ok() && n > 0 {
            let rows = results.chunks_exact(n).zip(&layer.bias);
            for (&place, (row, &bias)) in layer.outputs.starts().iter().zip(rows) {
                for (to, &sum) in y[place..place + n].iter_mut().zip(row) {
                    *to = activate(sum + bias, layer.relu);
                }
            }
        }
        SCRATCH.set((gathered, results));
        done
    }
}
