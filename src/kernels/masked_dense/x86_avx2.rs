//! AVX2 and FMA, for one column: a vector of inputs a step.

use super::micro_kernel;
use super::rows::{ROWS, RowsFunction};
use crate::device::cpu::Avx2;
use crate::kernels::simd::Simd;

const LANES: usize = Avx2::LANES;

pub(super) fn function() -> Option<RowsFunction> {
    Avx2::new().map(|_| RowsFunction { lanes: LANES, blocks })
}

/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn blocks(weights: &[f32], x: &[f32], sums: &mut [[f32; ROWS]]) {
    // SAFETY: the processor has them, as this function asks.
    micro_kernel::blocks::<_, LANES>(unsafe { Avx2::promised() }, weights, x, sums);
}
