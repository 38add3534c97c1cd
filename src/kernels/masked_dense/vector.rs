//! One column: eight rows at a time, in vectors of L weights.

use std::cell::Cell;

use super::{Gathered, Kernel};
use crate::error::Result;
use crate::kernels::activate;
use crate::kernels::aligned::Aligned;
use crate::kernels::parallel::{parallel_for, task_count};
use crate::kernels::simd::Simd;

/// Rows of a block.
const ROWS: usize = 8;

/// Weights that a thread multiplies in a microsecond.
const PER_MICROSECOND: usize = 20_000;

/// A function for blocks whose steps are of `lanes` inputs.
#[derive(Clone, Copy, Debug)]
pub struct VectorFunction {
    lanes: usize,
    /// Computes the sums of some blocks' rows.
    ///
    /// # Safety
    /// The processor has what it was compiled for.
    blocks: unsafe fn(weights: &[f32], x: &[f32], sums: &mut [[f32; ROWS]]),
}

pub(super) fn portable() -> Option<VectorFunction> {
    Some(VectorFunction { lanes: 4, blocks: |weights, x, sums| blocks::<4>(weights, x, sums) })
}

#[cfg(target_arch = "x86_64")]
pub(super) fn avx2() -> Option<VectorFunction> {
    crate::device::cpu::Avx2::new().map(|_| VectorFunction { lanes: 8, blocks: x86::avx2 })
}

#[cfg(target_arch = "x86_64")]
pub(super) fn avx512() -> Option<VectorFunction> {
    crate::device::cpu::Avx512::new().map(|_| VectorFunction { lanes: 16, blocks: x86::avx512 })
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{ROWS, blocks_of_vectors};
    use crate::device::cpu::{Avx2, Avx512};

    /// # Safety
    /// The processor has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(weights: &[f32], x: &[f32], sums: &mut [[f32; ROWS]]) {
        // SAFETY: the processor has them, as this function asks.
        blocks_of_vectors::<_, 8>(unsafe { Avx2::promised() }, weights, x, sums);
    }

    /// # Safety
    /// The processor has AVX-512F.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn avx512(weights: &[f32], x: &[f32], sums: &mut [[f32; ROWS]]) {
        // SAFETY: the processor has it, as this function asks.
        blocks_of_vectors::<_, 16>(unsafe { Avx512::promised() }, weights, x, sums);
    }
}

/// Per block and step of a vector of `L` inputs, the weights of eight rows. x is padded to whole steps.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn blocks_of_vectors<S: Simd, const L: usize>(
    simd: S,
    weights: &[f32],
    x: &[f32],
    sums: &mut [[f32; ROWS]],
) {
    const { assert!(L == S::LANES) };
    let (vectors, _) = weights.as_chunks::<L>();
    let (steps, _) = vectors.as_chunks::<ROWS>();
    let (x, _) = x.as_chunks::<L>();
    for (block, out) in sums.iter_mut().enumerate() {
        let mut lanes = [simd.splat(0.0); ROWS];
        for (rows, x) in steps[block * x.len()..(block + 1) * x.len()].iter().zip(x) {
            // SAFETY: arrays of as many floats as a vector has.
            unsafe {
                let x = simd.load(x.as_ptr());
                for (sum, weights) in lanes.iter_mut().zip(rows) {
                    *sum = simd.multiply_add(simd.load(weights.as_ptr()), x, *sum);
                }
            }
        }
        for (sum, &lanes) in out.iter_mut().zip(&lanes) {
            *sum = simd.sum(lanes);
        }
    }
}

/// Per block and step of `L` inputs, the weights of eight rows. x is padded to whole steps.
fn blocks<const L: usize>(weights: &[f32], x: &[f32], sums: &mut [[f32; ROWS]]) {
    let (vectors, _) = weights.as_chunks::<L>();
    let (steps, _) = vectors.as_chunks::<ROWS>();
    let (x, _) = x.as_chunks::<L>();
    for (block, out) in sums.iter_mut().enumerate() {
        let mut lanes = [[0.0_f32; L]; ROWS];
        for (rows, x) in steps[block * x.len()..(block + 1) * x.len()].iter().zip(x) {
            for (weights, sum) in rows.iter().zip(&mut lanes) {
                for lane in 0..L {
                    sum[lane] += weights[lane] * x[lane];
                }
            }
        }
        *out = lanes.map(|lanes| lanes.iter().sum());
    }
}

#[derive(Debug)]
pub(super) struct VectorKernel {
    layer: Gathered,
    /// Per block and step, eight rows' weights; 0 where there is no row or no input.
    packed: Aligned,
    /// Inputs, in whole steps.
    padded: usize,
    function: VectorFunction,
}

impl VectorKernel {
    /// # Safety
    /// The processor has what the function was compiled for.
    pub(super) unsafe fn new(layer: Gathered, function: VectorFunction) -> Self {
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

impl Kernel for VectorKernel {
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
            // SAFETY: `VectorKernel::new` asks that the processor has what the function was compiled for.
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
