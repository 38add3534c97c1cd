//! AVX2 and FMA: tiles of 32 columns.

use super::{CsrSpmm, RowsFunction};
use crate::device::cpu::Avx2;
use crate::kernels::layout::Input;

pub(super) fn function() -> Option<RowsFunction> {
    Avx2::new().map(|_| rows as RowsFunction)
}

/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn rows(layer: &CsrSpmm, x: &Input<'_>, n: usize, first: usize, y: &mut [f32]) {
    layer.rows::<32, true>(x, n, first, y);
}
