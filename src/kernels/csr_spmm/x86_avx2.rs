//! AVX2 and FMA: tiles of 32 columns.

use super::{CsrLayer, Kernel, RowsKernel};
use crate::device::cpu::Avx2;
use crate::kernels::layout::Input;

pub(super) fn pack(layer: &CsrLayer<'_>) -> Option<Box<dyn Kernel>> {
    Avx2::new()?;
    // SAFETY: `Avx2::new` has found the instructions.
    Some(Box::new(unsafe { RowsKernel::new(layer, rows) }))
}

/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn rows(layer: &RowsKernel, x: &Input<'_>, n: usize, first: usize, y: &mut [f32]) {
    layer.rows::<32, true>(x, n, first, y);
}
