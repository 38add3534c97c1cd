//! AVX-512: tiles of 64 columns.

use super::{CsrSpmm, RowsFunction};
use crate::device::cpu::Avx512;
use crate::kernels::layout::Input;

pub(super) fn function() -> Option<RowsFunction> {
    Avx512::new().map(|_| rows as RowsFunction)
}

/// # Safety
/// The processor has AVX-512F.
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn rows(layer: &CsrSpmm, x: &Input<'_>, n: usize, first: usize, y: &mut [f32]) {
    layer.rows::<64, true>(x, n, first, y);
}
