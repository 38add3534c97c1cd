//! AVX-512: tiles of 64 columns.

use super::{CsrLayer, Kernel, RowsKernel};
use crate::device::cpu::Avx512;
use crate::kernels::layout::Input;

pub(super) fn pack(layer: &CsrLayer<'_>) -> Option<Box<dyn Kernel>> {
    Avx512::new()?;
    // SAFETY: `Avx512::new` has found the instructions.
    Some(Box::new(unsafe { RowsKernel::new(layer, rows) }))
}

/// # Safety
/// The processor has AVX-512F.
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn rows(layer: &RowsKernel, x: &Input<'_>, n: usize, first: usize, y: &mut [f32]) {
    layer.rows::<64, true>(x, n, first, y);
}
