//! The loop for one column, compiled for each instruction set that has vectors.

use super::rows::ROWS;
use crate::kernels::simd::Simd;

/// Per block and step of a vector of `L` inputs, the weights of eight rows. x is padded to whole steps.
#[inline(always)]
pub(super) fn blocks<S: Simd, const L: usize>(
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
