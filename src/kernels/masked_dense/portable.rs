//! The portable variant for one column: plain loops, which compilers turn into vectors of any kind.

use super::micro_kernel;
use super::rows::RowsFunction;
use crate::kernels::simd::{Portable, Simd};

const LANES: usize = Portable::LANES;

pub(super) fn function() -> Option<RowsFunction> {
    Some(RowsFunction {
        lanes: LANES,
        blocks: |weights, x, sums| micro_kernel::blocks::<_, LANES>(Portable, weights, x, sums),
    })
}
