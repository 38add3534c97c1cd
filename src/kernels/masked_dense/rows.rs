//! One column: eight rows at a time, in vectors of L weights.

use std::cell::Cell;

use super::{Gathered, Kernel};
use crate::error::Result;
use crate::kernels::activate;
use crate::kernels::aligned::Aligned;
use crate::kernels::parallel::{parallel_for, task_count};

/// Rows of a block.
pub(super) const ROWS: usize = 8;

/// Weights that a thread multiplies in a microsecond.
const PER_MICROSECOND: usize = 20_000;

/// A function for blocks whose steps are of `lanes` inputs.
#[derive(Clone, Copy, Debug)]
pub struct RowsFunction {
    /// Inputs of a step.
    pub(super) lanes: usize,
    /// Computes the sums of some blocks' rows.
    ///
    /// # Safety
    /// The processor has what it was compiled for.
    pub(super) blocks: unsafe fn(weights: &[f32], x: &[f32], sums: &mut [[f32; ROWS]]),
}

#[derive(Debug)]
pub(super) struct RowsKernel {
    layer: Gathered,
    /// Per block and step, eight rows' weights; 0 where there is no row or no input.
    packed: Aligned,
    /// Inputs, in whole steps.
    padded: usize,
    function: RowsFunction,
}

impl RowsKernel {
    /// # Safety
    /// The processor has what the function was compiled for.
    pub(super) unsafe fn new(layer: Gathered, function: RowsFunction) -> Self {
        let (rows, columns) = layer.weights.dim();
        let lanes = function.lanes;
        let (blocks, steps) = (rows.div_ceil(ROWS), columns.div_ceil(lanes));
        let mut packed = Vec::with_capacity(blocks * steps * ROWS * lanes);
        for block in 0..blocks {
            for step in 0..steps {
                for row in block * ROWS..(block + 1) * ROWS {
                    let weight = |column| layer.weights.get([row, column]).copied().unwrap_or(0.0);
                    packed.extend((step * lanes..(step + 1) * lanes).map(weight));
                }
            }
        }
        Self { layer, packed: packed.into(), padded: steps * lanes, function }
    }
}

thread_local! {
    /// The gathered inputs, and the sums of all blocks, reused from call to call.
    static SCRATCH: Cell<(Aligned, Vec<[f32; ROWS]>)> =
        const { Cell::new((Aligned::new(), Vec::new())) };
}

impl Kernel for RowsKernel {
    fn run(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let layer = &self.layer;
        // Taken and put back, since another product may run on this thread while it waits for others.
        let (mut gathered, mut sums) = SCRATCH.take();
        gathered.set_length(self.padded);
        let (own, remaining) = gathered.split_at_mut(layer.inputs.starts().len());
        own.iter_mut().zip(layer.inputs.starts()).for_each(|(to, &place)| *to = x[place]);
        remaining.fill(0.0);
        let blocks = layer.bias.len().div_ceil(ROWS);
        sums.resize(blocks, [0.0; ROWS]);
        let parts = task_count(self.packed.len(), PER_MICROSECOND);
        let share = blocks.div_ceil(parts).max(1);
        let floats = self.padded * ROWS;
        let run = |first: usize, sums: &mut [[f32; ROWS]]| {
            let weights = &self.packed[first * floats..(first + sums.len()) * floats];
            // SAFETY: `RowsKernel::new` asks that the processor has what the function was compiled for.
            unsafe { (self.function.blocks)(weights, &gathered, sums) };
        };
        if parts == 1 {
            run(0, &mut sums);
        } else {
            let shares = sums.chunks_mut(share).enumerate().collect();
            parallel_for(shares, |(index, sums)| run(index * share, sums));
        }
        let results = sums.as_flattened().iter().zip(&layer.bias);
        for (&place, (&sum, &bias)) in layer.outputs.starts().iter().zip(results) {
            y[place] = activate(sum + bias, layer.relu);
        }
        SCRATCH.set((gathered, sums));
        Ok(())
    }
}
