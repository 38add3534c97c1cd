//! AVX-512, for one column: a vector of inputs a step.

use super::micro_kernel;
use super::rows::{ROWS, RowsFunction};
use crate::device::cpu::Avx512;
use crate::kernels::simd::Simd;

const LANES: usize = Avx512::LANES;

pub(super) fn function() -> Option<RowsFunction> {
    Avx512::new().map(|_| RowsFunction { lanes: LANES, blocks })
}

/// # Safety
/// The processor has AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn blocks(weights: &[f32], x: &[f32], sums: &mut [[f32; ROWS]]) {
    // SAFETY: the processor has it, as this function asks.
    micro_kernel::blocks::<_, LANES>(unsafe { Avx512::promised() }, weights, x, sums);
}
