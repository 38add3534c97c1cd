//! The portable variant: arrays of fixed size, which compilers turn into vectors of any kind.

use super::{CsrLayer, Kernel, RowsFunction, RowsKernel};

pub(super) fn pack(layer: &CsrLayer<'_>) -> Option<Box<dyn Kernel>> {
    let function: RowsFunction = |layer, x, n, first, y| layer.rows::<16, false>(x, n, first, y);
    // SAFETY: compiled for every processor.
    Some(Box::new(unsafe { RowsKernel::new(layer, function) }))
}
